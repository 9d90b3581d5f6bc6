// Streams outlive the groups that carry them: what one brought goes on with another one, as if
// nothing had been.

#include "coordinator/core/region.h"
#include "tests/coordinator/core/region_fixture.h"
#include "transport/base/check.h"

namespace shoal::core {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using Ints = std::vector<int32_t>;

TEST_F(RegionTest, GoesOnElsewhereWithWhatALostGroupBrought) {
  const uint64_t epoch = JoinReady(10, MakeRank(1, 0, 2));
  const uint64_t other = JoinReady(20, MakeRank(2));
  const StreamId lost = Submit();
  const StreamId kept = Submit();
  Take();
  const SequenceId before = SequenceOf(lost);
  EXPECT_TRUE(Answer(10, epoch, lost, {4, 5}));
  clock_.Advance(400);
  region_.Disconnected(11, "its connection closed");
  region_.Disconnected(10, "its connection closed");
  const auto actions = Take();
  EXPECT_THAT(Select<FailAction>(actions), IsEmpty());
  const auto losses = Select<GroupLostAction>(actions);
  ASSERT_THAT(losses, SizeIs(1));
  EXPECT_EQ(losses[0].cause, LossCause::kRankDied);
  const auto submits = Select<SubmitAction>(actions);
  ASSERT_THAT(submits, SizeIs(1));
  EXPECT_EQ(submits[0].leader, 20u);
  EXPECT_EQ(submits[0].request.stream, lost);
  EXPECT_EQ(submits[0].request.generated, (Ints{4, 5}));
  EXPECT_EQ(submits[0].request.params.tokens_max, 4) << "of all, not of what is left";
  EXPECT_GT(submits[0].request.id, before);
  EXPECT_TRUE(region_.streams().contains(kept));

  EXPECT_TRUE(Answer(20, other, lost, {6, 7}, FinishReason::kLength));
  const auto deliveries = Select<DeliverAction>(Take());
  ASSERT_THAT(deliveries, SizeIs(1));
  EXPECT_EQ(deliveries[0].update.tokens, (Ints{6, 7}));
  EXPECT_EQ(deliveries[0].update.tokens_before, 2);
  EXPECT_EQ(deliveries[0].update.resumes, 1);
  const RegionStatus status = region_.status();
  EXPECT_EQ(status.streams_resumed[static_cast<size_t>(LossCause::kRankDied)], 1);
  EXPECT_EQ(status.group_losses[static_cast<size_t>(LossCause::kRankDied)], 1);
  EXPECT_EQ(status.stalls[3], 1) << "0.4 s is above 0.35 and up to 0.5";
  EXPECT_DOUBLE_EQ(status.stall_seconds_sum, 0.4);
}

TEST_F(RegionTest, KeepsEveryStreamUntilAGroupComesBack) {
  JoinReady(1, MakeRank(1));
  std::vector<StreamId> streams;
  for (int i = 0; i < 5; ++i) streams.push_back(Submit());
  Take();
  region_.Disconnected(1, "closed");
  EXPECT_THAT(Select<FailAction>(Take()), IsEmpty());
  TickFor(2'900);
  EXPECT_EQ(Refuse().reason, BusyReason::kNoGroup);
  Join(2, MakeRank(2));
  const auto canary = Select<SubmitAction>(Take());
  EXPECT_TRUE(region_.Update(2, canary[0].epoch, {AnswerCanary(canary[0])}, {}));
  std::vector<StreamId> resumed;
  for (const auto& submit : Select<SubmitAction>(Take())) resumed.push_back(submit.request.stream);
  EXPECT_THAT(resumed, ElementsAre(streams[0], streams[1], streams[2])) << "in their old turns";
  KeepAlive(2, 5'000);
  EXPECT_THAT(Select<FailAction>(Take()), IsEmpty()) << "a group that is full is no reason to fail";
}

TEST_F(RegionTest, FailsWhatNoGroupComesBackForInTime) {
  JoinReady(1, MakeRank(1, 0, 2));
  for (int i = 0; i < 4; ++i) Submit();
  Take();
  region_.Disconnected(2, "its connection closed");
  region_.Disconnected(1, "its connection closed");
  TickFor(2'900);
  EXPECT_THAT(Select<FailAction>(Take()), IsEmpty());
  TickFor(200);
  const auto fails = Select<FailAction>(Take());
  ASSERT_THAT(fails, SizeIs(4));
  EXPECT_EQ(fails[0].error.reason, BusyReason::kGroupLost);
  EXPECT_THAT(fails[0].error.message, HasSubstr("rank "));
  EXPECT_EQ(fails[3].error.reason, BusyReason::kGroupLost);
}

TEST_F(RegionTest, LetsNoParkedStreamTakeTheQueuesRoom) {
  JoinReady(1, MakeRank(1));
  const uint64_t epoch = JoinReady(2, MakeRank(2));
  std::vector<StreamId> streams;
  for (int i = 0; i < 6; ++i) streams.push_back(Submit());
  Take();
  region_.Disconnected(1, "closed");
  Submit();
  Submit();
  EXPECT_EQ(Refuse().reason, BusyReason::kQueueFull) << "2 may wait, and 3 are parked";
  EXPECT_TRUE(Answer(2, epoch, streams[1], {1}, FinishReason::kStop));
  const auto submits = Select<SubmitAction>(Take());
  ASSERT_THAT(submits, SizeIs(1));
  EXPECT_EQ(submits[0].request.stream, streams[0]) << "it came first";
}

TEST_F(RegionTest, StartsAgainWhatWasWithinItsPrompt) {
  const auto part = [this](StreamId stream, int64_t before, size_t positions, Ints tokens) {
    SequenceUpdate update;
    update.id = SequenceOf(stream);
    update.prompt_logprobs_before = before;
    update.prompt_logprobs.resize(positions);
    for (TokenLogprobs& logprobs : update.prompt_logprobs)
      logprobs.logprob = -static_cast<float>(++before);
    update.tokens = std::move(tokens);
    return update;
  };
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  const uint64_t other = JoinReady(2, MakeRank(2));
  Request request = MakeRequest(/*tokens_max=*/4, /*prompt_tokens=*/6);
  request.params.prompt_logprobs = true;
  const StreamId stream = Submit(request);
  Take();
  EXPECT_TRUE(region_.Update(1, epoch, {part(stream, 0, 2, {})}, {}));
  Take();
  region_.Disconnected(1, "closed");
  const auto again = Select<SubmitAction>(Take());
  ASSERT_THAT(again, SizeIs(1));
  EXPECT_THAT(again[0].request.generated, IsEmpty());
  EXPECT_FALSE(again[0].request.prompt_logprobs_given);
  SequenceUpdate first = part(stream, 0, 5, {8});
  first.cached_tokens = 3;
  EXPECT_TRUE(region_.Update(2, other, {first}, {}));
  const auto rest = Select<DeliverAction>(Take());
  ASSERT_THAT(rest, SizeIs(1));
  EXPECT_THAT(rest[0].update.prompt_logprobs, SizeIs(3))
      << "those that are there are not told again";
  EXPECT_EQ(rest[0].update.prompt_logprobs[0].logprob, -3);
  EXPECT_EQ(rest[0].update.prompt_logprobs_before, 2);
  EXPECT_EQ(rest[0].update.cached_tokens, 3);

  const uint64_t third = JoinReady(3, MakeRank(3));
  region_.Disconnected(2, "closed");
  const auto go_on = Select<SubmitAction>(Take());
  ASSERT_THAT(go_on, SizeIs(1));
  EXPECT_TRUE(go_on[0].request.prompt_logprobs_given);
  EXPECT_EQ(go_on[0].request.generated, (Ints{8}));
  SequenceUpdate next = part(stream, 5, 0, {9});
  next.tokens_before = 1;
  next.cached_tokens = 6;
  EXPECT_TRUE(region_.Update(3, third, {next}, {}));
  const auto last = Select<DeliverAction>(Take());
  ASSERT_THAT(last, SizeIs(1));
  EXPECT_EQ(last[0].update.cached_tokens, 0) << "it was counted";
}

TEST_F(RegionTest, TrimsWhatALeaderTellsAgain) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  Request request = MakeRequest();
  request.params.top_logprobs = 0;
  const StreamId stream = Submit(request);
  Take();
  const auto tell = [&](int64_t before, Ints tokens) {
    SequenceUpdate update;
    update.id = SequenceOf(stream);
    update.tokens_before = before;
    for (const int32_t token : tokens) update.logprobs.push_back({-static_cast<float>(token), {}});
    update.tokens = std::move(tokens);
    EXPECT_TRUE(region_.Update(1, epoch, {update}, {}));
    return Select<DeliverAction>(Take());
  };
  EXPECT_THAT(tell(0, {4, 5}), SizeIs(1));
  EXPECT_THAT(tell(0, {4}), IsEmpty());
  const auto rest = tell(1, {5, 6});
  ASSERT_THAT(rest, SizeIs(1));
  EXPECT_EQ(rest[0].update.tokens, (Ints{6}));
  EXPECT_EQ(rest[0].update.tokens_before, 2);
  EXPECT_THAT(rest[0].update.logprobs, ElementsAre(TokenLogprobs{-6, {}}));
}

TEST_F(RegionTest, LosesALeaderThatLeavesTokensOutOrTellsOthers) {
  const auto expect_loss = [&](uint64_t id, int64_t before, Ints tokens, FinishReason finish,
                               LossCause cause, const std::string& why) {
    const uint64_t epoch = JoinReady(id, MakeRank(id));
    const StreamId stream = Submit();
    Take();
    EXPECT_TRUE(Answer(id, epoch, stream, {4, 5}));
    SequenceUpdate update;
    update.id = SequenceOf(stream);
    update.tokens_before = before;
    update.tokens = std::move(tokens);
    update.finish = finish;
    EXPECT_TRUE(region_.Update(id, epoch, {update}, {}));
    const auto actions = Take();
    const auto lost = Select<GroupLostAction>(actions);
    ASSERT_THAT(lost, SizeIs(1)) << why;
    EXPECT_EQ(lost[0].cause, cause) << why;
    EXPECT_THAT(lost[0].why, HasSubstr(why));
    EXPECT_EQ(region_.streams().at(stream).tokens, (Ints{4, 5})) << "none of it was taken";
    Cancel(stream);
    Take();
  };
  const auto none = FinishReason::kNone;
  expect_loss(1, 3, {7}, none, LossCause::kProtocol, "goes on after 3 tokens, of which 2 were");
  expect_loss(2, -1, {7}, none, LossCause::kProtocol, "goes on after -1 tokens");
  expect_loss(3, 1, {6, 7}, none, LossCause::kWrongAnswer, "has token 6 at 1, where it had 5");
  expect_loss(4, 0, {4}, FinishReason::kStop, LossCause::kWrongAnswer, "ends after 1 tokens");
  expect_loss(5, 2, {7, 8, 9}, none, LossCause::kProtocol, "has 5 tokens, at most 4");
}

TEST_F(RegionTest, LosesALeaderWhoseAlternativesAreNotWhatWasAsked) {
  const std::vector<std::pair<std::vector<std::pair<int32_t, float>>, std::string>> cases = {
      {{{5, -1.0F}}, "has 1 alternatives at a position, 2 were expected"},
      {{{5, -1.0F}, {6, -2.0F}, {7, -3.0F}}, "has 3 alternatives at a position"},
      {{{5, -1.0F}, {100, -2.0F}}, "alternative 100 of sequence"},
      {{{-1, -1.0F}, {5, -2.0F}}, "alternative -1 of sequence"}};
  ConnectionId leader = 0;
  for (const auto& [top, why] : cases) {
    ++leader;
    const uint64_t epoch = JoinReady(leader, MakeRank(leader));
    Request request = MakeRequest();
    request.params.top_logprobs = 2;
    const StreamId stream = Submit(request);
    Take();
    SequenceUpdate update;
    update.id = SequenceOf(stream);
    update.tokens = {5};
    update.logprobs = {{-1.0F, {{5, -1.0F}, {6, -2.0F}}}};
    EXPECT_TRUE(region_.Update(leader, epoch, {update}, {}));
    EXPECT_THAT(Select<GroupLostAction>(Take()), IsEmpty());
    update.tokens_before = 1;
    update.logprobs[0].top = top;
    EXPECT_TRUE(region_.Update(leader, epoch, {update}, {}));
    const auto lost = Select<GroupLostAction>(Take());
    ASSERT_THAT(lost, SizeIs(1)) << why;
    EXPECT_EQ(lost[0].cause, LossCause::kProtocol);
    EXPECT_THAT(lost[0].why, HasSubstr(why));
    Cancel(stream);
  }
}

TEST_F(RegionTest, SuspectsAStreamThatLosesItsThirdGroup) {
  JoinReady(1, MakeRank(1));
  Request poison = MakeRequest();
  poison.prompt = {66, 6};
  const StreamId stream = Submit(poison);
  for (uint64_t id = 1; id <= 3; ++id) {
    if (id > 1) JoinReady(id, MakeRank(id));
    Take();
    EXPECT_TRUE(region_.streams().at(stream).group.has_value());
    region_.Disconnected(id, "closed");
  }
  const auto fails = Select<FailAction>(Take());
  ASSERT_THAT(fails, SizeIs(1));
  EXPECT_EQ(fails[0].stream, stream);
  EXPECT_EQ(fails[0].error.reason, BusyReason::kRequestSuspect);
  EXPECT_EQ(fails[0].error.retry_after_ms, 600'000);

  JoinReady(4, MakeRank(4));
  KeepAlive(4, 1'000);
  const StreamError refused = Refuse(poison);
  EXPECT_EQ(refused.reason, BusyReason::kRequestSuspect);
  EXPECT_EQ(refused.retry_after_ms, 599'000);
  Submit();
  KeepAlive(4, 599'000);
  Submit(poison);
}

TEST_F(RegionTest, BlamesNoStreamForAGroupThatEndsBeforeItHasIt) {
  for (uint64_t id = 1; id <= 4; ++id) JoinReady(id, MakeRank(id));
  const StreamId stream = Submit();
  Take();
  // All at once, as when somebody ends all processes of a machine.
  for (uint64_t id = 1; id <= 3; ++id) region_.Disconnected(id, "closed");
  const auto actions = Take();
  EXPECT_THAT(Select<FailAction>(actions), IsEmpty());
  EXPECT_THAT(Select<GroupLostAction>(actions), SizeIs(3));
  const auto submits = Select<SubmitAction>(actions);
  ASSERT_THAT(submits, SizeIs(1)) << "what is gone is given nothing";
  EXPECT_EQ(submits[0].leader, 4u);
  EXPECT_EQ(region_.streams().at(stream).groups_lost, 1);
  EXPECT_EQ(region_.streams().at(stream).resumes, 1);
  EXPECT_EQ(region_.status().streams_resumed[static_cast<size_t>(LossCause::kRankDied)], 1);
}

TEST_F(RegionTest, PlacesNothingWithAGroupThatHasGoneQuiet) {
  JoinReady(1, MakeRank(1));
  const uint64_t quiet = JoinReady(2, MakeRank(2));
  const StreamId first = Submit();
  Take();
  KeepAlive(1, 600);
  const StreamId second = Submit();
  EXPECT_EQ(region_.streams().at(second).group, 1u) << "it may be late";
  Take();
  KeepAlive(1, 100);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(region_.streams().at(Submit()).group, 0u);
  EXPECT_FALSE(region_.streams().at(Submit()).group.has_value()) << "the other one is full";
  Take();
  region_.Disconnected(1, "closed");
  EXPECT_FALSE(region_.streams().at(first).group.has_value());
  EXPECT_THAT(Select<SubmitAction>(Take()), IsEmpty());
  EXPECT_TRUE(region_.Heartbeat(2, quiet, 0, false));
  TickFor(100);
  EXPECT_THAT(Select<SubmitAction>(Take()), SizeIs(2)) << "it is back, with room for two";
}

TEST_F(RegionTest, PutsNoTwoStreamsOnTrialTogether) {
  JoinReady(1, MakeRank(1));
  for (int i = 0; i < 3; ++i) Submit();
  for (uint64_t id = 1; id <= 2; ++id) {
    Take();
    region_.Disconnected(id, "closed");
    Join(id + 1, MakeRank(id + 1));
    const auto canary = Select<SubmitAction>(Take());
    EXPECT_TRUE(region_.Update(id + 1, canary[0].epoch, {AnswerCanary(canary[0])}, {}));
  }
  EXPECT_THAT(Select<SubmitAction>(Take()), SizeIs(1));
  const StreamId harmless = Submit();
  const auto beside = Select<SubmitAction>(Take());
  ASSERT_THAT(beside, SizeIs(1)) << "others may be beside it";
  EXPECT_EQ(beside[0].request.stream, harmless);
  JoinReady(50, MakeRank(50));
}

}  // namespace
}  // namespace shoal::core
