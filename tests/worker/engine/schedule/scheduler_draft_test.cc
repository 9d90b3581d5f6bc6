// Guessed tokens: what is taken of them, and that nothing else changes.

#include <gtest/gtest.h>

#include "tests/worker/engine/engine_fixture.h"

namespace shoal::engine {
namespace {

constexpr uint64_t kRepetitive = 1;  // A seed whose text mostly repeats itself.

SchedulerOptions DraftOptions() {
  SchedulerOptions options = kOptions;
  options.speculation_tokens_max = 8;
  return options;
}

GenerationParams Repetitive(int64_t tokens_max) {
  GenerationParams params = Tokens(tokens_max);
  params.sampling.seed = kRepetitive;
  return params;
}

// A result in which every row chooses what `choose` says.
template <typename Choose>
StepResult Answer(const StepPlan& plan, const Choose& choose) {
  StepResult result;
  result.step = plan.step;
  for (const StepItem& item : plan.items) {
    ItemResult& answer = result.items.emplace_back();
    answer.slot = item.slot;
    for (size_t row = 0; item.sample && row <= item.drafts.size(); ++row) {
      answer.chosen.push_back({choose(item, row), {}});
    }
  }
  return result;
}

// A scheduler whose one sequence has a prompt that repeats, and has its first token.
struct Repeating {
  explicit Repeating(const GenerationParams& params) : scheduler(DraftOptions()) {
    EXPECT_EQ(scheduler.Submit({1, {1, 2, 3, 4, 5, 1, 2, 3}, params}), SubmitOutcome::kAccepted);
    Respond([](const StepItem&, size_t) { return 4; });
    static_cast<void>(scheduler.TakeUpdates());
  }
  template <typename Choose>
  StepPlan Respond(const Choose& choose) {
    StepPlan plan = *scheduler.NextStep();
    scheduler.OnResult(Answer(plan, choose));
    return plan;
  }
  SequenceUpdate Update() {
    std::vector<SequenceUpdate> updates = scheduler.TakeUpdates();
    EXPECT_EQ(updates.size(), 1U);
    return updates.empty() ? SequenceUpdate{} : updates[0];
  }

  Scheduler scheduler;
};

int32_t AsGuessed(const StepItem& item, size_t row) {
  return row < item.drafts.size() ? item.drafts[row] : 77;
}

TEST(SchedulerDrafts, TakesGuessesWhileTheyAreWhatTheRowsChose) {
  Repeating run(Tokens(20));
  const StepPlan plan = run.Respond(AsGuessed);
  EXPECT_EQ(plan.items.at(0).drafts, (std::vector<int32_t>{5, 1}));
  EXPECT_EQ(plan.items.at(0).row_count, 3U);
  EXPECT_EQ(run.Update().tokens, (std::vector<int32_t>{5, 1, 77}));
  const StepPlan next = *run.scheduler.NextStep();
  EXPECT_EQ(next.items.at(0).position_begin, 11U);
  ASSERT_EQ(next.known.size(), 3U) << "the ranks learn all of them";
  EXPECT_EQ(next.known[2].token, 77);
}

TEST(SchedulerDrafts, ComputesTheRowsBehindAWrongGuessAnew) {
  Repeating run(Tokens(20));
  run.Respond([](const StepItem&, size_t row) { return row == 0 ? 9 : 1; });
  EXPECT_EQ(run.Update().tokens, (std::vector<int32_t>{9}));
  const StepPlan next = *run.scheduler.NextStep();
  EXPECT_EQ(next.items.at(0).position_begin, 9U);
  EXPECT_EQ(next.known.size(), 1U);
  const SchedulerStats stats = run.scheduler.stats();
  EXPECT_EQ(stats.drafted_tokens_total, 2);
  EXPECT_EQ(stats.accepted_tokens_total, 0);
}

TEST(SchedulerDrafts, EndsAtAStopTokenAmongTheGuesses) {
  GenerationParams params = Tokens(20);
  params.stop_ids = {5};
  Repeating run(params);
  run.Respond(AsGuessed);
  const SequenceUpdate update = run.Update();
  EXPECT_EQ(update.tokens, (std::vector<int32_t>{5}));
  EXPECT_EQ(update.finish, FinishReason::kStop);
}

TEST(SchedulerDrafts, GuessesNoMoreThanTheAnswerMayHave) {
  Repeating run(Tokens(3));
  const StepPlan plan = run.Respond(AsGuessed);
  EXPECT_EQ(plan.items.at(0).drafts.size(), 1U);
  const SequenceUpdate update = run.Update();
  EXPECT_EQ(update.tokens, (std::vector<int32_t>{5, 77}));
  EXPECT_EQ(update.finish, FinishReason::kLength);
}

TEST(SchedulerDrafts, CutsTheLongestAnswerToTheContext) {
  Scheduler scheduler(DraftOptions());
  ASSERT_EQ(scheduler.Submit({1, Prompt(8), Tokens(INT64_MAX)}), SubmitOutcome::kAccepted);
  EXPECT_EQ(scheduler.NextStep()->starts.at(0).params.tokens_max, 256 - 8);
}

TEST(SchedulerDrafts, MindsNoBadNumberBehindAWrongGuess) {
  Repeating run(Tokens(20));
  const StepPlan plan = *run.scheduler.NextStep();
  StepResult result = Answer(plan, [](const StepItem&, size_t) { return 9; });
  result.items[0].bad_row = 1;
  result.items[0].detail = "layer 0, position 9";
  run.scheduler.OnResult(std::move(result));
  const SequenceUpdate update = run.Update();
  EXPECT_EQ(update.tokens, (std::vector<int32_t>{9}));
  EXPECT_EQ(update.finish, FinishReason::kNone);
}

TEST(SchedulerDrafts, ReportsABadNumberWherePlainDecodingMeetsIt) {
  Repeating run(Tokens(20));
  const StepPlan plan = *run.scheduler.NextStep();
  StepResult result = Answer(plan, AsGuessed);
  result.items[0].bad_row = 1;
  result.items[0].detail = "layer 0, position 9";
  run.scheduler.OnResult(std::move(result));
  const SequenceUpdate update = run.Update();
  EXPECT_EQ(update.tokens, (std::vector<int32_t>{5})) << "the row before it is sound";
  EXPECT_EQ(update.finish, FinishReason::kNumericError);
  EXPECT_EQ(update.detail, "layer 0, position 9");
}

TEST(SchedulerDrafts, GuessesNothingWhileAPromptHasWork) {
  Repeating run(Tokens(20));
  ASSERT_EQ(run.scheduler.Submit({2, Prompt(100, 50), Tokens(2)}), SubmitOutcome::kAccepted);
  const auto five = [](const StepItem&, size_t) { return 5; };
  for (int step = 0; step < 2; ++step) {
    for (const StepItem& item : run.Respond(five).items) EXPECT_TRUE(item.drafts.empty());
  }
}

TEST(SchedulerDrafts, KeepsAStepWithGuessesSmall) {
  SchedulerOptions options = DraftOptions();
  options.sequences_max = 32;
  options.speculation_tokens_max = 16;
  options.kv_block_count = 500;
  Engine engine(options);
  for (uint64_t id = 1; id <= 10; ++id) {
    GenerationParams params = Repetitive(100);
    params.sampling.seed = 3 * id + 1;
    engine.Submit(id, Prompt(6), params);
  }
  bool guessed = false;
  while (const auto plan = engine.Step()) {
    int64_t drafts = 0;
    for (const StepItem& item : plan->items) drafts += static_cast<int64_t>(item.drafts.size());
    if (drafts == 0) continue;
    guessed = true;
    EXPECT_LE(plan->row_count(), 16);
  }
  EXPECT_TRUE(guessed);
}

TEST(SchedulerDrafts, TakesFewerStepsForATextThatRepeats) {
  const Stream alone = RunAlone(Prompt(6), Repetitive(200), 256);
  int64_t steps[2] = {0, 0};
  for (const int32_t guesses : {0, 8}) {
    SchedulerOptions options = DraftOptions();
    options.speculation_tokens_max = guesses;
    Engine engine(options);
    engine.Submit(1, Prompt(6), Repetitive(200));
    EXPECT_EQ(engine.Drain().at(1).tokens, alone.tokens);
    steps[guesses / 8] = engine.scheduler.stats().steps_total;
  }
  EXPECT_LT(2 * steps[1], steps[0]);
}

TEST(SchedulerDrafts, LeavesOnlyRowsOfTakenGuessesInThePrefixCache) {
  SchedulerOptions options = DraftOptions();
  options.prefix_cache = true;
  Engine engine(options);
  engine.Submit(1, Prompt(6), Repetitive(200));
  std::vector<int32_t> conversation = Prompt(6);
  const std::vector<int32_t> answer = engine.Drain().at(1).tokens;
  conversation.insert(conversation.end(), answer.begin(), answer.end());
  engine.Submit(2, conversation, Repetitive(20));
  EXPECT_EQ(engine.Step()->starts.at(0).blocks.size(), 6U);  // The group checks what is in them.
  EXPECT_EQ(engine.Drain().at(2).tokens, RunAlone(conversation, Repetitive(20), 256).tokens);
}

}  // namespace
}  // namespace shoal::engine
