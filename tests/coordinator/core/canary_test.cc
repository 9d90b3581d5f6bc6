// A group takes requests only after a canary has come back, with the bits that it must have.

#include "coordinator/core/groups/canary.h"

#include <functional>
#include <set>

#include "coordinator/core/region.h"
#include "tests/coordinator/core/region_fixture.h"

namespace shoal::core {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint32_t kOneBit = 1;

Canary MakeAnswered(const std::function<void(SequenceUpdate&)>& change) {
  Canary canary(5, {1, 2, 3}, MakeRank(1));
  SequenceUpdate update = AnswerCanary(SubmitOf(canary));
  change(update);
  canary.Apply(update);
  return canary;
}

TEST(Canary, HasADigestThatEveryBitOfItsAnswerChangesAndItsPartsDoNot) {
  std::set<std::string> digests;
  const std::string digest = MakeAnswered([](auto&) {}).Digest();
  EXPECT_THAT(digest, SizeIs(32));
  digests.insert(digest);
  const std::vector<std::function<void(SequenceUpdate&)>> changes = {
      [](auto& update) { update.tokens[0] = 8; },
      [](auto& update) { update.logprobs[0].logprob = -0.3750001F; },
      [](auto& update) { update.prompt_logprobs[1].logprob = -0.2500001F; },
      [](auto& update) { update.prompt_logprobs[0].top[1].first = 4; },
      [](auto& update) { update.prompt_logprobs[0].top[0].second = -0.0F; },
      [](auto& update) { update.prompt_logprobs[0].top[0].second = 0.0F; },
      [](auto& update) { update.prompt_logprobs[0].top.pop_back(); },
      [](auto& update) { std::swap(update.prompt_logprobs[0], update.prompt_logprobs[1]); }};
  for (const auto& change : changes) digests.insert(MakeAnswered(change).Digest());
  EXPECT_THAT(digests, SizeIs(changes.size() + 1));

  Canary canary(5, {1, 2, 3}, MakeRank(1));
  SequenceUpdate rest = AnswerCanary(SubmitOf(canary));
  SequenceUpdate first;
  first.prompt_logprobs.push_back(rest.prompt_logprobs.front());
  rest.prompt_logprobs.erase(rest.prompt_logprobs.begin());
  canary.Apply(first);
  canary.Apply(rest);
  EXPECT_EQ(canary.Digest(), digest);
}

TEST_F(RegionTest, AsksItsCanaryForWhatDependsOnEveryLogit) {
  Join(1, MakeRank(1));
  const SequenceRequest canary = Select<SubmitAction>(Take()).front().request;
  EXPECT_EQ(canary.params.sampling.temperature, 0);
  EXPECT_TRUE(canary.params.prompt_logprobs);
  EXPECT_EQ(canary.params.top_logprobs, kTopLogprobsMax);
  CheckParams(canary.params);
}

TEST_F(RegionTest, KeepsTheCanaryInsideAToyVocabularyAndContext) {
  RankRegistration toy = MakeRank(1);
  toy.vocab_size = 2;
  toy.context_tokens = 3;
  Join(1, toy);
  const SequenceRequest canary = Select<SubmitAction>(Take()).front().request;
  EXPECT_EQ(canary.prompt, (std::vector<int32_t>{1, 1}));
  EXPECT_EQ(canary.params.tokens_max, 1);
}

TEST_F(RegionTest, LosesAGroupWhoseCanaryFails) {
  const uint64_t epoch = Join(1, MakeRank(1)).front().epoch;
  const SequenceId canary = Select<SubmitAction>(Take()).front().request.id;
  EXPECT_TRUE(Answer(1, epoch, canary, {}, FinishReason::kNumericError));
  const auto lost = Select<GroupLostAction>(Take());
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_THAT(lost[0].why, HasSubstr("its canary brought 0 tokens"));
}

TEST_F(RegionTest, SendsACanaryAgainThatALeaderHadNoRoomFor) {
  const uint64_t epoch = Join(1, MakeRank(1)).front().epoch;
  SequenceUpdate refusal;
  refusal.id = Select<SubmitAction>(Take()).front().request.id;
  refusal.finish = FinishReason::kCancelled;
  refusal.detail = "this group's queue is full";
  refusal.no_room = true;
  EXPECT_TRUE(region_.Update(1, epoch, {refusal}, {}));
  EXPECT_THAT(Take(), IsEmpty());
  TickFor(100);
  const auto canaries = Select<SubmitAction>(Take());
  ASSERT_THAT(canaries, SizeIs(1));
  EXPECT_TRUE(region_.Update(1, epoch, {AnswerCanary(canaries[0])}, {}));
  EXPECT_THAT(Select<GroupReadyAction>(Take()), SizeIs(1));
}

TEST_F(RegionTest, LosesAGroupWhoseCanaryLacksALogProbability) {
  const uint64_t epoch = Join(1, MakeRank(1)).front().epoch;
  SequenceUpdate update = AnswerCanary(Select<SubmitAction>(Take()).front());
  update.prompt_logprobs.pop_back();
  EXPECT_TRUE(region_.Update(1, epoch, {update}, {}));
  const auto lost = Select<GroupLostAction>(Take());
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_THAT(lost[0].why, HasSubstr("1 log-probabilities of its prompt, 2 were expected"));
}

TEST_F(RegionTest, TakesOutAGroupWhoseLogitsDifferInOneBitAndSaysWhy) {
  JoinReady(1, MakeRank(1));
  const uint64_t epoch = Join(2, MakeRank(2)).front().epoch;
  const SubmitAction canary = Select<SubmitAction>(Take()).front();
  EXPECT_TRUE(region_.Update(2, epoch, {AnswerCanary(canary, kOneBit)}, {}));
  const auto actions = Take();
  EXPECT_THAT(Select<GroupReadyAction>(actions), IsEmpty());
  EXPECT_THAT(Select<CloseAction>(actions), SizeIs(1));
  const auto lost = Select<GroupLostAction>(actions);
  ASSERT_THAT(lost, SizeIs(1));
  Canary flipped(canary.request.id, {1, 2, 3}, MakeRank(2));
  flipped.Apply(AnswerCanary(canary, kOneBit));
  for (const std::string& word : {flipped.Digest(), CanaryDigestOf(MakeRank(1)),
                                  MakeRank(1).numerics_id, std::string("miscompiled kernel")}) {
    EXPECT_THAT(lost[0].why, HasSubstr(word));
  }
  EXPECT_EQ(region_.models().front().groups_ready, 1);
  EXPECT_EQ(region_.models().front().canary_digest, CanaryDigestOf(MakeRank(1)));
}

TEST_F(RegionTest, AsksTheBitsThatTwoGroupsHadOfOneThatComesWhenAllAreGone) {
  JoinReady(1, MakeRank(1));
  JoinReady(2, MakeRank(2));
  region_.Disconnected(1, "closed");
  region_.Disconnected(2, "closed");
  Take();
  const uint64_t epoch = Join(3, MakeRank(3)).front().epoch;
  const auto canary = Select<SubmitAction>(Take());
  EXPECT_TRUE(region_.Update(3, epoch, {AnswerCanary(canary.front(), kOneBit)}, {}));
  EXPECT_THAT(Select<GroupLostAction>(Take()), SizeIs(1));
  JoinReady(4, MakeRank(4));
}

TEST_F(RegionTest, ForgetsTheBitsOfAGroupThatNoneAgreedWithOnceItIsGone) {
  const uint64_t broken = Join(1, MakeRank(1)).front().epoch;
  const SubmitAction canary = Select<SubmitAction>(Take()).front();
  EXPECT_TRUE(region_.Update(1, broken, {AnswerCanary(canary, kOneBit)}, {}));
  EXPECT_THAT(Select<GroupReadyAction>(Take()), SizeIs(1));
  region_.Disconnected(1, "closed");
  Take();
  EXPECT_EQ(region_.models().front().canary_digest, "");
  JoinReady(2, MakeRank(2));
  EXPECT_EQ(region_.models().front().canary_digest, CanaryDigestOf(MakeRank(2)));
}

TEST_F(RegionTest, TellsTheRanksOfALostGroupWhyItWasGivenUp) {
  JoinReady(1, MakeRank(1));
  const uint64_t epoch = Join(2, MakeRank(2)).front().epoch;
  const SubmitAction canary = Select<SubmitAction>(Take()).front();
  EXPECT_TRUE(region_.Update(2, epoch, {AnswerCanary(canary, kOneBit)}, {}));
  const RegisterOutcome outcome = region_.Register(3, MakeRank(2));
  EXPECT_EQ(outcome.kind, RegisterOutcome::Kind::kStale);
  EXPECT_THAT(outcome.message, HasSubstr("was given up (its canary's logits have the digest"));
}

TEST_F(RegionTest, ComparesNoGroupWithOneOfAnotherVersion) {
  JoinReady(1, MakeRank(1));
  RankRegistration other = MakeRank(2);
  other.numerics_id = "22222222222222222222222222222222";
  const uint64_t epoch = Join(2, other).front().epoch;
  const SubmitAction canary = Select<SubmitAction>(Take()).front();
  EXPECT_TRUE(region_.Update(2, epoch, {AnswerCanary(canary, kOneBit)}, {}));
  EXPECT_THAT(Select<GroupReadyAction>(Take()), SizeIs(1));
}

class PeriodicCanaryTest : public ::testing::Test {
 protected:
  static RegionOptions Options() {
    RegionOptions options;
    options.canary_interval_ms = 10'000;
    options.join_timeout_ms = 5'000;
    return options;
  }

  void TickFor(int64_t milliseconds) {
    for (int64_t passed = 0; passed < milliseconds; passed += 100) {
      EXPECT_TRUE(region_.Heartbeat(1, epoch_, 0, false));
      clock_.Advance(100);
      region_.Tick();
      EXPECT_EQ(region_.FindBrokenInvariant(), "");
    }
  }

  // Of the canary that is under way. Result: what is to be done then.
  std::vector<Action> Answer(uint32_t flipped_bits) {
    const auto submits = Select<SubmitAction>(region_.TakeActions());
    EXPECT_THAT(submits, SizeIs(1));
    EXPECT_TRUE(region_.Update(1, epoch_, {AnswerCanary(submits.at(0), flipped_bits)}, {}));
    return region_.TakeActions();
  }

  ManualClock clock_;
  Region region_{Options(), clock_, MakeTestRandom()};
  uint64_t epoch_ = region_.Register(1, MakeRank(1)).epoch;
};

TEST_F(PeriodicCanaryTest, TakesOutAGroupThatComputesOtherBitsThanItDid) {
  EXPECT_THAT(Select<GroupReadyAction>(Answer(0)), SizeIs(1));
  TickFor(9'900);
  EXPECT_THAT(region_.TakeActions(), IsEmpty());
  TickFor(200);
  EXPECT_THAT(Answer(0), IsEmpty());
  TickFor(10'000);
  const auto lost = Select<GroupLostAction>(Answer(kOneBit));
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_EQ(lost[0].cause, LossCause::kWrongAnswer);
}

TEST_F(PeriodicCanaryTest, GetsTheNextPlaceThatIsFreeAndHasADeadlineOfItsOwn) {
  Answer(0);
  std::vector<StreamId> streams;
  for (int i = 0; i < 4; ++i) {
    streams.push_back(std::get<StreamId>(region_.Submit({{1, 2}, {}})));
  }
  std::vector<SequenceId> sequences;
  for (const auto& submit : Select<SubmitAction>(region_.TakeActions())) {
    sequences.push_back(submit.request.id);
  }
  ASSERT_THAT(sequences, SizeIs(3));
  TickFor(11'000);
  EXPECT_THAT(region_.TakeActions(), IsEmpty()) << "the group is full";
  const auto end = [&](SequenceId sequence) {
    SequenceUpdate update;
    update.id = sequence;
    update.tokens = {1};
    update.finish = FinishReason::kStop;
    EXPECT_TRUE(region_.Update(1, epoch_, {update}, {}));
    return Select<SubmitAction>(region_.TakeActions());
  };
  const auto canary = end(sequences[0]);
  ASSERT_THAT(canary, SizeIs(1));
  EXPECT_EQ(canary[0].request.stream, StreamId{});
  EXPECT_EQ(canary[0].request.params.priority, kPriorityMin);
  TickFor(6'000);
  EXPECT_THAT(region_.TakeActions(), IsEmpty()) << "all slots are taken: it may have to wait";
  EXPECT_THAT(end(sequences[1]), SizeIs(1)) << "the stream that waited";
  EXPECT_THAT(end(sequences[2]), IsEmpty());
  for (int i = 0; i < 60 && !region_.groups().empty(); ++i) TickFor(100);
  const auto lost = Select<GroupLostAction>(region_.TakeActions());
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_THAT(lost[0].why, HasSubstr("its canary has not come back within 5000 ms"));
}

TEST(ConfiguredCanary, IsAskedOfTheFirstGroupToo) {
  ManualClock clock;
  RegionOptions options;
  options.canary_digests[MakeRank(1).numerics_id] = CanaryDigestOf(MakeRank(1));
  Region region(options, clock, MakeTestRandom());
  for (const uint32_t flipped : {kOneBit, uint32_t{0}}) {
    const uint64_t id = flipped + 1;
    const uint64_t epoch = region.Register(id, MakeRank(id)).epoch;
    const SubmitAction canary = Select<SubmitAction>(region.TakeActions()).front();
    EXPECT_TRUE(region.Update(id, epoch, {AnswerCanary(canary, flipped)}, {}));
    const auto actions = region.TakeActions();
    EXPECT_THAT(Select<GroupLostAction>(actions), SizeIs(flipped));
    EXPECT_THAT(Select<GroupReadyAction>(actions), SizeIs(1 - flipped));
  }
}

}  // namespace
}  // namespace shoal::core
