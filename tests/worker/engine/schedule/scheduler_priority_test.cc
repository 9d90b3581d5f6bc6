// The order of service by priority, and that every request is served in the end.

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/worker/engine/engine_fixture.h"

namespace shoal::engine {
namespace {

GenerationParams Priority(int32_t priority, int64_t tokens_max) {
  GenerationParams params = Tokens(tokens_max);
  params.priority = priority;
  return params;
}

std::vector<uint64_t> Started(const StepPlan& plan) {
  std::vector<uint64_t> ids;
  for (const SequenceStart& start : plan.starts) ids.push_back(start.id);
  return ids;
}

TEST(SchedulerPriorities, StartsTheLowerPriorityFirst) {
  SchedulerOptions options = kOptions;
  options.sequences_max = 1;
  Engine engine(options);
  engine.Submit(1, Prompt(5), Priority(1, 1));
  engine.Submit(2, Prompt(5), Priority(0, 1));
  engine.Submit(3, Prompt(5), Priority(-1, 1));
  engine.Submit(4, Prompt(5), Priority(-1, 1));
  std::vector<uint64_t> order;
  while (const auto plan = engine.Step()) {
    for (const uint64_t id : Started(*plan)) order.push_back(id);
  }
  EXPECT_EQ(order, (std::vector<uint64_t>{3, 4, 2, 1}));
}

TEST(SchedulerPriorities, GivesTheBudgetToAnUrgentPromptBeforeAStartedOne) {
  Engine engine(kOptions);
  engine.Submit(1, Prompt(200), Priority(1, 1));
  engine.Step();
  engine.Submit(2, Prompt(50), Priority(0, 1));
  const StepPlan plan = *engine.Step();
  ASSERT_EQ(plan.items.size(), 2U);
  EXPECT_EQ(Started(plan), (std::vector<uint64_t>{2}));
  EXPECT_EQ(plan.items[0].row_count, 50U);
  EXPECT_EQ(plan.items[1].row_count, 14U) << "the rest goes on with the other";
}

TEST(SchedulerPriorities, PreemptsTheLeastUrgentAndOfThoseTheYoungest) {
  SchedulerOptions options = kOptions;
  options.kv_block_count = 6;
  Engine engine(options);
  engine.Submit(1, Prompt(20, 1), Priority(1, 60));
  engine.Submit(2, Prompt(20, 100), Priority(1, 60));
  engine.Submit(3, Prompt(20, 200), Priority(0, 60));
  std::vector<uint64_t> started;
  std::map<uint64_t, std::vector<int32_t>> tokens;
  while (!engine.scheduler.idle()) {
    const StepPlan plan = *engine.Step();
    for (const uint64_t id : Started(plan)) started.push_back(id);
    for (const SequenceUpdate& update : engine.scheduler.TakeUpdates()) {
      auto& all = tokens[update.id];
      all.insert(all.end(), update.tokens.begin(), update.tokens.end());
    }
  }
  EXPECT_EQ(started, (std::vector<uint64_t>{3, 1, 2, 2}));
  EXPECT_EQ(tokens[2], RunAlone(Prompt(20, 100), Priority(1, 60), 256).tokens);
}

TEST(SchedulerPriorities, StartsTheLeastUrgentInAtLeastOneOfNineTurns) {
  SchedulerOptions options = kOptions;
  options.sequences_max = 1;
  options.requests_waiting_max = 100;
  Engine engine(options);
  engine.Submit(1, Prompt(5), Priority(9, 1));
  for (uint64_t id = 2; id < 40; ++id) engine.Submit(id, Prompt(5), Priority(0, 1));
  std::vector<uint64_t> order;
  while (const auto plan = engine.Step()) {
    for (const uint64_t id : Started(*plan)) order.push_back(id);
  }
  EXPECT_EQ(std::find(order.begin(), order.end(), 1U) - order.begin(), 8);
}

// Urgent prompts that take the whole budget arrive without end.
TEST(SchedulerPriorities, FinishesAStartedPromptBesideUrgentOnesWithoutEnd) {
  SchedulerOptions options = kOptions;
  options.sequences_max = 8;
  Engine engine(options);
  engine.Submit(1, Prompt(200), Priority(5, 1));
  engine.Step();
  uint64_t id = 2;
  bool finished = false;
  for (int step = 0; step < 60 && !finished; ++step) {
    if (engine.scheduler.stats().requests_waiting == 0) {
      engine.Submit(id++, Prompt(128, 300), Priority(0, 1));
    }
    engine.Step();
    for (const SequenceUpdate& update : engine.scheduler.TakeUpdates()) {
      finished = finished || update.id == 1;
    }
  }
  EXPECT_TRUE(finished);
}

// With one stage every sequence that has its token is in the next plan, whatever prompts wait, and
// a plan holds one chunk of prompts at most: a decode waits for no more than that.
TEST(SchedulerPriorities, LetsNoDecodeWaitForMoreThanOneChunk) {
  SchedulerOptions options = kOptions;
  options.sequences_max = 8;
  options.requests_waiting_max = 100;
  options.kv_block_count = 1000;
  Engine engine(options);
  for (uint64_t id = 1; id <= 4; ++id) engine.Submit(id, Prompt(10), Priority(7, 100));
  engine.Step();
  for (uint64_t id = 5; id < 60; ++id) engine.Submit(id, Prompt(150), Priority(0, 1));
  for (int step = 0; step < 90; ++step) {
    const StepPlan plan = *engine.Step();
    int64_t decodes = 0;
    int64_t prompt_rows = 0;
    for (const StepItem& item : plan.items) {
      const bool decode = item.position_begin >= 10 && item.slot < 4;
      (decode ? decodes : prompt_rows) += item.row_count;
    }
    EXPECT_EQ(decodes, 4);
    EXPECT_LE(prompt_rows, options.prefill_chunk_tokens);
  }
}

TEST(SchedulerPriorities, RunsTwoHundredAndFiftySixSequencesAtOnce) {
  SchedulerOptions options = kOptions;
  options.sequences_max = 256;
  options.requests_waiting_max = 0;
  options.prefill_chunk_tokens = 512;
  options.kv_block_count = 4096;
  Engine engine(options);
  for (uint64_t id = 1; id <= 256; ++id) {
    engine.Submit(id, Prompt(1 + static_cast<int32_t>(id % 50), static_cast<int32_t>(id)),
                  Tokens(40));
  }
  EXPECT_EQ(engine.scheduler.Submit({257, Prompt(1), Tokens(1)}), SubmitOutcome::kQueueFull);
  size_t widest = 0;
  std::map<uint64_t, std::vector<int32_t>> tokens;
  while (!engine.scheduler.idle()) {
    widest = std::max(widest, engine.Step()->items.size());
    for (const SequenceUpdate& update : engine.scheduler.TakeUpdates()) {
      auto& all = tokens[update.id];
      all.insert(all.end(), update.tokens.begin(), update.tokens.end());
    }
  }
  EXPECT_EQ(widest, 256U);
  for (uint64_t id = 1; id <= 256; ++id) {
    const auto prompt = Prompt(1 + static_cast<int32_t>(id % 50), static_cast<int32_t>(id));
    EXPECT_EQ(tokens[id], RunAlone(prompt, Tokens(40), 256).tokens) << "sequence " << id;
  }
}

}  // namespace
}  // namespace shoal::engine
