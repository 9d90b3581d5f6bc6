#include "coordinator/core/predict/step_cost.h"

#include <gtest/gtest.h>

#include <random>

#include "coordinator/core/predict/slot_plan.h"

namespace shoal::core {
namespace {

// Counters of a group whose steps cost so much.
struct Counters {
  void Step(int64_t rows, int64_t tokens) {
    ++stats.steps_total;
    stats.prompt_rows_total += rows;
    stats.generated_tokens_total += tokens;
    busy += step_us + row_us * static_cast<double>(rows) + token_us * static_cast<double>(tokens);
    stats.busy_us_total = static_cast<int64_t>(busy);
  }

  double step_us = 2'000;
  double row_us = 50;
  double token_us = 300;
  double busy = 0;
  SchedulerStats stats{};
};

TEST(StepCost, FindsWhatStepsRowsAndTokensCost) {
  std::mt19937_64 random(1);
  Counters counters;
  StepCost cost;
  EXPECT_FALSE(cost.known());
  for (int step = 0; step < 200; ++step) {
    counters.Step(step % 3 == 0 ? static_cast<int64_t>(random() % 64) : 0,
                  1 + static_cast<int64_t>(random() % 16));
    cost.Learn(counters.stats);
  }
  ASSERT_TRUE(cost.known());
  EXPECT_NEAR(cost.step(), 2e-3, 1e-4);
  EXPECT_NEAR(cost.row(), 5e-5, 2e-6);
  EXPECT_NEAR(cost.token(), 3e-4, 1e-5);
  EXPECT_NEAR(cost.StepOf(10), 5e-3, 1e-4);
}

TEST(StepCost, ForgetsWhatWasLongAgo) {
  std::mt19937_64 random(1);
  Counters counters;
  StepCost cost;
  const auto play = [&] {
    for (int step = 0; step < 10'000; ++step) {
      counters.Step(static_cast<int64_t>(random() % 64), static_cast<int64_t>(random() % 16));
      cost.Learn(counters.stats);
    }
  };
  play();
  counters.row_us = 200;
  play();
  EXPECT_NEAR(cost.row(), 2e-4, 1e-5);
}

TEST(StepCost, IsNeverNegativeNorMisledByCountersThatStartAnew) {
  Counters counters;
  StepCost cost;
  for (int step = 0; step < 50; ++step) {
    // Features that only ever grow together, and one report with less time than the work takes.
    counters.Step(10, 4);
    cost.Learn(counters.stats);
  }
  cost.Learn({});
  counters.stats.busy_us_total += 1;
  cost.Learn(counters.stats);
  EXPECT_GE(cost.step(), 0);
  EXPECT_GE(cost.row(), 0);
  EXPECT_GE(cost.token(), 0);
  EXPECT_GT(cost.step() + 10 * cost.row() + 4 * cost.token(), 0);
}

TEST(SlotPlan, GivesEachJobTheSlotThatIsFreeFirst) {
  SlotPlan plan({{.slots = 2, .step_full = 1, .row = 0}});
  EXPECT_EQ(plan.FindNext().start, 0);
  plan.AddPlaced(0, {.tokens = 5});
  EXPECT_EQ(plan.FindNext().start, 0);
  plan.AddPlaced(0, {.tokens = 3});
  EXPECT_EQ(plan.FindNext().start, 3);
  plan.Add({.tokens = 10});
  EXPECT_EQ(plan.FindNext().start, 5);
}

TEST(SlotPlan, HasPromptsComputedOneAfterTheOtherWhileTheRestOfTheGroupWaits) {
  SlotPlan plan({{.slots = 4, .step_full = 1, .row = 0.5}});
  plan.Add({.rows = 2, .tokens = 10});
  plan.Add({.rows = 4, .tokens = 10});
  EXPECT_EQ(plan.FindNext().start, 0);
  EXPECT_EQ(plan.FindNext().prompts_done, 3);
  plan.Add({.tokens = 10});
  plan.Add({.tokens = 10});
  // The prompts take three seconds of all four slots.
  EXPECT_EQ(plan.FindNext().start, 10);
  plan.Add({.tokens = 10});
  EXPECT_EQ(plan.FindNext().start, 10);
  plan.Add({.tokens = 10});
  EXPECT_EQ(plan.FindNext().start, 14);
}

TEST(SlotPlan, PrefersTheGroupWhosePromptsAreDoneFirst) {
  SlotPlan plan({{.slots = 2, .step_full = 1, .row = 1}, {.slots = 2, .step_full = 1, .row = 1}});
  plan.Add({.rows = 4, .tokens = 1});
  EXPECT_EQ(plan.FindNext().group, 1U);
  plan.Add({.rows = 8, .tokens = 1});
  EXPECT_EQ(plan.FindNext().group, 0U);
}

}  // namespace
}  // namespace shoal::core
