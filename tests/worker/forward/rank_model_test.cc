// That watching a forward pass does not change how it is computed.

#include "worker/forward/rank_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "parallel/comm/forked_group.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/patience.h"
#include "tests/support/scratch_folder.h"
#include "worker/forward/rows/row_tile.h"

namespace shoal::forward {
namespace {

constexpr int64_t kRows = 130;

// What a watcher of the inputs saw, and the logits.
struct Seen {
  std::map<std::pair<int64_t, LayerInput>, int64_t> rows;
  int64_t rows_max = 0;  // At once.
  std::vector<uint32_t> logits;
};

// One step of one prompt on one rank.
Seen RunPrompt(const model::Model& model, int32_t threads, bool watched) {
  const SteadyClock clock;
  const Deadline deadline = Deadline::After(clock, test::kPatienceMs);
  const auto group = comm::MakeForkedShmGroup(1)->Join(0, deadline);
  const auto stage = comm::MakeForkedShmGroup(1)->Join(0, deadline);
  device::ThreadTeam team(threads);
  const auto shards = plan::PlanCut(model, {.cut = {1, 1}, .rank_speeds = {}});
  Seen seen;
  std::mutex mutex;
  RankOptions options;
  options.kv_block_count = 8;
  options.context_tokens = model.config().context_tokens;
  options.on_logits = [&](uint64_t, int64_t, std::span<const float> logits) {
    for (const float logit : logits) seen.logits.push_back(std::bit_cast<uint32_t>(logit));
  };
  if (watched) {
    options.on_input = [&](int64_t layer, LayerInput input, std::span<const float> values,
                           int64_t cols) {
      const std::lock_guard lock(mutex);
      const int64_t rows = static_cast<int64_t>(values.size()) / cols;
      seen.rows[{layer, input}] += rows;
      seen.rows_max = std::max(seen.rows_max, rows);
    };
  }
  RankModel rank(model, shards, options, cpu::SelectKernelTable(cpu::DetectCpuFeatures(), ""), team,
                 *group, *stage);
  engine::StepPlan plan;
  plan.starts.resize(1);
  for (int32_t i = 0; i < kRows; ++i) plan.starts[0].tokens.push_back(i * 37 % 500);
  plan.starts[0].prompt_count = kRows;
  plan.starts[0].params.sampling.temperature = 0;
  plan.items.resize(1);
  plan.items[0].row_count = kRows;
  plan.items[0].sample = true;
  plan.items[0].new_blocks = {3, 0, 5, 1, 7};
  const auto result = rank.Run(plan);
  EXPECT_TRUE(result.has_value());
  return seen;
}

TEST(RankModel, IsComputedInTheSameTilesIfSomebodyWatches) {
  const test::ScratchFolder folder;
  const auto model = model::Model::Open(test::WriteModel(test::Q4_1Spec(), folder.path()));
  const int64_t last = model->config().layer_count - 1;
  const std::vector<uint32_t> expected = RunPrompt(*model, 1, /*watched=*/false).logits;
  ASSERT_EQ(expected.size(), static_cast<size_t>(model->config().vocab_size));
  for (const int32_t threads : {1, 2, 3}) {
    const Seen seen = RunPrompt(*model, threads, /*watched=*/true);
    EXPECT_EQ(seen.logits, expected) << threads << " threads";
    // Three threads have too few rows for tiles of their own.
    const bool in_tiles = TileCount(kRows, threads) > 1;
    EXPECT_EQ(seen.rows_max <= kTileRows, in_tiles) << threads << " threads";
    for (int64_t layer = 0; layer <= last; ++layer) {
      for (const LayerInput input : {LayerInput::kAttention, LayerInput::kAttentionOutput,
                                     LayerInput::kMlp, LayerInput::kDown}) {
        // Of the last layer, nobody reads more of most rows than their keys and values.
        const bool is_all = layer < last || input == LayerInput::kAttention;
        EXPECT_EQ(seen.rows.at({layer, input}), is_all ? kRows : 1)
            << "layer " << layer << ", input " << static_cast<int>(input) << ", " << threads
            << " threads";
      }
    }
  }
}

}  // namespace
}  // namespace shoal::forward
