#include "worker/forward/activations.h"

#include <algorithm>

#include "kernels/cpu/table.h"

namespace shoal::forward {

Activations::Activations(const model::ModelConfig& config, const plan::RankShard& shard,
                         int64_t rows, int32_t thread_count, int32_t stage_size)
    : rows_max(rows) {
  const int64_t query_dim = shard.heads.count() * config.head_dim;
  const int64_t kv_dim = shard.kv_heads.count() * config.head_dim;
  const int64_t mlp_dim = shard.mlp_columns.count();
  const int64_t widest = std::max({config.hidden_dim, query_dim, mlp_dim});
  residual.resize(rows * config.hidden_dim);
  normed.resize(rows * config.hidden_dim);
  query.resize(rows * query_dim);
  key.resize(rows * kv_dim);
  value.resize(rows * kv_dim);
  attention.resize(rows * query_dim);
  gate.resize(rows * mlp_dim);
  up.resize(rows * mlp_dim);
  quants.resize(rows * widest);
  scales.resize(rows * (widest / 32 + 1));
  sums.resize(rows * (widest / 32 + 1));
  fixed.resize(rows * (config.hidden_dim + 1));
  kv_overflows.resize(rows);
  const int64_t tile = std::min(rows, kLogitTileRows);
  logits.resize(tile * shard.vocab_rows.count());
  all_logits.resize(tile * config.vocab_size);
  if (stage_size > 1) gathered.resize(tile * config.vocab_size * sizeof(float));
  const int64_t head_group = config.head_count / config.kv_head_count;
  attention_scratch_floats = cpu::AttentionScratchFloats(config.head_dim, head_group);
  attention_scratch.resize(thread_count * attention_scratch_floats);
}

}  // namespace shoal::forward
