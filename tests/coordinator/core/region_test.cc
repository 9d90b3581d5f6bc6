// What core::Region promises of groups and ranks, one promise a test. Random sequences of all of it
// are in region_sim_test.cc.

#include "coordinator/core/region.h"

#include "tests/coordinator/core/region_fixture.h"

namespace shoal::core {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(BootPart, IsLargerAMillisecondLaterAndExactInJson) {
  constexpr int64_t kNow = 1'800'000'000'000;  // In 2027.
  static_assert(BootPart(kNow) + 4'000 < BootPart(kNow + 1));
  static_assert(BootPart(2'190'000'000'000) < uint64_t{1} << 53, "until 2039");
  ManualClock clock;
  const auto epoch = [&](int64_t start) {
    RegionOptions options;
    options.boot = BootPart(start);
    return Region(options, clock, MakeTestRandom()).Register(1, MakeRank(1)).epoch;
  };
  EXPECT_LT(epoch(kNow), epoch(kNow + 1));
}

TEST_F(RegionTest, SendsACanaryOnceAllRanksAreThere) {
  const RankRegistration shape = MakeRank(1, 0, 2, 2);
  for (int32_t rank = 3; rank >= 1; --rank) {
    RankRegistration registration = shape;
    registration.rank = rank;
    region_.Register(10 + static_cast<uint64_t>(rank), registration);
    EXPECT_THAT(Take(), IsEmpty());
  }
  const RegisterOutcome outcome = region_.Register(10, shape);
  const auto submits = Select<SubmitAction>(Take());
  ASSERT_THAT(submits, SizeIs(1));
  EXPECT_EQ(submits[0].leader, 10u);
  EXPECT_EQ(submits[0].epoch, outcome.epoch);
  EXPECT_EQ(submits[0].request.params.tokens_max, 2);
  EXPECT_EQ(region_.groups_ready(), 0u);

  EXPECT_TRUE(region_.Update(10, outcome.epoch, {AnswerCanary(submits[0])}, {}));
  EXPECT_THAT(Select<GroupReadyAction>(Take()), SizeIs(1));
  EXPECT_EQ(region_.groups_ready(), 1u);
}

TEST_F(RegionTest, LetsAGroupThatNeverWorkedDecideNothing) {
  RankRegistration longer = MakeRank(1);
  longer.context_tokens = 128;
  Join(1, longer);
  EXPECT_EQ(region_.Register(2, MakeRank(2)).kind, RegisterOutcome::Kind::kMismatch);
  region_.Disconnected(1, "closed");
  Take();
  EXPECT_EQ(region_.models().front().context_tokens, 0) << "it is forgotten";
  JoinReady(3, MakeRank(3));
  EXPECT_EQ(region_.models().front().context_tokens, 64);
}

TEST_F(RegionTest, RefusesARankThatDiffersFromItsGroup) {
  region_.Register(1, MakeRank(1, 0, 2));
  RankRegistration other = MakeRank(1, 1, 2);
  other.kv_cache_tokens = 1;
  const RegisterOutcome outcome = region_.Register(2, other);
  EXPECT_EQ(outcome.kind, RegisterOutcome::Kind::kMismatch);
  EXPECT_THAT(outcome.message, HasSubstr("kv_cache_tokens: expected 256, found 1"));
  EXPECT_EQ(region_.Register(3, MakeRank(1, 0, 2)).kind, RegisterOutcome::Kind::kMismatch)
      << "rank 0 came twice";
}

TEST_F(RegionTest, RefusesRegistrationsThatMakeNoSense) {
  const auto expect_fault = [&](auto change, const std::string& field) {
    RankRegistration rank = MakeRank(1);
    change(rank);
    const RegisterOutcome outcome = region_.Register(1, rank);
    EXPECT_EQ(outcome.kind, RegisterOutcome::Kind::kMismatch);
    EXPECT_THAT(outcome.message, HasSubstr(field));
  };
  expect_fault([](auto& rank) { rank.size = 0; }, "size is 0");
  expect_fault([](auto& rank) { rank.size = 1 << 30; }, "size is");
  expect_fault([](auto& rank) { rank.rank = 1; }, "rank is 1");
  expect_fault([](auto& rank) { rank.rank = -1; }, "rank is -1");
  expect_fault([](auto& rank) { rank.tensor_parallel = 2; }, "the 1 ranks");
  expect_fault([](auto& rank) { rank.tensor_parallel = rank.pipeline_parallel = -1; }, "x");
  expect_fault([](auto& rank) { rank.sequences_max = 0; }, "sequences_max");
  expect_fault([](auto& rank) { rank.queue_requests_max = -1; }, "queue_requests_max");
  expect_fault([](auto& rank) { rank.context_tokens = 0; }, "context_tokens");
  expect_fault([](auto& rank) { rank.kv_cache_tokens = 0; }, "kv_cache_tokens");
  expect_fault([](auto& rank) { rank.vocab_size = 0; }, "vocab_size");
}

TEST_F(RegionTest, TakesARestartedGroupUnderANewEpochAndRefusesTheOldOne) {
  const uint64_t old_epoch = JoinReady(1, MakeRank(1));
  const StreamId stream = Submit();
  Take();
  region_.Disconnected(1, "closed");
  Take();
  EXPECT_EQ(region_.Register(2, MakeRank(1)).kind, RegisterOutcome::Kind::kStale);
  const uint64_t new_epoch = JoinReady(3, MakeRank(99));
  EXPECT_GT(new_epoch, old_epoch);
  EXPECT_EQ(region_.groups().begin()->first, 0u) << "it takes its old number";

  EXPECT_FALSE(Answer(1, old_epoch, stream, {1}));
  EXPECT_FALSE(Answer(3, old_epoch, stream, {1}));
  EXPECT_FALSE(region_.Heartbeat(1, old_epoch, 1, true));
  EXPECT_FALSE(region_.Heartbeat(3, old_epoch, 1, true));
  EXPECT_THAT(Take(), IsEmpty());
}

TEST_F(RegionTest, StopEndsStreamsAndDismissesGroups) {
  JoinReady(1, MakeRank(1));
  region_.Register(5, MakeRank(2, 1, 2));  // Still without its leader.
  for (int i = 0; i < 4; ++i) Submit();
  Take();
  region_.Stop();
  const auto actions = Take();
  EXPECT_THAT(Select<FailAction>(actions), SizeIs(4));
  EXPECT_EQ(Select<FailAction>(actions)[0].error.reason, BusyReason::kDraining);
  EXPECT_THAT(Select<StopAction>(actions), SizeIs(1));
  EXPECT_THAT(Select<CloseAction>(actions), SizeIs(1));
  EXPECT_EQ(Refuse().reason, BusyReason::kDraining);
  EXPECT_EQ(region_.Register(9, MakeRank(9)).kind, RegisterOutcome::Kind::kRetry);
  region_.Disconnected(1, "closed");
  EXPECT_THAT(Select<GroupLostAction>(Take()), IsEmpty()) << "it was dismissed, not lost";
  EXPECT_TRUE(region_.groups().empty());
}

TEST_F(RegionTest, LetsTheRanksOfADismissedGroupEndOneByOne) {
  JoinReady(1, MakeRank(1, 0, 2));
  region_.Stop();
  Take();
  region_.Disconnected(1, "closed");
  EXPECT_THAT(Take(), IsEmpty());
  EXPECT_THAT(region_.groups(), SizeIs(1));
  region_.Disconnected(2, "closed");
  EXPECT_TRUE(region_.groups().empty());
}

TEST_F(RegionTest, ReportsWhatTheLeadersReport) {
  const uint64_t epoch = JoinReady(1, MakeRank(1, 0, 2));
  EXPECT_TRUE(region_.Update(1, epoch, {}, {.steps_total = 12, .sequences_running = 3}));
  const RegionStatus status = region_.status();
  ASSERT_THAT(status.groups, SizeIs(1));
  EXPECT_EQ(status.groups[0].stats.steps_total, 12);
  EXPECT_EQ(status.groups[0].stats.sequences_running, 3);
  EXPECT_EQ(status.groups[0].state, GroupState::kReady);
  EXPECT_THAT(status.groups[0].ranks, SizeIs(2));
  EXPECT_EQ(region_.models().front().kv_cache_tokens, 256);
  EXPECT_EQ(region_.models().front().context_tokens, 64);
}

TEST_F(RegionTest, CountsOnWhenGroupsComeAndGo) {
  // JoinReady's canary brought each group's first update, with counts of 0.
  const uint64_t first = JoinReady(1, MakeRank(1));
  EXPECT_TRUE(region_.Update(1, first, {}, {.steps_total = 90, .preemptions_total = 2}));
  EXPECT_TRUE(region_.Update(1, first, {}, {.steps_total = 97, .preemptions_total = 2}));
  EXPECT_EQ(region_.status().totals.steps_total, 97);
  region_.Disconnected(1, "closed");
  Take();
  EXPECT_EQ(region_.status().totals.steps_total, 97);
  const uint64_t second = JoinReady(2, MakeRank(2));
  EXPECT_TRUE(region_.Update(2, second, {}, {.steps_total = 49}));
  EXPECT_EQ(region_.status().totals.steps_total, 146);
  EXPECT_EQ(region_.status().totals.preemptions_total, 2);
}

TEST_F(RegionTest, CountsNothingThatAGroupDidForAnotherCoordinator) {
  const uint64_t epoch = Join(1, MakeRank(1)).front().epoch;
  EXPECT_TRUE(region_.Update(1, epoch, {}, {.steps_total = 5'000}));
  EXPECT_TRUE(region_.Update(1, epoch, {}, {.steps_total = 5'003}));
  EXPECT_EQ(region_.status().totals.steps_total, 3);
  EXPECT_EQ(region_.status().groups[0].stats.steps_total, 5'003);
}

}  // namespace
}  // namespace shoal::core
