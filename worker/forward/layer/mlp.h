#pragma once

// The MLP of one layer: norm, gate and up, silu(gate) * up, down, row-parallel sum.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "worker/forward/layer/layer_ops.h"
#include "worker/forward/rows/layer_run.h"
#include "worker/forward/shard_weights.h"

namespace shoal::forward {

// Threading: rows in different tiles at once.
class Mlp {
 public:
  // `before`: the sum that a row's residual still lacks when it comes here. `next`: the memory of
  // the matrices that come after the MLP's. All outlives the object.
  Mlp(const LayerOps& ops, const model::Model& model, const LayerWeights& weights,
      const RowParallelSum& before, std::span<const std::byte> next);

  void Run(const RowPass& pass) const;

  const RowParallelSum& sum() const { return sum_; }

 private:
  const LayerOps& ops_;
  const LayerWeights& weights_;
  const std::optional<RowParallelSum> before_;
  const NormedInput input_;
  const RowParallelSum sum_;
  const std::span<const std::byte> next_;
};

}  // namespace shoal::forward
