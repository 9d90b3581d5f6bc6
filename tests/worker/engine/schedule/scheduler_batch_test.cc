// The threshold policy, on a clock of its own: merge when more than so many wait, or when one has
// waited for so long.

#include <gtest/gtest.h>

#include "tests/worker/engine/engine_fixture.h"

namespace shoal::engine {
namespace {

SchedulerOptions Options() {
  SchedulerOptions options = kOptions;
  options.sequences_max = 32;
  options.requests_waiting_max = 64;
  options.prefill_chunk_tokens = 512;
  options.batch_policy = BatchPolicy::kThreshold;
  return options;
}

TEST(BatchThreshold, StartsAllOnceMoreThanTenWait) {
  Engine engine(Options());
  for (uint64_t id = 1; id <= 10; ++id) engine.Submit(id, Prompt(4), Tokens(2));
  EXPECT_FALSE(engine.Step()) << "ten are not more than ten";
  EXPECT_EQ(engine.scheduler.stats().requests_waiting, 10);
  engine.Submit(11, Prompt(4), Tokens(2));
  EXPECT_EQ(engine.Step()->starts.size(), 11U);
  EXPECT_EQ(engine.scheduler.stats().requests_waiting, 0);
}

TEST(BatchThreshold, LetsNoneWaitForLongerThanTheDelay) {
  Engine engine(Options());
  engine.scheduler.SetTime(1000 * kMillisecondNs);
  engine.Submit(1, Prompt(4), Tokens(2));
  engine.scheduler.SetTime(1030 * kMillisecondNs);
  engine.Submit(2, Prompt(4), Tokens(2));
  EXPECT_EQ(engine.scheduler.wake_time(), 1050 * kMillisecondNs);
  engine.scheduler.SetTime(1050 * kMillisecondNs - 1);
  EXPECT_FALSE(engine.Step());
  engine.scheduler.SetTime(1050 * kMillisecondNs);
  EXPECT_EQ(engine.Step()->starts.size(), 2U) << "who came later comes along";
  EXPECT_FALSE(engine.scheduler.wake_time());
}

TEST(BatchThreshold, GoesOnDecodingWhileRequestsGather) {
  Engine engine(Options());
  engine.Submit(1, Prompt(4), Tokens(50));
  engine.scheduler.SetTime(50 * kMillisecondNs);
  ASSERT_TRUE(engine.Step());
  engine.Submit(2, Prompt(4), Tokens(50));
  const StepPlan plan = *engine.Step();
  EXPECT_TRUE(plan.starts.empty());
  EXPECT_EQ(plan.items.size(), 1U);
  engine.scheduler.SetTime(100 * kMillisecondNs);
  EXPECT_EQ(engine.Step()->starts.size(), 1U);
}

TEST(BatchThreshold, StartsWhatWasMergedWithoutGatheringAnew) {
  SchedulerOptions options = Options();
  options.sequences_max = 4;
  Engine engine(options);
  for (uint64_t id = 1; id <= 11; ++id) engine.Submit(id, Prompt(4), Tokens(1));
  EXPECT_EQ(engine.Drain().size(), 11U) << "the last three are fewer than ten";
}

TEST(BatchThreshold, ForgetsACancelledRequest) {
  Engine engine(Options());
  engine.Submit(1, Prompt(4), Tokens(2));
  engine.scheduler.Cancel(1);
  EXPECT_EQ(engine.scheduler.TakeUpdates().at(0).finish, FinishReason::kCancelled);
  EXPECT_FALSE(engine.scheduler.wake_time());
  EXPECT_TRUE(engine.scheduler.idle());
  engine.Submit(2, Prompt(4), Tokens(2));
  engine.scheduler.CancelAll();
  EXPECT_TRUE(engine.scheduler.idle());
}

TEST(BatchThreshold, CountsWhatGathersAgainstTheQueue) {
  SchedulerOptions options = Options();
  options.sequences_max = 2;
  options.requests_waiting_max = 3;
  Engine engine(options);
  for (uint64_t id = 1; id <= 5; ++id) engine.Submit(id, Prompt(4), Tokens(2));
  EXPECT_EQ(engine.scheduler.Submit({6, Prompt(4), Tokens(2)}), SubmitOutcome::kQueueFull);
}

TEST(BatchThreshold, ChangesNoStream) {
  Engine engine(Options());
  for (uint64_t id = 1; id <= 11; ++id) {
    engine.Submit(id, Prompt(4 + static_cast<int32_t>(id)), Tokens(9));
  }
  const auto updates = engine.Drain();
  for (uint64_t id = 1; id <= 11; ++id) {
    EXPECT_EQ(updates.at(id).tokens,
              RunAlone(Prompt(4 + static_cast<int32_t>(id)), Tokens(9), 256).tokens);
  }
}

TEST(BatchContinuous, NeverWaits) {
  Engine engine(kOptions);
  engine.Submit(1, Prompt(4), Tokens(2));
  EXPECT_FALSE(engine.scheduler.wake_time());
  EXPECT_TRUE(engine.Step());
}

}  // namespace
}  // namespace shoal::engine
