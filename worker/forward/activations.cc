#include "worker/forward/activations.h"

#include <algorithm>
#include <set>

#include "kernels/cpu/table.h"
#include "transport/base/check.h"

namespace shoal::forward {
namespace {

// The group sizes that some matrix wants its input quantised in.
std::set<int64_t> GroupSizes(const model::ModelTensors& tensors) {
  std::set<int64_t> sizes = {InputGroup(tensors.output->dtype)};
  for (const model::LayerTensors& layer : tensors.layers) {
    for (const model::TensorSpec& tensor : layer.spec.tensors) {
      if (!tensor.is_norm()) sizes.insert(InputGroup(layer[tensor.role].dtype));
    }
  }
  sizes.erase(1);
  return sizes;
}

constexpr int64_t kFloat = sizeof(float);
constexpr int64_t kSum = sizeof(int32_t);
constexpr int64_t kInteger = sizeof(int64_t);

}  // namespace

LayerRows::LayerRows(const model::Model& model, const plan::RankShard& shard, int64_t rows) {
  const model::ModelConfig& config = model.config();
  const int64_t query_dim = shard.heads.count() * config.head_dim;
  const int64_t mlp_dim = shard.MlpColumnsMax();
  const int64_t widest = std::max({config.hidden_dim, query_dim, mlp_dim});
  normed.resize(rows * config.hidden_dim);
  gate.resize(rows * mlp_dim);
  up.resize(rows * mlp_dim);
  for (const int64_t group : GroupSizes(model.tensors())) {
    const size_t groups = rows * (group == 0 ? 1 : widest / group + 1);
    quantized.push_back({.group = group,
                         .quants = Lines<int8_t>(rows * widest),
                         .scales = Lines<float>(groups),
                         .sums = Lines<int32_t>(groups)});
  }
  fixed.resize(rows * (config.hidden_dim + kFixedTail));
}

int64_t LayerRows::MemoryBytes(const model::Model& model, const plan::RankShard& shard,
                               int64_t rows) {
  const model::ModelConfig& config = model.config();
  const int64_t mlp_dim = shard.MlpColumnsMax();
  const int64_t widest =
      std::max({config.hidden_dim, shard.heads.count() * config.head_dim, mlp_dim});
  int64_t bytes =
      kFloat * (config.hidden_dim + 2 * mlp_dim) + kInteger * (config.hidden_dim + kFixedTail);
  for (const int64_t group : GroupSizes(model.tensors())) {
    bytes += widest + (group == 0 ? 1 : widest / group + 1) * (kFloat + kSum);
  }
  return rows * bytes;
}

QuantizedRows& LayerRows::Quantized(DType dtype) {
  const int64_t group = InputGroup(dtype);
  const auto found = std::find_if(quantized.begin(), quantized.end(),
                                  [&](const QuantizedRows& rows) { return rows.group == group; });
  SHOAL_CHECK(found != quantized.end(), "no matrix has groups of ", group);
  return *found;
}

Activations::Activations(const model::Model& model, const plan::RankShard& shard, int64_t rows,
                         int32_t thread_count, int32_t stage_size)
    : rows_max(rows), all(model, shard, rows) {
  const model::ModelConfig& config = model.config();
  const int64_t query_dim = shard.heads.count() * config.head_dim;
  const int64_t kv_dim = shard.kv_heads.count() * config.head_dim;
  residual.resize(rows * config.hidden_dim);
  query.resize(rows * query_dim);
  key.resize(rows * kv_dim);
  value.resize(rows * kv_dim);
  attention.resize(rows * query_dim);
  if (TileCount(rows, thread_count) > 1) {
    tiles.assign(thread_count, LayerRows(model, shard, kTileRows));
  }
  invalid.resize(rows);
  largest_bits.resize(rows);
  kv_overflows.resize(rows);
  const int64_t tile = std::min(rows, kLogitTileRows);
  logits.resize(tile * shard.vocab_rows.count());
  all_logits.resize(tile * config.vocab_size);
  if (stage_size > 1) gathered.resize(tile * config.vocab_size * sizeof(float));
  const int64_t head_group = config.head_count / config.kv_head_count;
  attention_scratch_floats = cpu::AttentionScratchFloats(config.head_dim, head_group);
  attention_scratch.resize(thread_count * attention_scratch_floats);
}

int64_t Activations::MemoryBytes(const model::Model& model, const plan::RankShard& shard,
                                 int64_t rows_max, int32_t thread_count, int32_t stage_size,
                                 bool fast) {
  const model::ModelConfig& config = model.config();
  const int64_t query_dim = shard.heads.count() * config.head_dim;
  const int64_t kv_dim = shard.kv_heads.count() * config.head_dim;
  const int64_t row = kFloat * (config.hidden_dim + 2 * query_dim + 2 * kv_dim) + 3 * kInteger +
                      (fast ? kFloat * (config.hidden_dim + kFixedTail) : 0);
  const int64_t tiles = TileCount(rows_max, thread_count) > 1 ? thread_count : 0;
  const int64_t logits = shard.vocab_rows.count() + (stage_size > 1 ? 2 : 1) * config.vocab_size;
  const int64_t scratch =
      cpu::AttentionScratchFloats(config.head_dim, config.head_count / config.kv_head_count);
  return rows_max * row + LayerRows::MemoryBytes(model, shard, rows_max) +
         tiles * LayerRows::MemoryBytes(model, shard, kTileRows) +
         kFloat * (std::min(rows_max, kLogitTileRows) * logits + thread_count * scratch);
}

}  // namespace shoal::forward
