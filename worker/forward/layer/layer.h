#pragma once

// One layer: attention, then MLP.
//
// Each adds to a row's residual only when the next one norms it, in one pass over the row. So a row
// leaves a layer with a sum that is still to be added, and after the last one it is.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "worker/forward/layer/attention.h"
#include "worker/forward/layer/mlp.h"

namespace shoal::forward {

// The memory of the matrices that a layer begins with.
std::span<const std::byte> StartOf(const LayerWeights& weights);

class Layer {
 public:
  // `before`: the sum of the layer before this one on this rank, if there is one. `next`: as Mlp's.
  Layer(const LayerOps& ops, const model::Model& model, const LayerWeights& weights,
        LayerPlace place, const std::optional<RowParallelSum>& before,
        std::span<const std::byte> next, bool is_last)
      : ops_(ops),
        attention_(ops, model, weights, place, before),
        mlp_(ops, model, weights, attention_.sum(), next),
        is_last_(is_last) {}

  // Up to where a row reads what was stored of others, that, and the rest.
  void BeforeAttention(const RowPass& pass) const { attention_.StoreKeysAndValues(pass); }
  void Attend(const AttentionTile& tile, int32_t thread) const { attention_.Attend(tile, thread); }
  void AfterAttention(const RowPass& pass) const;

  // What it leaves to be added.
  const RowParallelSum& sum() const { return mlp_.sum(); }

 private:
  const LayerOps& ops_;
  const Attention attention_;
  const Mlp mlp_;
  const bool is_last_;  // On this rank.
};

}  // namespace shoal::forward
