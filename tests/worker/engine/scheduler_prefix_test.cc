// What sequences find of each other in the cache, and what they must not.

#include <gtest/gtest.h>

#include "tests/worker/engine/engine_fixture.h"

namespace shoal::engine {
namespace {

SchedulerOptions Options() {
  SchedulerOptions options = kOptions;
  options.prefix_cache = true;
  return options;
}

TEST(SchedulerPrefixes, StartsBehindTheFullBlocksThatItFinds) {
  Engine engine(Options());
  engine.Submit(1, Prompt(70), Tokens(3));
  engine.Drain();
  engine.Submit(2, Prompt(80), Tokens(3));
  const StepPlan plan = *engine.Step();
  EXPECT_EQ(plan.starts.at(0).blocks.size(), 2U);
  EXPECT_EQ(plan.items.at(0).position_begin, 64U);
  EXPECT_EQ(plan.items.at(0).row_count, 16U);
  EXPECT_EQ(engine.Drain().at(2).tokens, RunAlone(Prompt(80), Tokens(3), 256).tokens);
  const SchedulerStats stats = engine.scheduler.stats();
  EXPECT_EQ(stats.prefix_cache_queries_total, 2);
  EXPECT_EQ(stats.prefix_cache_query_tokens_total, 150);
  EXPECT_EQ(stats.prefix_cache_hit_tokens_total, 64);
  EXPECT_EQ(stats.kv_blocks_used, 0);
  EXPECT_EQ(stats.kv_blocks_kept, 2);
}

TEST(SchedulerPrefixes, ComputesAtLeastTheLastTokenOfAPrompt) {
  Engine engine(Options());
  engine.Submit(1, Prompt(64), Tokens(3));
  engine.Drain();
  engine.Submit(2, Prompt(64), Tokens(3));
  EXPECT_EQ(engine.Step()->items.at(0).position_begin, 32U);
  EXPECT_EQ(engine.Drain().at(2).tokens, RunAlone(Prompt(64), Tokens(3), 256).tokens);
}

TEST(SchedulerPrefixes, FindsAlsoWhatWasGenerated) {
  Engine engine(Options());
  engine.Submit(1, Prompt(20), Tokens(50));
  std::vector<int32_t> conversation = Prompt(20);
  const std::vector<int32_t> answer = engine.Drain().at(1).tokens;
  conversation.insert(conversation.end(), answer.begin(), answer.end());
  engine.Submit(2, conversation, Tokens(1));
  EXPECT_EQ(engine.Step()->items.at(0).position_begin, 64U);
}

TEST(SchedulerPrefixes, SharesABlockWithASequenceThatStillRuns) {
  Engine engine(Options());
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
  Engine engine(Options());
  GenerationParams params = Tokens(1);
  params.cache_salt = "a";
  engine.Submit(1, Prompt(70), params);
  engine.Drain();
  params.cache_salt = "b";
  engine.Submit(2, Prompt(70), params);
  EXPECT_TRUE(engine.Step()->starts.at(0).blocks.empty());
}

TEST(SchedulerPrefixes, NeitherGivesNorTakesWithThePromptsLogprobs) {
  Engine engine(Options());
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
  Scheduler scheduler(Options());
  ASSERT_EQ(scheduler.Submit(1, Prompt(40), Tokens(9)), SubmitOutcome::kAccepted);
  const StepPlan plan = *scheduler.NextStep();
  ItemResult item;
  item.slot = plan.items.at(0).slot;
  item.bad_row = 35;
  item.detail = "layer 0, position 35";
  scheduler.OnResult({plan.step, {item}});
  ASSERT_EQ(scheduler.Submit(2, Prompt(40), Tokens(9)), SubmitOutcome::kAccepted);
  EXPECT_TRUE(scheduler.NextStep()->starts.at(0).blocks.empty());
}

TEST(SchedulerPrefixes, GivesUpTheLeastRecentlyUsedWhenMemoryIsNeeded) {
  SchedulerOptions options = Options();
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
  SchedulerOptions options = Options();
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
  SchedulerOptions options = Options();
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
