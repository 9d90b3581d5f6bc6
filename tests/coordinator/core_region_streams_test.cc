// What core::Region promises of streams: admission, routing, delivery, one promise a test.

#include "coordinator/core/region.h"

#include "tests/coordinator/core_region_fixture.h"

namespace shoal::core {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST_F(RegionTest, RoutesToTheLeastLoadedGroupTiesToTheLowest) {
  JoinReady(1, MakeRank(1));
  RankRegistration large = MakeRank(2);
  large.sequences_max = 5;  // Capacity 6 against 3.
  JoinReady(2, large);
  std::vector<ConnectionId> leaders;
  for (int i = 0; i < 9; ++i) Submit();
  for (const SubmitAction& submit : Select<SubmitAction>(Take())) leaders.push_back(submit.leader);
  // Loads before each: 0/3 0/6, 1/3 0/6, 1/3 1/6, 1/3 2/6, 2/3 2/6, 2/3 3/6, 2/3 4/6, 3/3 4/6, ...
  EXPECT_EQ(leaders, (std::vector<ConnectionId>{1, 2, 2, 1, 2, 2, 1, 2, 2}));
}

TEST_F(RegionTest, QueuesWhatTheGroupsCannotTakeUpToABound) {
  EXPECT_EQ(region_.model().requests_max, 0);
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  EXPECT_EQ(region_.model().requests_max, 5);
  std::vector<StreamId> streams;
  for (int i = 0; i < 5; ++i) streams.push_back(Submit());
  EXPECT_THAT(Select<SubmitAction>(Take()), SizeIs(3));
  EXPECT_EQ(region_.status().requests_waiting, 2);
  Submit();
  EXPECT_EQ(error_.reason, BusyReason::kQueueFull);

  EXPECT_TRUE(Answer(1, epoch, streams[0], {1}, FinishReason::kStop));
  const auto submits = Select<SubmitAction>(Take());
  ASSERT_THAT(submits, SizeIs(1));
  EXPECT_EQ(submits[0].stream, streams[3]);
  EXPECT_THAT(submits[0].prompt, SizeIs(3));
}

TEST_F(RegionTest, HandsOutTheMoreUrgentOfThoseThatWaitFirst) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  std::vector<StreamId> streams;
  for (int i = 0; i < 4; ++i) streams.push_back(Submit());
  GenerationParams urgent;
  urgent.tokens_max = 4;
  urgent.priority = -1;
  const StreamId vip = region_.Submit({1, 1, 1}, urgent, error_);
  invariants_.Submitted(vip);
  EXPECT_THAT(Select<SubmitAction>(Take()), SizeIs(3));
  EXPECT_TRUE(Answer(1, epoch, streams[0], {1}, FinishReason::kStop));
  const auto first = Select<SubmitAction>(Take());
  ASSERT_THAT(first, SizeIs(1));
  EXPECT_EQ(first[0].stream, vip);
  EXPECT_TRUE(Answer(1, epoch, streams[1], {1}, FinishReason::kStop));
  const auto second = Select<SubmitAction>(Take());
  ASSERT_THAT(second, SizeIs(1));
  EXPECT_EQ(second[0].stream, streams[3]);
}

TEST_F(RegionTest, RefusesWhatNoGroupCanEverHold) {
  RankRegistration small = MakeRank(1);
  small.kv_cache_tokens = 32;
  JoinReady(1, small);
  Submit(/*tokens_max=*/40);
  EXPECT_EQ(error_.reason, BusyReason::kTooLarge);
  EXPECT_THAT(error_.message, HasSubstr("43"));
  EXPECT_THAT(error_.message, HasSubstr("32"));
  Submit(/*tokens_max=*/29);
  EXPECT_EQ(error_.reason, BusyReason::kNone);
  Submit(/*tokens_max=*/1, /*prompt_tokens=*/65);
  EXPECT_EQ(error_.reason, BusyReason::kTooLarge) << "longer than the context";
}

TEST_F(RegionTest, GrantsAnAnswerOnlyUpToTheContext) {
  JoinReady(1, MakeRank(1));
  GenerationParams params;
  params.tokens_max = INT64_MAX;
  params.sampling.min_tokens = 1000;
  invariants_.Submitted(region_.Submit({1, 1, 1}, params, error_));
  EXPECT_EQ(error_.reason, BusyReason::kNone);
  const auto submits = Select<SubmitAction>(Take());
  ASSERT_THAT(submits, SizeIs(1));
  EXPECT_EQ(submits[0].params.tokens_max, 61);
  EXPECT_EQ(submits[0].params.sampling.min_tokens, 61);
  Submit(/*tokens_max=*/1, /*prompt_tokens=*/64);
  EXPECT_EQ(error_.reason, BusyReason::kTooLarge) << "no room for a token";
}

TEST_F(RegionTest, KeepsGroupsWithDifferentCachesSideBySide) {
  JoinReady(1, MakeRank(1));
  RankRegistration smaller = MakeRank(2);
  smaller.kv_cache_tokens = 40;
  JoinReady(2, smaller);
  region_.Disconnected(1, "closed");
  Take();
  RankRegistration restarted = MakeRank(3);
  restarted.kv_cache_tokens = 48;
  JoinReady(3, restarted);
  EXPECT_EQ(region_.model().context_tokens, 64);
  EXPECT_EQ(region_.model().kv_cache_tokens, 48);
  Submit(/*tokens_max=*/45);
  EXPECT_EQ(Select<SubmitAction>(Take()).front().leader, 3U);
  Submit(/*tokens_max=*/46);
  EXPECT_EQ(error_.reason, BusyReason::kTooLarge);
}

TEST_F(RegionTest, SendsAwayForNowWhatOnlyALostGroupCouldHold) {
  RankRegistration small = MakeRank(1);
  small.kv_cache_tokens = 32;
  JoinReady(1, small);
  JoinReady(2, MakeRank(2));
  for (int i = 0; i < 3; ++i) Submit(/*tokens_max=*/50);
  const StreamId waits = Submit(/*tokens_max=*/50);
  Take();
  region_.Disconnected(2, "closed");
  const auto fails = Select<FailAction>(Take());
  ASSERT_THAT(fails, SizeIs(4));
  EXPECT_EQ(fails[3].stream, waits);
  EXPECT_EQ(fails[3].error.reason, BusyReason::kGroupLost);
  EXPECT_GT(fails[3].error.retry_after_ms, 0);
}

TEST_F(RegionTest, LetsALargeRequestWaitWithoutHoldingUpTheSmall) {
  RankRegistration small = MakeRank(1);
  small.kv_cache_tokens = 32;
  RankRegistration large = MakeRank(2);
  large.sequences_max = 1;
  large.queue_requests_max = 0;
  JoinReady(1, small);
  const uint64_t epoch = JoinReady(2, large);
  const StreamId first = Submit(/*tokens_max=*/50);
  const StreamId second = Submit(/*tokens_max=*/50);
  Submit();
  const auto submits = Select<SubmitAction>(Take());
  ASSERT_THAT(submits, SizeIs(2));
  EXPECT_EQ(submits[0].stream, first);
  EXPECT_EQ(submits[1].leader, 1u);
  EXPECT_TRUE(Answer(2, epoch, first, {1}, FinishReason::kStop));
  EXPECT_EQ(Select<SubmitAction>(Take()).front().stream, second);
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

TEST_F(RegionTest, FailsTheStreamsOfALostGroupAndNamesTheRank) {
  JoinReady(10, MakeRank(1, 0, 2));
  JoinReady(20, MakeRank(2));
  const StreamId lost = Submit();
  const StreamId kept = Submit();
  Take();
  region_.Disconnected(11, "its connection closed");
  const auto actions = Take();
  const auto fails = Select<FailAction>(actions);
  ASSERT_THAT(fails, SizeIs(1));
  EXPECT_EQ(fails[0].stream, lost);
  EXPECT_EQ(fails[0].error.reason, BusyReason::kGroupLost);
  EXPECT_THAT(fails[0].error.message, HasSubstr("rank 1 (node7, pid 4001)"));
  EXPECT_THAT(Select<CloseAction>(actions), SizeIs(2)) << "the other rank must end too";
  EXPECT_TRUE(region_.streams().contains(kept));
}

TEST_F(RegionTest, PassesOnWhyALeaderRefusedARequest) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  const StreamId refused = Submit();
  const StreamId dropped = Submit();
  Take();
  SequenceUpdate update;
  update.id = refused;
  update.finish = FinishReason::kCancelled;
  update.detail = "top_k is odd";
  EXPECT_TRUE(region_.Update(1, epoch, {update}, {}));
  EXPECT_TRUE(Answer(1, epoch, dropped, {}, FinishReason::kCancelled));
  const auto fails = Select<FailAction>(Take());
  ASSERT_THAT(fails, SizeIs(2));
  EXPECT_EQ(fails[0].error.reason, BusyReason::kRefused);
  EXPECT_EQ(fails[0].error.message, "refused by the group: top_k is odd");
  EXPECT_EQ(fails[0].error.retry_after_ms, 0);
  EXPECT_EQ(fails[1].error.reason, BusyReason::kGroupLost) << "it said nothing of why";
  EXPECT_EQ(region_.groups_ready(), 1U);
}

TEST_F(RegionTest, FailsWhatWaitsWhenTheLastGroupIsLost) {
  JoinReady(1, MakeRank(1));
  for (int i = 0; i < 4; ++i) Submit();
  Take();
  region_.Disconnected(1, "closed");
  const auto fails = Select<FailAction>(Take());
  ASSERT_THAT(fails, SizeIs(4));
  EXPECT_EQ(fails[2].error.reason, BusyReason::kGroupLost);
  EXPECT_EQ(fails[3].error.reason, BusyReason::kNoGroup);
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
  EXPECT_EQ(Select<SubmitAction>(after)[0].stream, second);
}

TEST_F(RegionTest, CancelsWhatWaitsWithoutTroublingAnyGroup) {
  JoinReady(1, MakeRank(1));
  StreamId last = 0;
  for (int i = 0; i < 4; ++i) last = Submit();
  Take();
  Cancel(last);
  Cancel(last);
  EXPECT_THAT(Take(), IsEmpty());
}

TEST_F(RegionTest, LosesALeaderThatBreaksTheProtocol) {
  const auto expect_lost = [&](uint64_t id, auto misbehave, const std::string& why) {
    const uint64_t epoch = JoinReady(id, MakeRank(id));
    const StreamId stream = Submit(/*tokens_max=*/2);
    Take();
    misbehave(epoch, stream);
    const auto lost = Select<GroupLostAction>(Take());
    ASSERT_THAT(lost, SizeIs(1));
    EXPECT_THAT(lost[0].why, HasSubstr(why));
  };
  expect_lost(
      1, [&](auto epoch, auto stream) { (void)Answer(1, epoch, stream + 5, {1}); },
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
        update.id = stream;
        update.tokens = {1};
        update.logprobs.resize(1);
        (void)region_.Update(4, epoch, {update}, {});
      },
      "log-probabilities");
}

TEST_F(RegionTest, TakesThePromptsLogProbabilitiesInPartsBeforeTheFirstToken) {
  const auto part = [](StreamId stream, size_t positions, std::vector<int32_t> tokens) {
    SequenceUpdate update;
    update.id = stream;
    update.prompt_logprobs.resize(positions);
    update.logprobs.resize(tokens.size());
    update.tokens = std::move(tokens);
    return update;
  };
  GenerationParams params;
  params.prompt_logprobs = true;
  params.top_logprobs = 0;
  const auto submit = [&] {
    const StreamId stream = region_.Submit({1, 2, 3, 4, 5}, params, error_);
    invariants_.Submitted(stream);
    Take();
    return stream;
  };
  uint64_t epoch = JoinReady(1, MakeRank(1));
  const StreamId good = submit();
  EXPECT_TRUE(region_.Update(1, epoch, {part(good, 1, {}), part(good, 2, {})}, {}));
  EXPECT_TRUE(region_.Update(1, epoch, {part(good, 1, {9}), part(good, 0, {9})}, {}));
  std::vector<size_t> delivered;
  for (const DeliverAction& action : Select<DeliverAction>(Take())) {
    delivered.push_back(action.update.prompt_logprobs.size());
  }
  EXPECT_THAT(delivered, ::testing::ElementsAre(1, 2, 1, 0));

  uint64_t connection = 1;
  for (const auto& [positions, tokens] :
       std::vector<std::pair<size_t, std::vector<int32_t>>>{{5, {}}, {3, {9}}}) {
    const StreamId bad = submit();
    EXPECT_TRUE(region_.Update(connection, epoch, {part(bad, positions, tokens)}, {}));
    const auto lost = Select<GroupLostAction>(Take());
    ASSERT_THAT(lost, SizeIs(1)) << positions;
    EXPECT_THAT(lost[0].why, HasSubstr("log-probabilities of its prompt, 4 "));
    ++connection;
    epoch = JoinReady(connection, MakeRank(connection));
  }
}

TEST_F(RegionTest, TakesUpdatesFromLeadersOnly) {
  const uint64_t epoch = JoinReady(1, MakeRank(1, 0, 2));
  const StreamId stream = Submit();
  EXPECT_FALSE(Answer(2, epoch, stream, {1}));
}

}  // namespace
}  // namespace shoal::core
