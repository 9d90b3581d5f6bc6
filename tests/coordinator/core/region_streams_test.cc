// What core::Region promises of streams that were taken, one promise a test.

#include "coordinator/core/region.h"

#include "tests/coordinator/core/region_fixture.h"
#include "transport/base/check.h"

namespace shoal::core {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST_F(RegionTest, NamesEachStreamBy128BitsOfItsOwn) {
  JoinReady(1, MakeRank(1));
  const auto random = MakeTestRandom();
  for (int i = 0; i < 2; ++i) {
    const StreamId stream = Submit();
    EXPECT_EQ(stream.high, random());
    EXPECT_EQ(stream.low, random());
  }
  EXPECT_EQ(Str(StreamId{10, UINT64_MAX}), "000000000000000affffffffffffffff");
}

TEST_F(RegionTest, DeliversTokensInOrderAndTheEndOnce) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  const StreamId stream = Submit();
  Take();
  EXPECT_TRUE(Answer(1, epoch, stream, {4, 5}));
  EXPECT_TRUE(Answer(1, epoch, stream, {6}, FinishReason::kStop));
  const auto deliveries = Select<DeliverAction>(Take());
  ASSERT_THAT(deliveries, SizeIs(2));
  EXPECT_EQ(deliveries[0].update.tokens, (std::vector<int32_t>{4, 5}));
  EXPECT_EQ(deliveries[1].update.finish, FinishReason::kStop);
  EXPECT_EQ(region_.status().streams_live, 0);
}

TEST_F(RegionTest, KeepsWhatItTakesToContinueAStreamForAsLongAsItLives) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  Request request = MakeRequest();
  request.params.sampling.seed = 7;
  const StreamId stream = Submit(request);
  EXPECT_TRUE(Answer(1, epoch, stream, {4, 5}));
  EXPECT_TRUE(Answer(1, epoch, stream, {6}));
  Take();
  EXPECT_EQ(region_.streams().at(stream).request, request);
  EXPECT_EQ(region_.streams().at(stream).tokens, (std::vector<int32_t>{4, 5, 6}));
  EXPECT_TRUE(Answer(1, epoch, stream, {}, FinishReason::kStop));
  Take();
  EXPECT_TRUE(region_.streams().empty());
}

TEST_F(RegionTest, TellsTheJournalBeforeTheGroupAndTheClientAndOfTheEndLast) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  const StreamId stream = Submit();
  EXPECT_TRUE(Answer(1, epoch, stream, {4}));
  EXPECT_TRUE(Answer(1, epoch, stream, {5}, FinishReason::kStop));
  const auto actions = Take();
  ASSERT_THAT(actions, SizeIs(7));
  const auto journal = [&](size_t i) { return std::get<JournalAction>(actions[i]).what; };
  const auto begin = std::get<JournalBegin>(journal(0));
  EXPECT_EQ(begin.request, MakeRequest());
  EXPECT_EQ(begin.key, KeyOf(MakeRank(1)));
  EXPECT_TRUE(std::holds_alternative<SubmitAction>(actions[1]));
  EXPECT_EQ(std::get<JournalTokens>(journal(2)).tokens, std::vector<int32_t>{4});
  EXPECT_TRUE(std::holds_alternative<DeliverAction>(actions[3]));
  EXPECT_EQ(std::get<JournalTokens>(journal(4)).tokens, std::vector<int32_t>{5});
  EXPECT_TRUE(std::holds_alternative<DeliverAction>(actions[5]));
  EXPECT_TRUE(std::holds_alternative<JournalEnd>(journal(6)));
}

TEST_F(RegionTest, PassesOnWhyALeaderRefusedARequest) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  const StreamId refused = Submit();
  const StreamId dropped = Submit();
  Take();
  SequenceUpdate update;
  update.id = SequenceOf(refused);
  update.finish = FinishReason::kCancelled;
  update.detail = "top_k is odd";
  EXPECT_TRUE(region_.Update(1, epoch, {update}, {}));
  EXPECT_TRUE(Answer(1, epoch, dropped, {}, FinishReason::kCancelled));
  const auto actions = Take();
  const auto fails = Select<FailAction>(actions);
  ASSERT_THAT(fails, SizeIs(1));
  EXPECT_EQ(fails[0].error.reason, BusyReason::kRefused);
  EXPECT_EQ(fails[0].error.message, "refused by the group: top_k is odd");
  EXPECT_EQ(fails[0].error.retry_after_ms, 0);
  EXPECT_THAT(Select<SubmitAction>(actions), SizeIs(1)) << "it said nothing of why: tried again";
  EXPECT_TRUE(region_.streams().contains(dropped));
  EXPECT_EQ(region_.groups_ready(), 1U);
}

// What a leader says to one request too many.
SequenceUpdate MakeFull(SequenceId sequence) {
  SequenceUpdate update;
  update.id = sequence;
  update.finish = FinishReason::kCancelled;
  update.detail = "this group's queue is full";
  update.no_room = true;
  return update;
}

TEST_F(RegionTest, PlacesAStreamAgainThatALeaderHadNoRoomForOnceSomethingHasEndedThere) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  const StreamId first = Submit();
  const StreamId refused = Submit();
  Take();
  const SequenceId before = SequenceOf(refused);
  EXPECT_TRUE(region_.Update(1, epoch, {MakeFull(before)}, {}));
  EXPECT_TRUE(Answer(1, epoch, first, {4}));
  const auto actions = Take();
  EXPECT_THAT(Select<FailAction>(actions), IsEmpty());
  EXPECT_THAT(Select<SubmitAction>(actions), IsEmpty()) << "it would be refused again";
  EXPECT_TRUE(Answer(1, epoch, first, {5}, FinishReason::kStop));
  auto submits = Select<SubmitAction>(Take());
  ASSERT_THAT(submits, SizeIs(1));
  EXPECT_EQ(submits[0].request.stream, refused);
  EXPECT_GT(submits[0].request.id, before);
  // However often it happens: no group of it was lost, and none resumed it.
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(region_.Update(1, epoch, {MakeFull(SequenceOf(refused))}, {}));
    EXPECT_THAT(Select<SubmitAction>(Take()), IsEmpty());
    KeepAlive(1, 100);
    submits = Select<SubmitAction>(Take());
    ASSERT_THAT(submits, SizeIs(1)) << "a tick has passed";
    EXPECT_EQ(submits[0].request.stream, refused);
  }
  EXPECT_TRUE(Answer(1, epoch, refused, {6}, FinishReason::kStop));
  EXPECT_EQ(Heard(Take(), refused).resumes, 0);
  const RegionStatus status = region_.status();
  EXPECT_THAT(status.streams_resumed, ::testing::Each(0));
  EXPECT_EQ(status.group_losses_total, 0);
}

TEST_F(RegionTest, GivesAStreamThatOneLeaderHadNoRoomForToAnotherAtOnce) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  const StreamId stream = Submit();
  Take();
  JoinReady(2, MakeRank(2));
  EXPECT_TRUE(region_.Update(1, epoch, {MakeFull(SequenceOf(stream))}, {}));
  const auto submits = Select<SubmitAction>(Take());
  ASSERT_THAT(submits, SizeIs(1));
  EXPECT_EQ(submits[0].leader, 2U);
}

TEST_F(RegionTest, LosesALeaderThatHasNothingAndNeverHasRoom) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  const StreamId stream = Submit();
  Take();
  int64_t refusals = 0;
  while (region_.groups_ready() == 1 && refusals < 100) {
    EXPECT_TRUE(region_.Update(1, epoch, {MakeFull(SequenceOf(stream))}, {}));
    KeepAlive(1, 100);
    const auto actions = Take();
    const auto lost = Select<GroupLostAction>(actions);
    if (!lost.empty()) {
      EXPECT_EQ(lost[0].cause, LossCause::kStuck);
      EXPECT_THAT(lost[0].why, HasSubstr("has had no room for 5000 ms"));
    }
    ++refusals;
  }
  EXPECT_EQ(region_.groups_ready(), 0U);
  EXPECT_GE(refusals, 50);
  EXPECT_TRUE(region_.streams().contains(stream));
}

TEST_F(RegionTest, FreesACancelledStreamsRoomOnlyWhenTheLeaderSaysSo) {
  RankRegistration single = MakeRank(1);
  single.sequences_max = 1;
  single.queue_requests_max = 0;
  const uint64_t epoch = JoinReady(1, single);
  const StreamId first = Submit();
  const StreamId second = Submit();
  Take();
  Cancel(first);
  const auto actions = Take();
  ASSERT_THAT(Select<CancelAction>(actions), SizeIs(1));
  EXPECT_THAT(Select<SubmitAction>(actions), IsEmpty());
  EXPECT_TRUE(Answer(1, epoch, first, {3})) << "it was under way";
  EXPECT_TRUE(Answer(1, epoch, first, {}, FinishReason::kCancelled));
  const auto after = Take();
  EXPECT_THAT(Select<DeliverAction>(after), IsEmpty());
  ASSERT_THAT(Select<SubmitAction>(after), SizeIs(1));
  EXPECT_EQ(Select<SubmitAction>(after)[0].request.id, SequenceOf(second));
}

TEST_F(RegionTest, CancelsWhatWaitsWithoutTroublingAnyGroup) {
  JoinReady(1, MakeRank(1));
  StreamId last;
  for (int i = 0; i < 4; ++i) last = Submit();
  Take();
  Cancel(last);
  Cancel(last);
  EXPECT_THAT(Select<CancelAction>(Take()), IsEmpty());
}

TEST_F(RegionTest, LosesALeaderThatBreaksTheProtocol) {
  const auto expect_lost = [&](uint64_t id, auto misbehave, const std::string& why) {
    const uint64_t epoch = JoinReady(id, MakeRank(id));
    const StreamId stream = Submit(MakeRequest(/*tokens_max=*/2));
    Take();
    misbehave(epoch, stream);
    const auto lost = Select<GroupLostAction>(Take());
    ASSERT_THAT(lost, SizeIs(1));
    EXPECT_THAT(lost[0].why, HasSubstr(why));
    EXPECT_EQ(lost[0].cause, LossCause::kProtocol);
    Cancel(stream);
    Take();
  };
  expect_lost(
      1, [&](auto epoch, auto stream) { (void)Answer(1, epoch, SequenceOf(stream) + 5, {1}); },
      "not one of its own");
  expect_lost(
      2,
      [&](auto epoch, auto stream) {
        (void)Answer(2, epoch, stream, {1, 2, 3});
      },
      "at most 2");
  expect_lost(
      3, [&](auto epoch, auto stream) { (void)Answer(3, epoch, stream, {100}); },
      "not in the vocabulary");
  expect_lost(
      4,
      [&](auto epoch, auto stream) {
        SequenceUpdate update;
        update.id = SequenceOf(stream);
        update.tokens = {1};
        update.logprobs.resize(1);
        (void)region_.Update(4, epoch, {update}, {});
      },
      "log-probabilities");
}

TEST_F(RegionTest, TakesThePromptsLogProbabilitiesInPartsBeforeTheFirstToken) {
  const auto part = [this](StreamId stream, int64_t positions_before, size_t positions,
                           int64_t tokens_before, std::vector<int32_t> tokens) {
    SequenceUpdate update;
    update.prompt_logprobs_before = positions_before;
    update.tokens_before = tokens_before;
    update.id = SequenceOf(stream);
    update.prompt_logprobs.resize(positions);
    update.logprobs.resize(tokens.size());
    update.tokens = std::move(tokens);
    return update;
  };
  GenerationParams params;
  params.prompt_logprobs = true;
  params.top_logprobs = 0;
  const auto submit = [&] {
    const StreamId stream = Submit({{1, 2, 3, 4, 5}, params});
    Take();
    return stream;
  };
  uint64_t epoch = JoinReady(1, MakeRank(1));
  const StreamId good = submit();
  EXPECT_TRUE(region_.Update(1, epoch, {part(good, 0, 1, 0, {}), part(good, 1, 2, 0, {})}, {}));
  EXPECT_TRUE(region_.Update(1, epoch, {part(good, 3, 1, 0, {9}), part(good, 4, 0, 1, {9})}, {}));
  std::vector<size_t> delivered;
  for (const DeliverAction& action : Select<DeliverAction>(Take())) {
    delivered.push_back(action.update.prompt_logprobs.size());
  }
  EXPECT_THAT(delivered, ::testing::ElementsAre(1, 2, 1, 0));

  uint64_t connection = 1;
  for (const auto& [positions, tokens] :
       std::vector<std::pair<size_t, std::vector<int32_t>>>{{5, {}}, {3, {9}}}) {
    const StreamId bad = submit();
    EXPECT_TRUE(region_.Update(connection, epoch, {part(bad, 0, positions, 0, tokens)}, {}));
    const auto lost = Select<GroupLostAction>(Take());
    ASSERT_THAT(lost, SizeIs(1)) << positions;
    EXPECT_THAT(lost[0].why, HasSubstr("log-probabilities of its prompt, 4 "));
    ++connection;
    epoch = JoinReady(connection, MakeRank(connection));
  }
}

TEST_F(RegionTest, RecordsThatAGroupTookAStreamsPlaceForAnotherOne) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  const StreamId stream = Submit();
  Take();
  const auto update = [&](int32_t preemptions, std::vector<int32_t> tokens, int64_t before) {
    SequenceUpdate told;
    told.id = SequenceOf(stream);
    told.tokens = std::move(tokens);
    told.tokens_before = before;
    told.preemptions = preemptions;
    EXPECT_TRUE(region_.Update(1, epoch, {told}, {}));
    for (const DeliverAction& deliver : Select<DeliverAction>(Take())) {
      EXPECT_EQ(deliver.update.preemptions, 0) << "its client hears the same as without";
    }
  };
  const auto records = [&] {
    std::vector<Record> found = region_.recorder().Find({}).records;
    std::erase_if(found, [](const Record& one) { return one.kind != RecordKind::kPreempted; });
    return found;
  };
  update(0, {4}, 0);
  EXPECT_THAT(records(), IsEmpty());
  update(1, {}, 1);
  ASSERT_THAT(records(), SizeIs(1));
  EXPECT_EQ(records()[0].stream, stream);
  EXPECT_EQ(records()[0].group, 0u);
  update(1, {5}, 1);
  EXPECT_THAT(records(), SizeIs(1)) << "it was told before";
  update(3, {6}, 2);
  ASSERT_THAT(records(), SizeIs(2));
  EXPECT_EQ(records()[1].figures.front().value, 3);
}

TEST_F(RegionTest, TakesUpdatesFromLeadersOnly) {
  const uint64_t epoch = JoinReady(1, MakeRank(1, 0, 2));
  const StreamId stream = Submit();
  EXPECT_FALSE(Answer(2, epoch, stream, {1}));
}

}  // namespace
}  // namespace shoal::core
