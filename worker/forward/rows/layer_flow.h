#pragma once

// The order in which threads take a step's many rows through several layers without meeting. A
// layer is attention calls, of a few rows each, and tiles, of more rows, which do all that comes
// between one layer's attention and the next. A thread does its own share of each, because that is
// in its caches, then what is left of the others', and goes on: it waits only for what its next
// task reads, not for whoever was held up.

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "parallel/plan/plan.h"

namespace shoal::forward {

// Threading: threads [0, thread_count), each of which takes and finishes one task after the other.
class LayerFlow {
 public:
  struct Call {
    plan::Range rows;
    int64_t read_end;  // It reads keys and values of rows before this one, not all for its result.
  };
  struct Task {
    int64_t layer;  // -1, a tile: what comes before the first layer's attention.
    bool is_tile;   // Otherwise an attention call.
    int64_t index;
  };

  // Tasks: all tiles in layer -1, then all calls and then all tiles in each of `layers` layers.
  // tiles: the rows of each; they tile the step's. A call reads what the tiles of all rows before
  // its read_end made of the layer before; a tile reads what the calls of its rows made.
  LayerFlow(std::span<const plan::Range> tiles, std::span<const Call> calls, int64_t layers,
            int32_t thread_count);

  // The thread's next task, once what it reads is there; none if all are taken. Waits only for
  // tasks that another thread has taken before, so not all threads ever wait.
  std::optional<Task> Take(int32_t thread);
  void Finish(const Task& task);

 private:
  // The tiles or the calls of all layers, and the thread that each is the share of.
  using Shares = std::vector<std::vector<int64_t>>;

  struct Tile {
    int64_t calls = 0;                       // Of its rows, in a layer.
    std::atomic<int64_t> finished{0};        // Layers, from -1 on.
    std::atomic<int64_t> finished_calls{0};  // In all layers.
  };

  // The tiles that a call's rows are of, and those that it reads: all before read_end.
  struct CallTiles {
    plan::Range own;
    int64_t read_end;
  };

  bool IsReady(const Task& task) const;

  std::vector<Tile> tiles_;
  std::vector<CallTiles> calls_;
  Shares tile_shares_;
  Shares call_shares_;
  // A phase is the tiles or the calls of a layer.
  const int64_t phase_count_;
  std::vector<int64_t> phases_;                // Where each thread is.
  std::vector<std::atomic<int64_t>> claimed_;  // [phases][shares]; more than there are: all.
};

}  // namespace shoal::forward
