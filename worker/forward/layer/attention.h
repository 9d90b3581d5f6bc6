#pragma once

// The attention of one layer: norm, project, rotate, store, attend, row-parallel sum.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "worker/forward/layer/layer_ops.h"
#include "worker/forward/rows/layer_run.h"
#include "worker/forward/shard_weights.h"

namespace shoal::forward {

// Which layer: counted from this rank's first, and from the model's.
struct LayerPlace {
  int64_t on_rank = 0;
  int64_t in_model = 0;
};

// Threading: rows in different tiles at once.
class Attention {
 public:
  // `before`: the sum that a row's residual still lacks when it comes here. All outlives the
  // object.
  Attention(const LayerOps& ops, const model::Model& model, const LayerWeights& weights,
            LayerPlace place, const std::optional<RowParallelSum>& before);

  // All that must be there of other rows before a row can attend to them.
  void StoreKeysAndValues(const RowPass& pass) const;
  void Attend(const AttentionTile& tile, int32_t thread) const;
  void SumHeads(const RowPass& pass) const;

  const RowParallelSum& sum() const { return sum_; }

 private:
  const LayerOps& ops_;
  const LayerWeights& weights_;
  const LayerPlace place_;
  const std::optional<RowParallelSum> before_;
  const NormedInput input_;
  const RowParallelSum sum_;
};

}  // namespace shoal::forward
