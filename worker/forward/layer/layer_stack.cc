#include "worker/forward/layer/layer_stack.h"

namespace shoal::forward {

LayerStack::LayerStack(const LayerOps& ops, const model::Model& model, const plan::RankShard& shard,
                       std::span<const LayerWeights> weights, std::span<const std::byte> after)
    : attention_(shard, model.config().head_count / model.config().kv_head_count) {
  const auto count = static_cast<int64_t>(weights.size());
  layers_.reserve(count);
  std::optional<RowParallelSum> before;
  for (int64_t i = 0; i < count; ++i) {
    const bool is_last = i + 1 == count;
    const LayerPlace place = {.on_rank = i, .in_model = shard.layers.begin + i};
    layers_.emplace_back(ops, model, weights[i], place, before,
                         is_last ? after : StartOf(weights[i + 1]), is_last);
    before = layers_.back().sum();
  }
}

}  // namespace shoal::forward
