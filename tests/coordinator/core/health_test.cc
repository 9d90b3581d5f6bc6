// Which groups are given up, and when.

#include "coordinator/core/groups/health.h"

#include "coordinator/core/region.h"
#include "tests/coordinator/core/region_fixture.h"

namespace shoal::core {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(Health, JudgesTheGroupsThatAreThereByTheirOwnRanks) {
  ManualClock clock;
  RegionOptions options;
  options.heartbeats_missed_max = 3;
  Health health(options, clock);
  GroupMap groups;
  for (const uint64_t number : {0, 1}) groups[number] = MakeReadyGroup(number);
  for (int i = 0; i < 3; ++i) {
    health.Heartbeat(1, 0, false);
    clock.Advance(100);
    EXPECT_THAT(health.Tick(groups), IsEmpty());
  }
  clock.Advance(100);
  const auto losses = health.Tick(groups);
  ASSERT_THAT(losses, SizeIs(1));
  EXPECT_EQ(losses[0].group, 0u);
  EXPECT_THAT(losses[0].why, HasSubstr("no heartbeat for 400 ms"));
  groups.erase(0);
  EXPECT_THAT(health.Tick(groups), IsEmpty());
}

TEST_F(RegionTest, LosesARankThatIsSilentForTooLong) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  TickFor(1'300);
  EXPECT_THAT(Take(), IsEmpty());
  EXPECT_TRUE(region_.Heartbeat(1, epoch, 0, false));
  TickFor(1'300);
  EXPECT_THAT(Take(), IsEmpty());
  TickFor(100);
  const auto lost = Select<GroupLostAction>(Take());
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_THAT(lost[0].why, HasSubstr("no heartbeat for 1400 ms"));
}

TEST_F(RegionTest, DoesNotBlameRanksForItsOwnDelay) {
  JoinReady(1, MakeRank(1));
  clock_.Advance(3'600'000);
  region_.Tick();
  EXPECT_THAT(Take(), IsEmpty());
}

TEST_F(RegionTest, LosesARankThatHasWorkAndGetsNowhere) {
  const uint64_t epoch = JoinReady(1, MakeRank(1));
  for (int i = 0; i < 30; ++i) {
    EXPECT_TRUE(region_.Heartbeat(1, epoch, 5, /*pending=*/false));
    TickFor(100);
  }
  EXPECT_THAT(Take(), IsEmpty()) << "an idle rank may stand still";
  for (int i = 0; i < 30; ++i) {
    EXPECT_TRUE(region_.Heartbeat(1, epoch, static_cast<uint64_t>(i), /*pending=*/true));
    TickFor(100);
  }
  EXPECT_THAT(Take(), IsEmpty()) << "it got on";
  for (int i = 0; i < 11; ++i) {
    EXPECT_TRUE(region_.Heartbeat(1, epoch, 99, /*pending=*/true));
    TickFor(100);
  }
  const auto lost = Select<GroupLostAction>(Take());
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_THAT(lost[0].why, HasSubstr("no progress"));
}

TEST_F(RegionTest, GivesUpAGroupThatDoesNotComplete) {
  const uint64_t epoch = region_.Register(1, MakeRank(1, 0, 2)).epoch;
  for (int i = 0; i < 51; ++i) {
    EXPECT_TRUE(region_.Heartbeat(1, epoch, 0, false));
    TickFor(100);
  }
  const auto lost = Select<GroupLostAction>(Take());
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_THAT(lost[0].why, HasSubstr("not all ranks joined"));
}

}  // namespace
}  // namespace shoal::core
