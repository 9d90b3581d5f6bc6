#pragma once

// The layers of a rank, as the executor takes a step's rows through them.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "parallel/model/model.h"
#include "parallel/plan/plan.h"
#include "worker/forward/layer/layer.h"
#include "worker/forward/ops/attention_tiles.h"

namespace shoal::forward {

class LayerStack {
 public:
  // `after`: the memory of the matrices that come after the last layer's. All outlives the object.
  LayerStack(const LayerOps& ops, const model::Model& model, const plan::RankShard& shard,
             std::span<const LayerWeights> weights, std::span<const std::byte> after);

  int64_t count() const { return static_cast<int64_t>(layers_.size()); }

  // Which rows attend to what, from now on.
  void Begin(const StepRows& rows) { attention_.List(rows); }

  // What RunLayers calls.
  std::span<const LayerFlow::Call> calls() const { return attention_.calls(); }
  void Before(int64_t layer, const RowPass& pass) const { layers_[layer].BeforeAttention(pass); }
  void Attend(int64_t layer, int64_t index, int32_t thread) const {
    layers_[layer].Attend(attention_[index], thread);
  }
  void After(int64_t layer, const RowPass& pass) const { layers_[layer].AfterAttention(pass); }

 private:
  std::vector<Layer> layers_;
  AttentionTiles attention_;
};

}  // namespace shoal::forward
