// What a rank packs is what the plan says it holds, whatever the cut.

#include "worker/forward/shard_weights.h"

#include <gtest/gtest.h>

#include "kernels/device/thread_team.h"
#include "parallel/plan/plan.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"

namespace shoal::forward {
namespace {

std::vector<plan::RankShard> Shards(const model::Model& model, plan::Cut cut) {
  return plan::PlanCut(model, {.cut = cut, .rank_speeds = {}});
}

// What of a rank's bytes is not packed: norms, and an embedding that is not the output head's too.
int64_t UnpackedBytes(const model::Model& model, const plan::RankShard& shard, bool is_last) {
  const model::ModelTensors& tensors = model.tensors();
  int64_t bytes = is_last ? tensors.output_norm->bytes() : 0;
  for (int64_t i = shard.layers.begin; i < shard.layers.end; ++i) {
    bytes += tensors.layers[i][model::TensorRole::kAttentionNorm].bytes() +
             tensors.layers[i][model::TensorRole::kMlpNorm].bytes();
  }
  const bool is_head = is_last && tensors.output == tensors.token_embedding;
  if (shard.stage == 0 && !is_head) {
    bytes += shard.vocab_rows.count() * tensors.token_embedding->row_bytes();
  }
  return bytes;
}

// Of formats without tables a panel is as large as its rows in the file, if they are whole cache
// lines: here an even number of blocks for each rank.
TEST(ShardWeights, PacksTheBytesOfThePlan) {
  const test::ScratchFolder folder;
  device::ThreadTeam team(1);
  for (test::ModelSpec spec : {test::Q4_1Spec(), test::Q4_0Spec(), test::F32FolderSpec()}) {
    spec.vocab_size = 512;
    const auto model = model::Model::Open(test::WriteModel(spec, folder.path()));
    for (const plan::Cut cut : {plan::Cut{1, 1}, plan::Cut{4, 1}, plan::Cut{2, 2}}) {
      const auto shards = Shards(*model, cut);
      for (const plan::RankShard& shard : shards) {
        const bool is_last = shard.stage + 1 == cut.pipeline_parallel;
        EXPECT_EQ(ShardWeights(*model, shards, shard.rank, team).packed_bytes(),
                  shard.weight_bytes - UnpackedBytes(*model, shard, is_last))
            << spec.name << ", rank " << shard.rank << " of " << shards.size();
      }
    }
  }
}

TEST(ShardWeights, FillsEachMatrixWithItsPart) {
  const test::ScratchFolder folder;
  device::ThreadTeam team(1);
  const test::ModelSpec spec = test::NineHeadsSpec();
  const auto model = model::Model::Open(test::WriteModel(spec, folder.path()));
  const auto shards = Shards(*model, {2, 1});
  const ShardWeights weights(*model, shards, 1, team);
  ASSERT_EQ(weights.layers().size(), static_cast<size_t>(spec.layer_count));
  for (const LayerWeights& layer : weights.layers()) {
    const auto shape = [](const PackedMatrix& matrix) {
      return std::pair(matrix.rows, matrix.cols);
    };
    EXPECT_EQ(shape(layer.query), std::pair(4 * spec.head_dim, spec.hidden_dim));
    EXPECT_EQ(shape(layer.key), std::pair(2 * spec.head_dim, spec.hidden_dim));
    EXPECT_EQ(shape(layer.value), std::pair(2 * spec.head_dim, spec.hidden_dim));
    EXPECT_EQ(shape(layer.attention_output), std::pair(spec.hidden_dim, 4 * spec.head_dim));
    EXPECT_EQ(shape(layer.gate), std::pair(int64_t{416}, spec.hidden_dim));
    EXPECT_EQ(shape(layer.up), std::pair(int64_t{416}, spec.hidden_dim));
    EXPECT_EQ(shape(layer.down), std::pair(spec.hidden_dim, int64_t{416}));
    EXPECT_NE(layer.attention_norm, nullptr);
    EXPECT_NE(layer.ffn_norm, layer.attention_norm);
    // A step reads them one after another.
    const PackedMatrix* order[] = {&layer.query, &layer.key, &layer.value, &layer.attention_output,
                                   &layer.gate,  &layer.up,  &layer.down};
    for (size_t i = 1; i < std::size(order); ++i) {
      EXPECT_EQ(order[i]->data, order[i - 1]->panel(PanelCount(order[i - 1]->rows)));
    }
  }
}

TEST(ShardWeights, DigestsTheSameWeightsWhateverTheCut) {
  const test::ScratchFolder folder;
  device::ThreadTeam team(1);
  test::ModelSpec uneven = test::Q4_1Spec();
  uneven.ffn_dims = {1024, 1056, 1536};
  for (const test::ModelSpec& spec : {test::NineHeadsSpec(), test::KQuantsSpec(), uneven}) {
    const auto model = model::Model::Open(test::WriteModel(spec, folder.path()));
    const auto digest = [&](plan::Cut cut) {
      model::WeightDigest sum;
      const auto shards = Shards(*model, cut);
      for (int32_t rank = 0; rank < cut.rank_count(); ++rank) {
        sum += ShardWeights(*model, shards, rank, team).digest();
      }
      return sum.Hex();
    };
    const std::string whole = digest({1, 1});
    for (const plan::Cut cut :
         {plan::Cut{2, 1}, plan::Cut{8, 1}, plan::Cut{1, 3}, plan::Cut{3, 2}}) {
      EXPECT_EQ(digest(cut), whole) << spec.name;
    }
  }
}

}  // namespace
}  // namespace shoal::forward
