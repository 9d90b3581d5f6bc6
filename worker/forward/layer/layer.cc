#include "worker/forward/layer/layer.h"

namespace shoal::forward {

std::span<const std::byte> StartOf(const LayerWeights& weights) {
  return MemoryOf(weights.query, weights.value);
}

void Layer::AfterAttention(const RowPass& pass) const {
  attention_.SumHeads(pass);
  mlp_.Run(pass);
  if (!is_last_) return;
  pass.AcrossRanks([this](const RowTile& tile) { ops_.Add(mlp_.sum(), tile); });
}

}  // namespace shoal::forward
