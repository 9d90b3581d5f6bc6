#pragma once

// How a step's rows go through layers: together, or many of them tile by tile. This is where that
// is decided; what happens in a layer is said once, for both.

#include <cstdint>
#include <optional>
#include <vector>

#include "parallel/plan/plan.h"
#include "worker/forward/rows/layer_flow.h"
#include "worker/forward/rows/row_executor.h"
#include "worker/forward/rows/row_tile.h"

namespace shoal::forward {

// How some rows go through what lies between the attention of two layers, where they meet no others
// unless the ranks exchange something.
class RowPass {
 public:
  // Of a tile, if there is only one rank.
  RowPass(RowExecutor& executor, const RowTile& tile) : executor_(executor), tile_(&tile) {}
  // Of all rows.
  explicit RowPass(RowExecutor& executor) : executor_(executor) {}

  // function(tile), for tiles in any order, on any threads.
  template <typename Function>
  void ForTiles(const Function& function) const {
    tile_ != nullptr ? function(*tile_) : executor_.ForTiles(function);
  }
  // function(tile), once, where ranks exchange what they know of all rows.
  template <typename Function>
  void AcrossRanks(const Function& function) const {
    function(tile_ != nullptr ? *tile_ : executor_.AllRows());
  }
  template <typename Function>
  void Run(bool across_ranks, const Function& function) const {
    across_ranks ? AcrossRanks(function) : ForTiles(function);
  }

 private:
  RowExecutor& executor_;
  const RowTile* tile_ = nullptr;
};

// A place in the layers of a step: before one, or at its attention, for which all is stored.
struct LayerPoint {
  int64_t layer;
  bool at_attention;
};

// Takes all rows of the step from one point to another. `Layers`:
//   Before(layer, pass)            what comes before the layer's attention
//   Attend(layer, index, thread)   a call of its attention, of which
//   calls()                        says what each reads, and
//   After(layer, pass)             what comes after it
template <typename Layers>
class LayerRun {
 public:
  LayerRun(RowExecutor& executor, const Layers& layers, LayerPoint from, LayerPoint to)
      : executor_(executor), layers_(layers), from_(from), to_(to) {}

  void Run() const {
    const bool flows = executor_.tile_count() > 1 && !executor_.ranks_meet() && !from_.at_attention;
    flows ? Flow() : RunInOrder();
  }

 private:
  // What lies between the attention of `layer` and that of the next one; of the layer before the
  // first, what comes before that.
  void RunStretch(int64_t layer, const RowPass& pass) const {
    if (layer >= from_.layer) layers_.After(layer, pass);
    if (layer + 1 < to_.layer || to_.at_attention) layers_.Before(layer + 1, pass);
  }

  // All rows through one thing before the next.
  void RunInOrder() const;
  void RunStretch(int64_t layer) const;
  // Nothing but the attention makes rows meet: no thread waits for all others.
  void Flow() const;

  RowExecutor& executor_;
  const Layers& layers_;
  const LayerPoint from_;
  const LayerPoint to_;
};

template <typename Layers>
void RunLayers(RowExecutor& executor, const Layers& layers, LayerPoint from, LayerPoint to) {
  LayerRun<Layers>(executor, layers, from, to).Run();
}

template <typename Layers>
void LayerRun<Layers>::RunStretch(int64_t layer) const {
  if (executor_.ranks_meet()) return RunStretch(layer, RowPass(executor_));
  executor_.ForTiles([&](const RowTile& tile) { RunStretch(layer, RowPass(executor_, tile)); });
}

template <typename Layers>
void LayerRun<Layers>::RunInOrder() const {
  if (!from_.at_attention) RunStretch(from_.layer - 1);
  const auto call_count = static_cast<int64_t>(layers_.calls().size());
  for (int64_t layer = from_.layer; layer < to_.layer; ++layer) {
    executor_.ForEach(call_count, [this, layer](int64_t begin, int64_t end, int32_t thread) {
      for (int64_t i = begin; i < end; ++i) layers_.Attend(layer, i, thread);
    });
    RunStretch(layer);
  }
}

template <typename Layers>
void LayerRun<Layers>::Flow() const {
  std::vector<plan::Range> tiles;
  for (int64_t i = 0; i < executor_.tile_count(); ++i) tiles.push_back(executor_.TileRows(i));
  LayerFlow flow(tiles, layers_.calls(), to_.layer - from_.layer, executor_.thread_count());
  executor_.ForEachThread([&](int32_t thread) {
    while (const std::optional<LayerFlow::Task> task = flow.Take(thread)) {
      const int64_t layer = from_.layer + task->layer;
      if (task->is_tile) {
        RunStretch(layer, RowPass(executor_, executor_.TileFor(task->index, thread)));
      } else {
        layers_.Attend(layer, task->index, thread);
      }
      flow.Finish(*task);
    }
  });
}

}  // namespace shoal::forward
