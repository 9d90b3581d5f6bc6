#include "parallel/plan/predict.h"

#include <algorithm>
#include <vector>

namespace shoal::plan {
namespace {

// The sum over stages of the largest `load` of a stage's ranks.
template <typename Load>
double SlowestPath(std::span<const RankShard> shards, const Load& load) {
  std::vector<double> stages(static_cast<size_t>(shards.back().stage) + 1, 0.0);
  for (const RankShard& shard : shards) {
    double& slowest = stages[static_cast<size_t>(shard.stage)];
    slowest = std::max(slowest, static_cast<double>(load(shard)));
  }
  double sum = 0;
  for (const double stage : stages) sum += stage;
  return sum;
}

}  // namespace

int64_t DecodeReadBytes(const model::Model& model, const RankShard& shard) {
  const model::ModelTensors& tensors = model.tensors();
  const bool first = shard.stage == 0;
  const bool last = shard.layers.end == model.config().layer_count;
  const bool head_is_embedding = last && tensors.output == tensors.token_embedding;
  if (!first || head_is_embedding) return shard.weight_bytes;
  return shard.weight_bytes - shard.vocab_rows.count() * tensors.token_embedding->row_bytes();
}

int64_t LayerMacs(const model::Model& model, const RankShard& shard) {
  int64_t macs = 0;
  for (int64_t i = shard.layers.begin; i < shard.layers.end; ++i) {
    for (const model::TensorSpec& tensor :
         model.tensors().layers[static_cast<size_t>(i)].spec.tensors) {
      const TensorPart part = PartOf(tensor, i, shard);
      if (!tensor.is_norm()) macs += part.rows.count() * part.cols.count();
    }
  }
  return macs;
}

SpeedPrediction PredictSpeed(const model::Model& model, std::span<const RankShard> shards,
                             const GroupSpeed& speed) {
  const auto rank_count = static_cast<double>(shards.size());
  const double read_bytes =
      SlowestPath(shards, [&](const RankShard& shard) { return DecodeReadBytes(model, shard); });
  const double macs =
      SlowestPath(shards, [&](const RankShard& shard) { return LayerMacs(model, shard); });
  const double reading = read_bytes * rank_count / speed.read_bytes_per_second;
  int64_t sums = 0;
  for (const model::LayerTensors& layer : model.tensors().layers) sums += layer.spec.sum_count();
  const double exchange = static_cast<double>(sums) * speed.all_reduce_seconds;
  return {.decode_tokens_per_second = 1 / (reading + exchange),
          .prefill_tokens_per_second = speed.dot_ops_per_second / (macs * rank_count),
          .decode_bound = reading >= exchange ? "memory" : "exchange"};
}

}  // namespace shoal::plan
