#include "coordinator/launch/supervise/relaunch_policy.h"

#include <gtest/gtest.h>

#include <optional>
#include <vector>

namespace shoal::launch {
namespace {

constexpr TimeNs kMs = kMillisecondNs;

// Starts it when it is due, and lets it end: `ready_ms` after it became ready, or before it was.
// Result: the pause that follows, in milliseconds.
int64_t PauseAfter(RelaunchPolicy& policy, TimeNs& now, std::optional<int64_t> ready_ms) {
  now = policy.next_start().value();
  policy.Started(now);
  EXPECT_FALSE(policy.next_start());
  now += 300 * kMs;
  if (ready_ms) {
    policy.Ready(now);
    now += *ready_ms * kMs;
  }
  policy.Ended(now);
  return (policy.next_start().value() - now) / kMs;
}

TEST(RelaunchPolicy, StartsAGroupAtOnce) {
  EXPECT_EQ(RelaunchPolicy().next_start(), 0);
  EXPECT_EQ(RelaunchPolicy().restarts_total(), 0);
}

TEST(RelaunchPolicy, StartsALostGroupAtOnce) {
  RelaunchPolicy policy;
  TimeNs now = 0;
  for (int i = 0; i < 5; ++i) EXPECT_EQ(PauseAfter(policy, now, 60'000), 0);
  EXPECT_EQ(policy.restarts_total(), 4);
}

TEST(RelaunchPolicy, PausesLongerAndLongerWhileItFailsBeforeItIsReady) {
  RelaunchPolicy policy;
  TimeNs now = 0;
  for (const int64_t pause : {0, 500, 1'000, 2'000, 4'000, 8'000, 16'000, 30'000, 30'000}) {
    EXPECT_EQ(PauseAfter(policy, now, std::nullopt), pause);
  }
}

TEST(RelaunchPolicy, PausesASecondAtMostForOneThatIsReadyButNotForLong) {
  RelaunchPolicy policy;
  TimeNs now = 0;
  for (const int64_t pause : {0, 500, 1'000, 1'000, 1'000}) {
    EXPECT_EQ(PauseAfter(policy, now, 100), pause);
  }
}

TEST(RelaunchPolicy, ForgetsFailuresOnceItHasBeenReadyForAWhile) {
  RelaunchPolicy policy;
  TimeNs now = 0;
  for (int i = 0; i < 6; ++i) PauseAfter(policy, now, std::nullopt);
  EXPECT_EQ(PauseAfter(policy, now, RelaunchPolicy::kSteadyMs), 0);
  EXPECT_EQ(PauseAfter(policy, now, std::nullopt), 500);
}

TEST(RelaunchPolicy, LeavesADrainedGroupAwayUntilItIsWanted) {
  RelaunchPolicy policy;
  policy.Started(0);
  policy.Ready(1);
  policy.Drained();
  EXPECT_FALSE(policy.next_start());
  EXPECT_FALSE(policy.running());
  policy.StartNow(7);
  EXPECT_EQ(policy.next_start(), 7);
  policy.Started(7);
  EXPECT_EQ(policy.restarts_total(), 1);
}

TEST(RelaunchPolicy, EndsAPauseForWhoeverDoesNotWantToWait) {
  RelaunchPolicy policy;
  TimeNs now = 0;
  for (int i = 0; i < 8; ++i) PauseAfter(policy, now, std::nullopt);
  policy.StartNow(now + 1);
  EXPECT_EQ(policy.next_start(), now + 1);
  policy.StayAway();
  EXPECT_FALSE(policy.next_start());
}

TEST(RelaunchPolicy, DoesNotStartTwiceWhatRuns) {
  RelaunchPolicy policy;
  policy.Started(0);
  policy.StartNow(5);
  EXPECT_FALSE(policy.next_start());
}

}  // namespace
}  // namespace shoal::launch
