// What the end of a step makes of its logits: each row's own token, whatever others want beside it.

#include "worker/forward/choice/token_chooser.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "parallel/comm/forked_group.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/patience.h"
#include "tests/support/scratch_folder.h"
#include "worker/forward/rank_model.h"

namespace shoal::forward {
namespace {

constexpr uint32_t kPromptTokens = 5;
// More rows than logits that are in memory at once.
constexpr uint32_t kSequences = kLogitTileRows + 5;
constexpr uint32_t kScored = 7;  // The sequence whose prompt's log-probabilities are wanted.

GenerationParams ParamsOf(uint32_t slot) {
  GenerationParams params;
  params.sampling.seed = slot;
  params.sampling.temperature = slot % 4 == 0 ? 0 : 0.8;
  if (slot % 4 == 2) {
    params.sampling.top_k = 5;
    params.top_logprobs = 3;
  }
  if (slot % 4 == 3) {
    params.sampling.presence_penalty = 1.5;
    params.sampling.logit_bias = {{.token = 12, .bias = 2}};
    params.sampling.min_tokens = 2;
    params.stop_ids = {3, 4};
  }
  if (slot == kScored) {
    params.prompt_logprobs = true;
    params.top_logprobs = 2;
  }
  return params;
}

// Every sequence's whole prompt, in one step.
engine::StepPlan MakePlan() {
  engine::StepPlan plan;
  for (uint32_t slot = 0; slot < kSequences; ++slot) {
    engine::SequenceStart& start = plan.starts.emplace_back();
    start.slot = slot;
    start.id = 100 + slot;
    for (uint32_t i = 0; i < kPromptTokens; ++i) {
      start.tokens.push_back(static_cast<int32_t>((slot * 31 + i * 7) % 500));
    }
    start.prompt_count = kPromptTokens;
    start.params = ParamsOf(slot);
    engine::StepItem& item = plan.items.emplace_back();
    item.slot = slot;
    item.row_count = kPromptTokens;
    item.sample = true;
    item.prompt_logits = slot == kScored;
    item.new_blocks = {static_cast<int32_t>(slot)};
  }
  return plan;
}

using Logits = std::map<std::pair<uint64_t, int64_t>, std::vector<float>>;

class TokenChooserTest : public testing::Test {
 protected:
  // On one rank. `logits`: what all rows' were, by id and position; null: nobody watches, and the
  // maximum alone is looked for where it decides.
  engine::StepResult Run(int32_t threads, Logits* logits) {
    const SteadyClock clock;
    const Deadline deadline = Deadline::After(clock, test::kPatienceMs);
    const auto group = comm::MakeForkedShmGroup(1)->Join(0, deadline);
    const auto stage = comm::MakeForkedShmGroup(1)->Join(0, deadline);
    device::ThreadTeam team(threads);
    const auto shards = plan::PlanCut(*model_, {.cut = {1, 1}, .rank_speeds = {}});
    RankOptions options;
    options.kv_block_count = kSequences;
    options.context_tokens = model_->config().context_tokens;
    if (logits != nullptr) {
      options.on_logits = [logits](uint64_t id, int64_t position, std::span<const float> values) {
        logits->insert({{id, position}, {values.begin(), values.end()}});
      };
    }
    RankModel rank(*model_, shards, options, Kernels(), team, *group, *stage);
    return rank.Run(MakePlan()).value();
  }

  static const cpu::KernelTable& Kernels() {
    return cpu::SelectKernelTable(cpu::DetectCpuFeatures(), "");
  }

  const test::ScratchFolder folder_;
  const std::unique_ptr<model::Model> model_ =
      model::Model::Open(test::WriteModel(test::Q4_1Spec(), folder_.path()));
};

void ExpectEqual(const TokenLogprobs& found, const TokenLogprobs& expected, uint32_t slot) {
  EXPECT_EQ(found.logprob, expected.logprob) << "sequence " << slot;
  EXPECT_EQ(found.top, expected.top) << "sequence " << slot;
}

TEST_F(TokenChooserTest, GivesEachRowWhatASamplerOfItsOwnChooses) {
  Logits logits;
  const engine::StepResult result = Run(1, &logits);
  const engine::StepPlan plan = MakePlan();
  ASSERT_EQ(result.items.size(), kSequences);
  ASSERT_EQ(logits.size(), kSequences + kPromptTokens - 1);
  for (uint32_t slot = 0; slot < kSequences; ++slot) {
    const engine::SequenceStart& start = plan.starts[slot];
    const engine::ItemResult& item = result.items[slot];
    engine::TokenHistory history;
    history.Follow(start.tokens, kPromptTokens);
    engine::ChoiceRules rules = {.sampling = start.params.sampling, .position = kPromptTokens};
    if (engine::HasPenalties(start.params.sampling)) rules.history = &history;
    if (start.params.sampling.min_tokens > 0) rules.withheld = start.params.stop_ids;
    std::vector<float> values = logits.at({start.id, kPromptTokens - 1});
    engine::Sampler sampler(Kernels().choice);
    const auto expected = sampler.Choose(values, rules, start.params.top_logprobs);
    ASSERT_TRUE(expected.has_value());
    EXPECT_EQ(item.slot, slot);
    EXPECT_EQ(item.bad_row, -1);
    ASSERT_EQ(item.chosen.size(), 1U);
    EXPECT_EQ(item.chosen[0].token, expected->token) << "sequence " << slot;
    ExpectEqual(item.chosen[0].logprobs, expected->logprobs, slot);
  }
}

TEST_F(TokenChooserTest, ScoresThePromptsTokensInTheirOrder) {
  Logits logits;
  const engine::StepResult result = Run(2, &logits);
  const engine::SequenceStart start = MakePlan().starts[kScored];
  const std::vector<TokenLogprobs>& found = result.items[kScored].prompt_logprobs;
  ASSERT_EQ(found.size(), kPromptTokens - 1);
  engine::Sampler sampler(Kernels().choice);
  for (uint32_t i = 0; i + 1 < kPromptTokens; ++i) {
    const auto expected = sampler.ComputeLogprobs(logits.at({start.id, i}), start.tokens[i + 1], 2);
    ExpectEqual(found[i], expected.value(), kScored);
  }
  EXPECT_TRUE(result.items[kScored - 1].prompt_logprobs.empty());
}

TEST_F(TokenChooserTest, ChoosesTheSameByTheMaximumAloneAndOnAnyThreads) {
  Logits logits;
  const engine::StepResult expected = Run(1, &logits);
  for (const int32_t threads : {1, 2, 3}) {
    const engine::StepResult found = Run(threads, nullptr);
    ASSERT_EQ(found.items.size(), kSequences);
    for (uint32_t slot = 0; slot < kSequences; ++slot) {
      ASSERT_EQ(found.items[slot].chosen.size(), 1U);
      EXPECT_EQ(found.items[slot].chosen[0].token, expected.items[slot].chosen[0].token)
          << "sequence " << slot << ", " << threads << " threads";
      ExpectEqual(found.items[slot].chosen[0].logprobs, expected.items[slot].chosen[0].logprobs,
                  slot);
    }
  }
}

}  // namespace
}  // namespace shoal::forward
