// Which requests are taken, which group each goes to, and which of those that wait is next.

#include "coordinator/core/admission.h"

#include "coordinator/core/groups/versions.h"
#include "coordinator/core/region.h"
#include "tests/coordinator/core/region_fixture.h"

namespace shoal::core {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(HasRoom, IsOnlyWhereAGroupIsReadyHasAPlaceAndHoldsTheRequest) {
  GroupMap groups;
  const ModelKey key = KeyOf(MakeRank(1));
  EXPECT_FALSE(HasRoom(groups, key, 1, ServiceClass::kCritical));
  for (const uint64_t number : {3, 5}) groups[number] = MakeReadyGroup(number);
  EXPECT_TRUE(HasRoom(groups, key, 256, ServiceClass::kCritical));
  groups[3].state = GroupState::kCanary;
  EXPECT_TRUE(HasRoom(groups, key, 256, ServiceClass::kCritical));
  EXPECT_FALSE(HasRoom(groups, key, 257, ServiceClass::kCritical));
  EXPECT_FALSE(HasRoom(groups, {key.name, "another version"}, 1, ServiceClass::kCritical));
  groups[5].sequences = {1, 2, 3};
  EXPECT_FALSE(HasRoom(groups, key, 1, ServiceClass::kCritical));
}

TEST_F(RegionTest, RefusesRequestsWhileNoGroupIsReady) {
  EXPECT_EQ(Refuse().reason, BusyReason::kNoGroup);
  EXPECT_GT(Refuse().retry_after_ms, 0);
  Join(1, MakeRank(1));
  EXPECT_EQ(Refuse().reason, BusyReason::kNoGroup);
}

TEST_F(RegionTest, RoutesToTheLeastLoadedGroupTiesToTheLowest) {
  JoinReady(1, MakeRank(1));
  RankRegistration large = MakeRank(2);
  large.sequences_max = 5;  // Against 2, with one more that waits in each.
  JoinReady(2, large);
  std::vector<ConnectionId> leaders;
  for (int i = 0; i < 9; ++i) Submit();
  for (const SubmitAction& submit : Select<SubmitAction>(Take())) leaders.push_back(submit.leader);
  // Requests for each place, with the next one: 1/2 1/5, 1/2 2/5, 1/2 3/5, 2/2 3/5, 2/2 4/5,
  // 2/2 5/5, 3/2 5/5, 3/2 6/5, and then there is no other place.
  EXPECT_EQ(leaders, (std::vector<ConnectionId>{2, 2, 1, 2, 2, 1, 2, 2, 1}));
}

TEST_F(RegionTest, QueuesWhatTheGroupsCannotTakeUpToABound) {
  EXPECT_EQ(region_.models().front().requests_max, 0);
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  EXPECT_EQ(region_.models().front().requests_max, 5);
  std::vector<StreamId> streams;
  for (int i = 0; i < 5; ++i) streams.push_back(Submit());
  EXPECT_THAT(Select<SubmitAction>(Take()), SizeIs(3));
  EXPECT_EQ(region_.status().requests_waiting, 2);
  EXPECT_EQ(Refuse().reason, BusyReason::kQueueFull);

  EXPECT_TRUE(Answer(1, epoch, streams[0], {1}, FinishReason::kStop));
  const auto submits = Select<SubmitAction>(Take());
  ASSERT_THAT(submits, SizeIs(1));
  EXPECT_EQ(submits[0].request.id, SequenceOf(streams[3]));
  EXPECT_THAT(submits[0].request.prompt, SizeIs(3));
}

TEST_F(RegionTest, HandsOutTheMoreUrgentOfThoseThatWaitFirst) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  std::vector<StreamId> streams;
  for (int i = 0; i < 4; ++i) streams.push_back(Submit());
  Request urgent = MakeRequest();
  urgent.params.priority = -1;
  const StreamId vip = Submit(urgent);
  EXPECT_THAT(Select<SubmitAction>(Take()), SizeIs(3));
  EXPECT_TRUE(Answer(1, epoch, streams[0], {1}, FinishReason::kStop));
  const auto first = Select<SubmitAction>(Take());
  ASSERT_THAT(first, SizeIs(1));
  EXPECT_EQ(first[0].request.id, SequenceOf(vip));
  EXPECT_TRUE(Answer(1, epoch, streams[1], {1}, FinishReason::kStop));
  const auto second = Select<SubmitAction>(Take());
  ASSERT_THAT(second, SizeIs(1));
  EXPECT_EQ(second[0].request.id, SequenceOf(streams[3]));
}

TEST_F(RegionTest, RefusesWhatNoGroupCanEverHold) {
  RankRegistration small = MakeRank(1);
  small.kv_cache_tokens = 32;
  JoinReady(1, small);
  const StreamError error = Refuse(MakeRequest(/*tokens_max=*/40));
  EXPECT_EQ(error.reason, BusyReason::kTooLarge);
  EXPECT_THAT(error.message, HasSubstr("43"));
  EXPECT_THAT(error.message, HasSubstr("32"));
  Submit(MakeRequest(/*tokens_max=*/29));
  EXPECT_EQ(Refuse(MakeRequest(/*tokens_max=*/1, /*prompt_tokens=*/65)).reason,
            BusyReason::kTooLarge)
      << "longer than the context";
}

TEST_F(RegionTest, GrantsAnAnswerOnlyUpToTheContext) {
  JoinReady(1, MakeRank(1));
  Request request = MakeRequest(/*tokens_max=*/INT64_MAX);
  request.params.sampling.min_tokens = 1000;
  Submit(request);
  const auto submits = Select<SubmitAction>(Take());
  ASSERT_THAT(submits, SizeIs(1));
  EXPECT_EQ(submits[0].request.params.tokens_max, 61);
  EXPECT_EQ(submits[0].request.params.sampling.min_tokens, 61);
  EXPECT_EQ(Refuse(MakeRequest(/*tokens_max=*/1, /*prompt_tokens=*/64)).reason,
            BusyReason::kTooLarge)
      << "no room for a token";
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
  EXPECT_EQ(region_.models().front().context_tokens, 64);
  EXPECT_EQ(region_.models().front().kv_cache_tokens, 48);
  Submit(MakeRequest(/*tokens_max=*/45));
  EXPECT_EQ(Select<SubmitAction>(Take()).front().leader, 3U);
  EXPECT_EQ(Refuse(MakeRequest(/*tokens_max=*/46)).reason, BusyReason::kTooLarge);
}

TEST_F(RegionTest, SendsAwayInTheEndWhatOnlyALostGroupCouldHold) {
  RankRegistration small = MakeRank(1);
  small.kv_cache_tokens = 32;
  JoinReady(1, small);
  JoinReady(2, MakeRank(2));
  for (int i = 0; i < 3; ++i) Submit(MakeRequest(/*tokens_max=*/50));
  const StreamId waits = Submit(MakeRequest(/*tokens_max=*/50));
  Take();
  region_.Disconnected(2, "closed");
  EXPECT_THAT(Select<FailAction>(Take()), IsEmpty());
  KeepAlive(1, 3'000);
  const auto fails = Select<FailAction>(Take());
  ASSERT_THAT(fails, SizeIs(4));
  EXPECT_EQ(fails[3].stream, waits);
  EXPECT_EQ(fails[3].error.reason, BusyReason::kGroupLost);
  EXPECT_THAT(fails[3].error.message, HasSubstr("no group with 53 tokens of KV cache"));
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
  const StreamId first = Submit(MakeRequest(/*tokens_max=*/50));
  const StreamId second = Submit(MakeRequest(/*tokens_max=*/50));
  Submit();
  const auto submits = Select<SubmitAction>(Take());
  ASSERT_THAT(submits, SizeIs(2));
  EXPECT_EQ(submits[0].request.id, SequenceOf(first));
  EXPECT_EQ(submits[1].leader, 1u);
  EXPECT_TRUE(Answer(2, epoch, first, {1}, FinishReason::kStop));
  EXPECT_EQ(Select<SubmitAction>(Take()).front().request.stream, second);
}

}  // namespace
}  // namespace shoal::core
