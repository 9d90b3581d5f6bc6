// The scheduler's promises one by one.

#include "worker/engine/schedule/scheduler.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>

#include "tests/worker/engine/engine_fixture.h"

namespace shoal::engine {
namespace {

TEST(Scheduler, RunsOneRequestToItsLength) {
  Engine engine(kOptions);
  engine.Submit(7, Prompt(10), Tokens(5));
  const auto updates = engine.Drain();
  EXPECT_EQ(updates.at(7).tokens, RunAlone(Prompt(10), Tokens(5), 256).tokens);
  EXPECT_EQ(updates.at(7).finish, FinishReason::kLength);
  EXPECT_FALSE(engine.Step());
}

TEST(Scheduler, DeliversTheStopTokenAsTheLast) {
  const std::vector<int32_t> tokens = RunAlone(Prompt(10), Tokens(8), 256).tokens;
  GenerationParams params = Tokens(8);
  params.stop_ids = {tokens[3]};
  Engine engine(kOptions);
  engine.Submit(1, Prompt(10), params);
  const auto updates = engine.Drain();
  EXPECT_EQ(updates.at(1).finish, FinishReason::kStop);
  EXPECT_EQ(updates.at(1).tokens.back(), tokens[3]);
  EXPECT_LE(updates.at(1).tokens.size(), 4U);
}

TEST(Scheduler, StopsAtTheContext) {
  Engine engine(kOptions);
  engine.Submit(1, Prompt(250), Tokens(100));
  const auto updates = engine.Drain();
  EXPECT_EQ(updates.at(1).tokens.size(), 6U);
  EXPECT_EQ(updates.at(1).finish, FinishReason::kLength);
}

TEST(Scheduler, RefusesWhatNeverFits) {
  SchedulerOptions options = kOptions;
  options.kv_block_count = 3;  // 96 positions.
  Scheduler scheduler(options);
  EXPECT_EQ(scheduler.Submit({1, Prompt(256), Tokens(1)}), SubmitOutcome::kNeverFits);
  EXPECT_EQ(scheduler.Submit({1, Prompt(96), Tokens(1)}), SubmitOutcome::kNeverFits);
  EXPECT_EQ(scheduler.Submit({1, Prompt(90), Tokens(7)}), SubmitOutcome::kNeverFits);
  EXPECT_EQ(scheduler.Submit({1, Prompt(90), Tokens(6)}), SubmitOutcome::kAccepted);

  options.kv_block_count = 64;
  Scheduler roomy(options);
  GenerationParams only_prompt = Tokens(0);
  only_prompt.prompt_logprobs = true;
  EXPECT_EQ(roomy.Submit({1, Prompt(256), Tokens(1)}), SubmitOutcome::kNeverFits);
  EXPECT_EQ(roomy.Submit({2, Prompt(257), only_prompt}), SubmitOutcome::kNeverFits);
  EXPECT_EQ(roomy.Submit({3, Prompt(256), only_prompt}), SubmitOutcome::kAccepted);
  EXPECT_EQ(roomy.Submit({4, Prompt(255), Tokens(INT64_MAX)}), SubmitOutcome::kAccepted);
}

TEST(Scheduler, RefusesToGoOnWhereNoRoomIsLeft) {
  Scheduler scheduler(kOptions);
  const auto go_on = [&](int32_t prompt, int32_t generated, int64_t tokens_max) {
    static uint64_t id = 0;
    return scheduler.Submit({++id, Prompt(prompt), Tokens(tokens_max), Prompt(generated)});
  };
  EXPECT_EQ(go_on(200, 56, 100), SubmitOutcome::kNeverFits) << "the context is full";
  EXPECT_EQ(go_on(200, 57, 100), SubmitOutcome::kNeverFits);
  EXPECT_EQ(go_on(200, 55, 100), SubmitOutcome::kAccepted);
}

// What a sequence brings along counts as its own answer's, and takes part in the prompt's budget.
TEST(Scheduler, GoesOnAfterTheTokensThatARequestBrings) {
  GenerationParams params = Tokens(5);
  params.prompt_logprobs = true;
  params.top_logprobs = 1;
  const Stream alone = RunAlone(Prompt(100), params, 256);
  for (const bool given : {false, true}) {
    Engine engine(kOptions);
    ASSERT_EQ(engine.scheduler.Submit({.id = 1,
                                       .prompt = Prompt(100),
                                       .params = params,
                                       .generated = {alone.tokens[0], alone.tokens[1]},
                                       .prompt_logprobs_given = given}),
              SubmitOutcome::kAccepted);
    EXPECT_EQ(engine.Step()->items.at(0).row_count, 64U);
    EXPECT_TRUE(engine.scheduler.TakeUpdates().empty());
    EXPECT_EQ(engine.Step()->items.at(0).row_count, 38U);
    const std::vector<SequenceUpdate> updates = engine.scheduler.TakeUpdates();
    ASSERT_EQ(updates.size(), 1U);
    EXPECT_EQ(updates[0].tokens, (std::vector{alone.tokens[2]}));
    EXPECT_EQ(updates[0].tokens_before, 2);
    EXPECT_EQ(updates[0].cached_tokens, 0);
    EXPECT_EQ(updates[0].prompt_logprobs_before, given ? 99 : 0);
    if (given) {
      EXPECT_TRUE(updates[0].prompt_logprobs.empty());
    } else {
      EXPECT_EQ(updates[0].prompt_logprobs, alone.prompt_logprobs);
    }
    const SequenceUpdate rest = engine.Drain().at(1);
    EXPECT_EQ(rest.tokens, (std::vector{alone.tokens[3], alone.tokens[4]}));
    EXPECT_EQ(rest.finish, FinishReason::kLength);
  }
}

// With several steps in flight the rows of the answer are planned before those of the prompt have
// brought their log-probabilities: these come once all the same.
TEST(Scheduler, DeliversThePromptsLogprobsOnceBeforeALongAnswerThatWasBrought) {
  SchedulerOptions options = kOptions;
  options.steps_in_flight_max = 2;
  GenerationParams params = Tokens(90);
  params.prompt_logprobs = true;
  params.top_logprobs = 1;
  const Stream alone = RunAlone(Prompt(10), params, 256);
  Engine engine(options);
  std::vector<int32_t> generated(alone.tokens.begin(), alone.tokens.begin() + 80);
  ASSERT_EQ(engine.scheduler.Submit({1, Prompt(10), params, std::move(generated)}),
            SubmitOutcome::kAccepted);
  const StepPlan first = *engine.scheduler.NextStep();
  const StepPlan second = *engine.scheduler.NextStep();
  EXPECT_TRUE(first.items.at(0).prompt_logits);
  EXPECT_FALSE(second.items.at(0).prompt_logits);
  engine.scheduler.OnResult(engine.group.Apply(first));
  engine.scheduler.OnResult(engine.group.Apply(second));
  const std::vector<SequenceUpdate> updates = engine.scheduler.TakeUpdates();
  ASSERT_EQ(updates.size(), 1U);
  EXPECT_EQ(updates[0].prompt_logprobs, alone.prompt_logprobs);
  EXPECT_EQ(updates[0].tokens, (std::vector{alone.tokens[80]}));
}

TEST(Scheduler, SaysWhenTheQueueIsFull) {
  SchedulerOptions options = kOptions;
  options.sequences_max = 1;
  options.requests_waiting_max = 1;
  Engine engine(options);
  engine.Submit(1, Prompt(4), Tokens(3));
  engine.Submit(2, Prompt(4), Tokens(3));
  EXPECT_EQ(engine.scheduler.Submit({3, Prompt(4), Tokens(3)}), SubmitOutcome::kQueueFull);
  engine.Step();
  EXPECT_EQ(engine.scheduler.Submit({3, Prompt(4), Tokens(3)}), SubmitOutcome::kQueueFull);
  EXPECT_EQ(engine.Drain().size(), 2U);
  EXPECT_EQ(engine.scheduler.Submit({3, Prompt(4), Tokens(3)}), SubmitOutcome::kAccepted);
}

TEST(Scheduler, HasRoomAgainAsSoonAsSomethingIsCancelled) {
  SchedulerOptions options = kOptions;
  options.sequences_max = 2;
  options.requests_waiting_max = 1;
  options.steps_in_flight_max = 2;
  Engine engine(options);
  engine.Submit(1, Prompt(100), Tokens(3));
  engine.Submit(2, Prompt(4), Tokens(3));
  const StepPlan plan = *engine.scheduler.NextStep();
  engine.Submit(3, Prompt(4), Tokens(3));
  for (uint64_t id = 1; id <= 3; ++id) {
    EXPECT_EQ(engine.scheduler.Submit({id + 10, Prompt(4), Tokens(3)}), SubmitOutcome::kQueueFull);
    engine.scheduler.Cancel(id);
    engine.Submit(id + 10, Prompt(4), Tokens(3));
  }
  engine.scheduler.OnResult(engine.group.Apply(plan));
  const auto streams = engine.Drain();
  for (uint64_t id = 1; id <= 3; ++id) {
    EXPECT_EQ(streams.at(id).finish, FinishReason::kCancelled);
    EXPECT_EQ(streams.at(id + 10).finish, FinishReason::kLength);
  }
}

TEST(Scheduler, SharesThePrefillBudgetInArrivalOrder) {
  Engine engine(kOptions);
  engine.Submit(1, Prompt(100), Tokens(2));
  engine.Submit(2, Prompt(50), Tokens(2));
  const StepPlan first = *engine.Step();
  ASSERT_EQ(first.items.size(), 1U);
  EXPECT_EQ(first.items[0].row_count, 64U);
  const StepPlan second = *engine.Step();
  ASSERT_EQ(second.items.size(), 2U);
  EXPECT_EQ(second.items[0].position_begin, 64U);
  EXPECT_EQ(second.items[0].row_count, 36U);
  EXPECT_TRUE(second.items[0].sample);
  EXPECT_EQ(second.items[1].row_count, 28U);
  EXPECT_FALSE(second.items[1].sample);
}

TEST(Scheduler, DecodesBesideThePromptsOfOthers) {
  Engine engine(kOptions);
  engine.Submit(1, Prompt(10), Tokens(50));
  engine.Step();
  engine.Submit(2, Prompt(200), Tokens(5));
  const StepPlan plan = *engine.Step();
  ASSERT_EQ(plan.items.size(), 2U);
  EXPECT_EQ(plan.items[0].row_count, 1U);
  EXPECT_EQ(plan.items[1].row_count, 64U);
  ASSERT_EQ(plan.known.size(), 1U);
  EXPECT_EQ(plan.known[0].slot, plan.items[0].slot);
}

TEST(Scheduler, PlansTheNextChunkWhileOneIsInFlightButOneDecodeOnly) {
  SchedulerOptions options = kOptions;
  options.steps_in_flight_max = 3;
  Engine engine(options);
  engine.Submit(1, Prompt(100), Tokens(5));
  std::deque<StepResult> results;
  for (const uint32_t rows : {64U, 36U}) {
    const std::optional<StepPlan> plan = engine.scheduler.NextStep();
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->items.at(0).row_count, rows);
    results.push_back(engine.group.Apply(*plan));
  }
  EXPECT_FALSE(engine.scheduler.NextStep()) << "the token of the last row is not known yet";
  engine.scheduler.OnResult(results[0]);
  EXPECT_FALSE(engine.scheduler.NextStep());
  engine.scheduler.OnResult(results[1]);
  EXPECT_TRUE(engine.scheduler.NextStep());
  EXPECT_FALSE(engine.scheduler.NextStep());
}

TEST(Scheduler, SharesDecodesOutOverTheStepsInFlight) {
  SchedulerOptions options = kOptions;
  options.steps_in_flight_max = 2;
  Engine engine(options);
  for (uint64_t id = 1; id <= 4; ++id) engine.Submit(id, Prompt(4), Tokens(9));
  engine.Step();
  const std::optional<StepPlan> first = engine.scheduler.NextStep();
  const std::optional<StepPlan> second = engine.scheduler.NextStep();
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->items.size(), 2U);
  EXPECT_EQ(second->items.size(), 2U);
  EXPECT_FALSE(engine.scheduler.NextStep()) << "two steps are in flight";
}

TEST(Scheduler, LetsRequestsWaitWhileTheCacheIsFull) {
  SchedulerOptions options = kOptions;
  options.kv_block_count = 2;
  Engine engine(options);
  engine.Submit(1, Prompt(33), Tokens(4));
  engine.Submit(2, Prompt(20), Tokens(4));
  engine.Step();
  EXPECT_EQ(engine.scheduler.stats().requests_waiting, 1);
  EXPECT_EQ(engine.scheduler.stats().sequences_running, 1);
  const auto updates = engine.Drain();
  EXPECT_EQ(updates.at(1).tokens, RunAlone(Prompt(33), Tokens(4), 256).tokens);
  EXPECT_EQ(updates.at(2).tokens, RunAlone(Prompt(20), Tokens(4), 256).tokens);
}

TEST(Scheduler, PreemptsTheYoungestAndRecomputesItToTheSameTokens) {
  SchedulerOptions options = kOptions;
  options.kv_block_count = 4;
  Engine engine(options);
  engine.Submit(1, Prompt(20), Tokens(60));
  engine.Submit(2, Prompt(20, 100), Tokens(60));
  std::vector<uint64_t> started;
  std::map<uint64_t, std::vector<int32_t>> tokens;
  for (int step = 0; step < 1000 && !engine.scheduler.idle(); ++step) {
    const std::optional<StepPlan> plan = engine.Step();
    ASSERT_TRUE(plan);
    for (const SequenceStart& start : plan->starts) {
      started.push_back(start.id);
      EXPECT_EQ(start.prompt_count, 20U);
      EXPECT_EQ(start.tokens.size(), 20 + tokens[start.id].size()) << "it restarts with its tokens";
    }
    for (const SequenceUpdate& update : engine.scheduler.TakeUpdates()) {
      auto& all = tokens[update.id];
      all.insert(all.end(), update.tokens.begin(), update.tokens.end());
    }
  }
  EXPECT_EQ(started, (std::vector<uint64_t>{1, 2, 2}));
  EXPECT_EQ(engine.scheduler.stats().preemptions_total, 1);
  EXPECT_EQ(tokens[1], RunAlone(Prompt(20), Tokens(60), 256).tokens);
  EXPECT_EQ(tokens[2], RunAlone(Prompt(20, 100), Tokens(60), 256).tokens);
}

TEST(Scheduler, FreesACancelledSequenceWithThePlanThatFollows) {
  Engine engine(kOptions);
  engine.Submit(1, Prompt(40), Tokens(50));
  engine.Step();
  static_cast<void>(engine.scheduler.TakeUpdates());
  engine.scheduler.Cancel(1);
  const auto updates = engine.scheduler.TakeUpdates();
  ASSERT_EQ(updates.size(), 1U);
  EXPECT_EQ(updates[0].finish, FinishReason::kCancelled);
  EXPECT_EQ(engine.scheduler.stats().kv_blocks_used, 0);
  const std::optional<StepPlan> plan = engine.Step();
  ASSERT_TRUE(plan) << "the end of a cancelled sequence is sent alone";
  EXPECT_EQ(plan->ends, (std::vector<uint32_t>{0}));
  EXPECT_EQ(engine.group.live_slots(), 0U);
  EXPECT_FALSE(engine.Step());
}

TEST(Scheduler, ReusesASlotWhileItsFormerSequenceIsInFlight) {
  SchedulerOptions options = kOptions;
  options.sequences_max = 1;
  options.steps_in_flight_max = 2;
  Engine engine(options);
  engine.Submit(1, Prompt(10), Tokens(5));
  const StepResult former = engine.group.Apply(*engine.scheduler.NextStep());
  engine.scheduler.Cancel(1);
  engine.Submit(1, Prompt(12, 60), Tokens(1));  // The same id, too.
  const StepPlan plan = *engine.scheduler.NextStep();
  EXPECT_EQ(plan.ends, (std::vector<uint32_t>{0}));
  ASSERT_EQ(plan.starts.size(), 1U);
  EXPECT_EQ(plan.starts[0].slot, 0U);
  const StepResult latter = engine.group.Apply(plan);
  engine.scheduler.OnResult(former);
  engine.scheduler.OnResult(latter);
  const auto updates = engine.scheduler.TakeUpdates();
  ASSERT_EQ(updates.size(), 2U);
  EXPECT_EQ(updates[0].finish, FinishReason::kCancelled);
  EXPECT_TRUE(updates[0].tokens.empty());
  EXPECT_EQ(updates[1].tokens, RunAlone(Prompt(12, 60), Tokens(1), 256).tokens);
  EXPECT_TRUE(engine.scheduler.idle());
}

TEST(Scheduler, IgnoresTheCancelOfUnknownAndFinishedRequests) {
  Engine engine(kOptions);
  engine.scheduler.Cancel(5);
  engine.Submit(1, Prompt(3), Tokens(1));
  engine.Drain();
  engine.scheduler.Cancel(1);
  EXPECT_TRUE(engine.scheduler.TakeUpdates().empty());
  EXPECT_FALSE(engine.scheduler.NextStep());
}

TEST(Scheduler, DeliversThePromptsLogprobsOnceWithTheFirstToken) {
  GenerationParams params = Tokens(3);
  params.prompt_logprobs = true;
  params.top_logprobs = 2;
  Engine engine(kOptions);
  engine.Submit(1, Prompt(100), params);
  engine.Step();
  EXPECT_TRUE(engine.scheduler.TakeUpdates().empty()) << "the prompt is not finished";
  engine.Step();
  auto updates = engine.scheduler.TakeUpdates();
  ASSERT_EQ(updates.size(), 1U);
  EXPECT_EQ(updates[0].prompt_logprobs, RunAlone(Prompt(100), params, 256).prompt_logprobs);
  EXPECT_EQ(updates[0].prompt_logprobs.size(), 99U);
  EXPECT_EQ(updates[0].tokens.size(), 1U);
  EXPECT_EQ(updates[0].logprobs.size(), 1U);
  engine.Step();
  EXPECT_TRUE(engine.scheduler.TakeUpdates().at(0).prompt_logprobs.empty());
}

TEST(Scheduler, EndsAfterThePromptIfNoTokensAreWanted) {
  GenerationParams params = Tokens(0);
  params.prompt_logprobs = true;
  Engine engine(kOptions);
  engine.Submit(1, Prompt(70), params);
  engine.Step();
  engine.Step();
  const auto updates = engine.scheduler.TakeUpdates();
  ASSERT_EQ(updates.size(), 1U);
  EXPECT_EQ(updates[0].prompt_logprobs.size(), 69U);
  EXPECT_TRUE(updates[0].tokens.empty());
  EXPECT_EQ(updates[0].finish, FinishReason::kLength);
  EXPECT_TRUE(engine.scheduler.idle());
}

TEST(Scheduler, EndsASequenceWithItsNumericError) {
  Scheduler scheduler(kOptions);
  ASSERT_EQ(scheduler.Submit({1, Prompt(3), Tokens(9)}), SubmitOutcome::kAccepted);
  const StepPlan plan = *scheduler.NextStep();
  ItemResult item;
  item.slot = plan.items.at(0).slot;
  item.bad_row = 2;
  item.detail = "layer 7, position 2";
  scheduler.OnResult({plan.step, {item}});
  const auto updates = scheduler.TakeUpdates();
  ASSERT_EQ(updates.size(), 1U);
  EXPECT_EQ(updates[0].finish, FinishReason::kNumericError);
  EXPECT_EQ(updates[0].detail, "layer 7, position 2");
  EXPECT_EQ(scheduler.stats().kv_blocks_used, 0);
}

TEST(Scheduler, SendsAnEmptyPlanWhenAskedAndNumbersItLikeAnyOther) {
  Engine engine(kOptions);
  const std::optional<StepPlan> idle = engine.scheduler.NextIdleStep();
  ASSERT_TRUE(idle);
  EXPECT_TRUE(idle->items.empty());
  EXPECT_FALSE(engine.scheduler.NextIdleStep()) << "one step is in flight";
  engine.scheduler.OnResult(engine.group.Apply(*idle));
  const StepPlan stop = engine.scheduler.StopStep();
  EXPECT_TRUE(stop.stop);
  EXPECT_EQ(stop.step, idle->step + 1);
}

}  // namespace
}  // namespace shoal::engine
