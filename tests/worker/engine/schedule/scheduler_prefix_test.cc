// Which cached blocks sequences take from each other, and which they must not.

#include <gtest/gtest.h>

#include "tests/worker/engine/engine_fixture.h"
#include "worker/engine/schedule/sequence.h"

namespace shoal::engine {
namespace {

SchedulerOptions PrefixOptions() {
  SchedulerOptions options = kOptions;
  options.prefix_cache = true;
  return options;
}

TEST(SchedulerPrefixes, StartsBehindTheFullBlocksThatItFinds) {
  Engine engine(PrefixOptions());
  engine.Submit(1, Prompt(70), Tokens(3));
  engine.Drain();
  engine.Submit(2, Prompt(80), Tokens(3));
  const StepPlan plan = *engine.Step();
  EXPECT_EQ(plan.starts.at(0).blocks.size(), 2U);
  EXPECT_EQ(plan.items.at(0).position_begin, 64U);
  EXPECT_EQ(plan.items.at(0).row_count, 16U);
  const SequenceUpdate joined = engine.Drain().at(2);
  EXPECT_EQ(joined.tokens, RunAlone(Prompt(80), Tokens(3), 256).tokens);
  EXPECT_EQ(joined.cached_tokens, 64);
  const SchedulerStats stats = engine.scheduler.stats();
  EXPECT_EQ(stats.prefix_cache_queries_total, 2);
  EXPECT_EQ(stats.prefix_cache_query_tokens_total, 150);
  EXPECT_EQ(stats.prefix_cache_hit_tokens_total, 64);
  EXPECT_EQ(stats.kv_blocks_used, 0);
  EXPECT_EQ(stats.kv_blocks_kept, 2);
}

TEST(SchedulerPrefixes, ComputesAtLeastTheLastTokenOfAPrompt) {
  Engine engine(PrefixOptions());
  engine.Submit(1, Prompt(64), Tokens(3));
  engine.Drain();
  engine.Submit(2, Prompt(64), Tokens(3));
  EXPECT_EQ(engine.Step()->items.at(0).position_begin, 32U);
  EXPECT_EQ(engine.Drain().at(2).tokens, RunAlone(Prompt(64), Tokens(3), 256).tokens);
}

TEST(SchedulerPrefixes, FindsAlsoWhatWasGenerated) {
  Engine engine(PrefixOptions());
  engine.Submit(1, Prompt(20), Tokens(50));
  std::vector<int32_t> conversation = Prompt(20);
  const std::vector<int32_t> answer = engine.Drain().at(1).tokens;
  conversation.insert(conversation.end(), answer.begin(), answer.end());
  engine.Submit(2, conversation, Tokens(1));
  EXPECT_EQ(engine.Step()->items.at(0).position_begin, 64U);
}

TEST(SchedulerPrefixes, SharesABlockWithASequenceThatStillRuns) {
  Engine engine(PrefixOptions());
  engine.Submit(1, Prompt(40), Tokens(60));
  const StepPlan first = *engine.Step();
  engine.Submit(2, Prompt(40), Tokens(60));
  const StepPlan second = *engine.Step();
  ASSERT_EQ(second.starts.at(0).blocks.size(), 1U);
  EXPECT_EQ(second.starts[0].blocks[0], first.items.at(0).new_blocks.at(0));
  EXPECT_EQ(engine.scheduler.stats().kv_blocks_used, 3);
  engine.scheduler.Cancel(1);
  EXPECT_EQ(engine.Drain().at(2).tokens, RunAlone(Prompt(40), Tokens(60), 256).tokens);
}

TEST(SchedulerPrefixes, FindsNothingOfAnotherSalt) {
  Engine engine(PrefixOptions());
  GenerationParams params = Tokens(1);
  params.cache_salt = "a";
  engine.Submit(1, Prompt(70), params);
  engine.Drain();
  params.cache_salt = "b";
  engine.Submit(2, Prompt(70), params);
  EXPECT_TRUE(engine.Step()->starts.at(0).blocks.empty());
}

TEST(SchedulerPrefixes, NeitherGivesNorTakesWithThePromptsLogprobs) {
  Engine engine(PrefixOptions());
  GenerationParams params = Tokens(1);
  params.prompt_logprobs = true;
  engine.Submit(1, Prompt(60), params);
  engine.Drain();
  EXPECT_EQ(engine.scheduler.stats().kv_blocks_kept, 0);
  engine.Submit(2, Prompt(60), Tokens(1));
  EXPECT_TRUE(engine.Step()->starts.at(0).blocks.empty());
  engine.Drain();
  engine.Submit(3, Prompt(60), params);
  EXPECT_TRUE(engine.Step()->starts.at(0).blocks.empty());
  EXPECT_EQ(engine.scheduler.stats().prefix_cache_queries_total, 1);
}

// Alone, the second request would meet the number that is not finite itself.
TEST(SchedulerPrefixes, KeepsNothingOfRowsWithANumericError) {
  Scheduler scheduler(PrefixOptions());
  ASSERT_EQ(scheduler.Submit({1, Prompt(40), Tokens(9)}), SubmitOutcome::kAccepted);
  const StepPlan plan = *scheduler.NextStep();
  ItemResult item;
  item.slot = plan.items.at(0).slot;
  item.bad_row = 20;
  item.detail = "layer 0, position 20";
  scheduler.OnResult({plan.step, {item}});
  ASSERT_EQ(scheduler.Submit({2, Prompt(40), Tokens(9)}), SubmitOutcome::kAccepted);
  EXPECT_TRUE(scheduler.NextStep()->starts.at(0).blocks.empty());
}

// What is wrong with a row, as a group would answer it; nothing with the other items.
StepResult Failing(const StepPlan& plan, uint32_t slot, int32_t bad_row) {
  StepResult result{plan.step, {}};
  for (const StepItem& planned : plan.items) {
    ItemResult& item = result.items.emplace_back();
    item.slot = planned.slot;
    if (planned.sample) item.chosen.push_back({.token = 7, .logprobs = {}});
    if (planned.slot == slot) item.bad_row = bad_row;
  }
  return result;
}

TEST(SchedulerPrefixes, SharesWithWhatArrivesInTheSameStep) {
  Engine engine(PrefixOptions());
  engine.Submit(1, Prompt(40), Tokens(5));
  engine.Submit(2, Prompt(40), Tokens(5));
  engine.Submit(3, Prompt(50), Tokens(5));
  const StepPlan plan = *engine.Step();
  ASSERT_EQ(plan.items.size(), 3U);
  EXPECT_EQ(plan.items[0].row_count, 40U);
  EXPECT_EQ(plan.items[1].row_count, 8U);
  EXPECT_EQ(plan.items[2].row_count, 16U);
  EXPECT_EQ(plan.starts[1].blocks, std::vector{plan.items[0].new_blocks[0]});
  const auto updates = engine.Drain();
  EXPECT_EQ(updates.at(2).tokens, RunAlone(Prompt(40), Tokens(5), 256).tokens);
  EXPECT_EQ(updates.at(3).tokens, RunAlone(Prompt(50), Tokens(5), 256).tokens);
}

// The blocks outlive the sequence whose rows fill them: its plan is under way.
TEST(SchedulerPrefixes, SharesWhatACancelledSequenceStillComputes) {
  SchedulerOptions options = PrefixOptions();
  options.steps_in_flight_max = 2;
  Engine engine(options);
  engine.Submit(1, Prompt(64), Tokens(5));
  const StepPlan first = *engine.scheduler.NextStep();
  engine.scheduler.Cancel(1);
  engine.Submit(2, Prompt(70), Tokens(5));
  const StepPlan second = *engine.scheduler.NextStep();
  EXPECT_EQ(second.items.at(0).position_begin, 64U);
  engine.scheduler.OnResult(engine.group.Apply(first));
  engine.scheduler.OnResult(engine.group.Apply(second));
  EXPECT_EQ(engine.Drain().at(2).tokens, RunAlone(Prompt(70), Tokens(5), 256).tokens);
}

TEST(SchedulerPrefixes, ComputesAgainWhatStartedBehindRowsWithANumericError) {
  Scheduler scheduler(PrefixOptions());
  ASSERT_EQ(scheduler.Submit({1, Prompt(40), Tokens(9)}), SubmitOutcome::kAccepted);
  ASSERT_EQ(scheduler.Submit({2, Prompt(40), Tokens(9)}), SubmitOutcome::kAccepted);
  const StepPlan plan = *scheduler.NextStep();
  ASSERT_EQ(plan.starts.at(1).blocks.size(), 1U);
  scheduler.OnResult(Failing(plan, plan.items.at(0).slot, 20));
  const std::vector<SequenceUpdate> updates = scheduler.TakeUpdates();
  ASSERT_EQ(updates.size(), 1U) << "the second one heard of tokens after a bad row";
  EXPECT_EQ(updates[0].id, 1U);
  EXPECT_EQ(updates[0].finish, FinishReason::kNumericError);
  const StepPlan again = *scheduler.NextStep();
  EXPECT_EQ(again.starts.at(0).id, 2U);
  EXPECT_TRUE(again.starts[0].blocks.empty());
  EXPECT_EQ(again.items.at(0).row_count, 40U);
  EXPECT_EQ(scheduler.stats().kv_blocks_kept, 0);
}

// Blocks before the bad row's are sound.
TEST(SchedulerPrefixes, StaysBehindBlocksBeforeANumericError) {
  SchedulerOptions options = PrefixOptions();
  options.prefill_chunk_tokens = 128;
  Scheduler scheduler(options);
  ASSERT_EQ(scheduler.Submit({1, Prompt(70), Tokens(9)}), SubmitOutcome::kAccepted);
  ASSERT_EQ(scheduler.Submit({2, Prompt(40), Tokens(9)}), SubmitOutcome::kAccepted);
  const StepPlan plan = *scheduler.NextStep();
  scheduler.OnResult(Failing(plan, plan.items.at(0).slot, 33));
  EXPECT_EQ(scheduler.stats().preemptions_total, 0);
  ASSERT_EQ(scheduler.Submit({3, Prompt(70), Tokens(9)}), SubmitOutcome::kAccepted);
  EXPECT_EQ(scheduler.NextStep()->starts.at(0).blocks, plan.starts.at(1).blocks);
}

// Starts request 2 after a block of request 1, of 40 tokens each, with two steps under way, and
// then finds row 5 bad.
void ExpectToStartAgain(int64_t chunk_tokens, bool cancel) {
  SchedulerOptions options = PrefixOptions();
  options.steps_in_flight_max = 2;
  options.prefill_chunk_tokens = chunk_tokens;
  Scheduler scheduler(options);
  ASSERT_EQ(scheduler.Submit({1, Prompt(40), Tokens(9)}), SubmitOutcome::kAccepted);
  const StepPlan first = *scheduler.NextStep();
  ASSERT_EQ(scheduler.Submit({2, Prompt(40), Tokens(9)}), SubmitOutcome::kAccepted);
  const StepPlan second = *scheduler.NextStep();
  ASSERT_EQ(second.starts.at(0).blocks.size(), 1U);
  if (cancel) scheduler.Cancel(1);
  scheduler.OnResult(Failing(first, first.items.at(0).slot, 5));
  scheduler.OnResult(Failing(second, kNoSlot, 0));
  const StepPlan again = *scheduler.NextStep();
  EXPECT_EQ(again.starts.at(0).id, 2U);
  EXPECT_TRUE(again.starts[0].blocks.empty());
}

TEST(SchedulerPrefixes, WithdrawsABlockThatOnlyTheNextStepFills) { ExpectToStartAgain(24, false); }

// Who reads the blocks of a sequence that is gone must not be missed.
TEST(SchedulerPrefixes, WithdrawsTheBlocksOfACancelledSequence) { ExpectToStartAgain(64, true); }

TEST(SchedulerPrefixes, GivesUpTheLeastRecentlyUsedWhenMemoryIsNeeded) {
  SchedulerOptions options = PrefixOptions();
  options.kv_block_count = 5;
  Engine engine(options);
  engine.Submit(1, Prompt(40, 100), Tokens(1));
  engine.Drain();
  engine.Submit(2, Prompt(40, 300), Tokens(1));
  engine.Drain();
  engine.Submit(3, Prompt(120, 200), Tokens(1));  // Four blocks: the older of the two must go.
  engine.Drain();
  engine.Submit(4, Prompt(40, 300), Tokens(1));
  EXPECT_EQ(engine.Step()->starts.at(0).blocks.size(), 1U);
  engine.Drain();
  engine.Submit(5, Prompt(40, 100), Tokens(1));
  EXPECT_TRUE(engine.Step()->starts.at(0).blocks.empty());
}

TEST(SchedulerPrefixes, LetsAPreemptedSequenceFindItsOwnBlocksAgain) {
  SchedulerOptions options = PrefixOptions();
  options.kv_block_count = 7;
  Engine engine(options);
  engine.Submit(1, Prompt(20), Tokens(80));
  engine.Submit(2, Prompt(80, 300), Tokens(60));
  const auto updates = engine.Drain();
  EXPECT_EQ(engine.scheduler.stats().preemptions_total, 1);
  EXPECT_GT(engine.scheduler.stats().prefix_cache_hit_tokens_total, 0);
  EXPECT_EQ(updates.at(1).tokens, RunAlone(Prompt(20), Tokens(80), 256).tokens);
  EXPECT_EQ(updates.at(2).tokens, RunAlone(Prompt(80, 300), Tokens(60), 256).tokens);
}

TEST(SchedulerPrefixes, ComputesTheSharedPartOfManyPromptsOnce) {
  SchedulerOptions options = PrefixOptions();
  options.prefill_chunk_tokens = 256;
  Engine engine(options);
  engine.Submit(1, Prompt(200), Tokens(1));
  engine.Drain();
  const int64_t rows = engine.group.rows_computed();
  for (uint64_t id = 2; id < 12; ++id) {
    engine.Submit(id, Prompt(200), Tokens(1));
    engine.Drain();
  }
  EXPECT_EQ(engine.group.rows_computed() - rows, 10 * (200 - 192));
}

}  // namespace
}  // namespace shoal::engine
