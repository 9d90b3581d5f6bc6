// What service classes do to each other, deadlines, and what the scheduler reports of its work.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "tests/worker/engine/engine_fixture.h"

namespace shoal::engine {
namespace {

using enum ServiceClass;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

SequenceRequest Of(uint64_t id, ServiceClass service_class, int32_t prompt, int64_t tokens,
                   int64_t deadline_ms = 0) {
  return {.id = id,
          .prompt = Prompt(prompt, static_cast<int32_t>(id)),
          .params = Tokens(tokens),
          .service_class = service_class,
          .deadline_ms = deadline_ms};
}

std::vector<uint64_t> Started(const StepPlan& plan) {
  std::vector<uint64_t> ids;
  for (const SequenceStart& start : plan.starts) ids.push_back(start.id);
  return ids;
}

// A scheduler, and all that has come of each request.
struct Trial {
  explicit Trial(const SchedulerOptions& options) : engine(options) {}

  void Submit(const SequenceRequest& request) {
    ASSERT_EQ(engine.scheduler.Submit(request), SubmitOutcome::kAccepted);
    requests[request.id] = request;
  }
  std::vector<uint64_t> Step() {
    const auto plan = engine.Step();
    for (const SequenceUpdate& update : engine.scheduler.TakeUpdates()) {
      auto& all = updates[update.id];
      all.tokens.insert(all.tokens.end(), update.tokens.begin(), update.tokens.end());
      all.finish = update.finish;
      all.detail = update.detail;
      all.preemptions = std::max(all.preemptions, update.preemptions);
    }
    return plan ? Started(*plan) : std::vector<uint64_t>();
  }
  bool ended(uint64_t id) const {
    const auto found = updates.find(id);
    return found != updates.end() && found->second.finish != FinishReason::kNone;
  }
  // Whatever was preempted for whom, each answer is the one that its request gives alone.
  void ExpectAllAnswers() {
    for (int step = 0; step < 10'000 && !engine.scheduler.idle(); ++step) Step();
    ASSERT_TRUE(engine.scheduler.idle());
    for (const auto& [id, request] : requests) {
      EXPECT_EQ(updates[id].tokens,
                RunAlone(request.prompt, request.params, engine.context_tokens).tokens)
          << "sequence " << id;
    }
  }

  Engine engine;
  std::map<uint64_t, SequenceRequest> requests;
  std::map<uint64_t, SequenceUpdate> updates;
};

TEST(SchedulerClasses, StartsABetterClassAtOnceInThePlaceOfTheWorst) {
  Trial run(kOptions);
  run.Submit(Of(1, kSheddable, 200, 20));
  run.Submit(Of(2, kSheddable, 200, 20));
  run.Submit(Of(3, kCritical, 10, 40));
  run.Submit(Of(4, kSheddablePlus, 10, 40));
  for (int step = 0; step < 5; ++step) run.Step();
  EXPECT_EQ(run.engine.scheduler.stats().sequences_running, 4);
  // Their prompts fill the steps; it is in the very next one.
  run.Submit(Of(5, kCriticalPlus, 30, 5));
  EXPECT_THAT(run.Step(), ElementsAre(5));
  EXPECT_EQ(run.engine.scheduler.stats().preemptions_total, 1);
  EXPECT_EQ(run.updates[2].preemptions, 1) << "it is told at once, although nothing else is new";
  // The first sheddable is still there, and is the next to go; then comes the class above it.
  run.Submit(Of(6, kCriticalPlus, 30, 5));
  EXPECT_THAT(run.Step(), ElementsAre(6));
  run.Submit(Of(7, kCriticalPlus, 30, 5));
  EXPECT_THAT(run.Step(), ElementsAre(7));
  run.Submit(Of(8, kCriticalPlus, 30, 5));
  EXPECT_THAT(run.Step(), ElementsAre(8));
  EXPECT_EQ(run.engine.scheduler.stats().preemptions_total, 4);
  run.ExpectAllAnswers();
  int64_t told = 0;
  for (const auto& [id, update] : run.updates) told += update.preemptions;
  EXPECT_EQ(told, run.engine.scheduler.stats().preemptions_total);
}

TEST(SchedulerClasses, PreemptsNobodyOfItsOwnClassOrABetterOneWhateverThePriority) {
  SchedulerOptions options = kOptions;
  options.sequences_max = 2;
  Trial run(options);
  SequenceRequest low = Of(1, kCritical, 10, 30);
  low.params.priority = kPriorityMax;
  run.Submit(low);
  run.Submit(Of(2, kCriticalPlus, 10, 30));
  run.Step();
  SequenceRequest urgent = Of(3, kCritical, 10, 3);
  urgent.params.priority = kPriorityMin;
  run.Submit(urgent);
  SequenceRequest shed = Of(4, kSheddablePlus, 10, 3);
  shed.params.priority = kPriorityMin;
  run.Submit(shed);
  for (int step = 0; step < 5; ++step) EXPECT_THAT(run.Step(), ElementsAre());
  EXPECT_EQ(run.engine.scheduler.stats().preemptions_total, 0);
  run.ExpectAllAnswers();
}

TEST(SchedulerClasses, TakesTheBlocksOfAWorseClassAsWell) {
  SchedulerOptions options = kOptions;
  options.kv_block_count = 8;
  Trial run(options);
  run.Submit(Of(1, kSheddable, 100, 20));
  run.Submit(Of(2, kSheddable, 90, 20));
  for (int step = 0; step < 6; ++step) run.Step();
  run.Submit(Of(3, kCritical, 120, 5));
  EXPECT_THAT(run.Step(), ElementsAre(3));
  run.ExpectAllAnswers();
}

// Requests of the best class arrive without end, and those of the worst have long answers: one of
// these goes on to its end, which is the floor, and no other keeps a better one waiting.
TEST(SchedulerClasses, KeepsAFloorForTheWorstAndNoMore) {
  SchedulerOptions options = kOptions;
  options.requests_waiting_max = 100;
  Trial run(options);
  for (uint64_t id = 1; id <= 6; ++id) run.Submit(Of(id, kSheddable, 150, 100));
  for (int step = 0; step < 4; ++step) run.Step();
  uint64_t next = 100;
  std::set<uint64_t> late;
  for (int step = 0; step < 2'000 && !run.ended(6); ++step) {
    // Never more at once than the floor leaves slots.
    while (next < 102 || (run.ended(next - 2) && run.ended(next - 1))) {
      late.insert(next);
      run.Submit(Of(next++, kCriticalPlus, 20, 2));
    }
    for (const uint64_t id : run.Step()) late.erase(id);
    ASSERT_THAT(late, IsEmpty()) << "a better one waited beyond the step of its coming";
  }
  for (uint64_t id = 1; id <= 6; ++id) EXPECT_TRUE(run.ended(id)) << "sequence " << id;
  run.ExpectAllAnswers();
}

TEST(SchedulerClasses, GivesAPromotedPromptOnlyItsShareOfAStepBesideABetterOne) {
  SchedulerOptions options = kOptions;
  options.prefill_chunk_tokens = 36;
  options.requests_waiting_max = 100;
  Trial run(options);
  run.Submit(Of(1, kSheddable, 250, 2));
  // Prompts that fill each step pass it over until it is promoted.
  uint64_t next = 100;
  int most_steps = 0;
  for (int step = 0; step < 200 && !run.ended(1); ++step) {
    if (next == 100 || run.ended(next - 1)) {
      run.Submit(Of(next++, kCriticalPlus, 64, 1));
    }
    int steps = 0;
    while (!run.ended(next - 1) && steps < 20) {
      run.Step();
      ++steps;
    }
    most_steps = std::max(most_steps, steps);
  }
  EXPECT_TRUE(run.ended(1));
  // Of 36 rows four are the floor's: 64 take two steps, be the other promoted or not.
  EXPECT_LE(most_steps, 2);
  run.ExpectAllAnswers();
}

TEST(SchedulerDeadlines, EndsWhatIsOverdueWithTheNextPlan) {
  SchedulerOptions options = kOptions;
  options.sequences_max = 1;
  Trial run(options);
  run.engine.scheduler.SetTime(5 * kMillisecondNs);
  run.Submit(Of(1, kCritical, 10, 100, /*deadline_ms=*/20));
  run.Submit(Of(2, kCritical, 10, 100, /*deadline_ms=*/10));
  run.Submit(Of(3, kCritical, 10, 2));
  EXPECT_EQ(run.engine.scheduler.wake_time(), 15 * kMillisecondNs);
  run.Step();
  run.engine.scheduler.SetTime(14 * kMillisecondNs);
  EXPECT_EQ(run.engine.scheduler.deadline_left_ms(1), 11);
  EXPECT_EQ(run.engine.scheduler.deadline_left_ms(3), 0);
  run.Step();
  EXPECT_FALSE(run.ended(2));
  run.engine.scheduler.SetTime(15 * kMillisecondNs);
  run.Step();
  ASSERT_TRUE(run.ended(2)) << "it never started";
  EXPECT_EQ(run.updates[2].finish, FinishReason::kCancelled);
  EXPECT_EQ(run.updates[2].detail, kDeadlineOver);
  EXPECT_THAT(run.updates[2].tokens, ElementsAre());
  EXPECT_FALSE(run.ended(1));
  run.engine.scheduler.SetTime(25 * kMillisecondNs);
  EXPECT_THAT(run.Step(), ElementsAre(3)) << "its slot is free at once";
  EXPECT_EQ(run.updates[1].detail, kDeadlineOver);
  EXPECT_EQ(run.updates[1].tokens.size(), 3U);
}

TEST(SchedulerStats, TellsWhatIsLeftAndWhatWasDoneInWhatTime) {
  SchedulerOptions options = kOptions;
  options.sequences_max = 1;
  Engine engine(options);
  engine.Submit(1, Prompt(100), Tokens(10));
  engine.Submit(2, Prompt(20), Tokens(5));
  SchedulerStats stats = engine.scheduler.stats();
  EXPECT_EQ(stats.prompt_rows_left, 120);
  EXPECT_EQ(stats.tokens_left, 15);
  engine.Step();
  stats = engine.scheduler.stats();
  EXPECT_EQ(stats.prompt_rows_left, 56);
  EXPECT_EQ(stats.prompt_rows_total, 64);
  EXPECT_EQ(stats.generated_tokens_total, 0);
  engine.Step();
  engine.Step();
  stats = engine.scheduler.stats();
  EXPECT_EQ(stats.prompt_rows_left, 20);
  EXPECT_EQ(stats.tokens_left, 13);
  EXPECT_EQ(stats.prompt_rows_total, 100);
  EXPECT_EQ(stats.generated_tokens_total, 2);
  engine.scheduler.Cancel(2);
  EXPECT_EQ(engine.scheduler.stats().tokens_left, 8);
  engine.Drain();
  stats = engine.scheduler.stats();
  EXPECT_EQ(stats.prompt_rows_left, 0);
  EXPECT_EQ(stats.tokens_left, 0);
  EXPECT_EQ(stats.generated_tokens_total, 10);
}

TEST(SchedulerStats, IsBusyOnlyWhileAStepIsUnderWay) {
  Engine engine(kOptions);
  engine.scheduler.SetTime(1'000'000);
  engine.scheduler.SetTime(9'000'000);
  EXPECT_EQ(engine.scheduler.stats().busy_us_total, 0);
  engine.Submit(1, Prompt(10), Tokens(1));
  const StepPlan plan = *engine.scheduler.NextStep();
  engine.scheduler.SetTime(12'000'000);
  EXPECT_EQ(engine.scheduler.stats().busy_us_total, 3'000);
  engine.scheduler.OnResult(engine.group.Apply(plan));
  engine.scheduler.SetTime(14'000'000);
  EXPECT_EQ(engine.scheduler.stats().busy_us_total, 5'000) << "the result took until then";
  engine.scheduler.SetTime(99'000'000);
  EXPECT_EQ(engine.scheduler.stats().busy_us_total, 5'000);
}

}  // namespace
}  // namespace shoal::engine
