#pragma once

// Which thread computes which rows of a step: all that knows a ThreadTeam.
//
// Few rows are computed by the whole team, region after region: the threads divide the weights. Of
// many rows each thread takes a tile through everything until rows meet: what it makes stays in its
// caches. Rows meet in the attention, and where the ranks of a stage exchange something
// (layer_run.h). A device that computes a step's rows at once has an executor with one tile.

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/device/thread_team.h"
#include "parallel/plan/plan.h"
#include "worker/forward/activations.h"
#include "worker/forward/rows/row_tile.h"

namespace shoal::forward {

// A product with matrices that are read panel by panel.
struct PanelWork {
  int64_t panels;
  int64_t bytes;                    // Of all panels' weights.
  int64_t panels_min;               // That a thread takes at a time, unless there are fewer.
  std::span<const std::byte> next;  // The memory of the matrices that come after these.
};

// Threading: that of the team. Within a tile that is `alone`, everything runs on the calling
// thread.
class RowExecutor {
 public:
  // `all`: of as many rows as a step has at most. `by_thread`: of kTileRows, for each thread, or
  // none if no step makes several tiles. `ranks_meet`: the ranks exchange rows within a layer.
  RowExecutor(device::ThreadTeam& team, LayerRows& all, std::span<LayerRows> by_thread,
              bool ranks_meet)
      : team_(team), all_(all), by_thread_(by_thread), ranks_meet_(ranks_meet) {}

  // How many rows the step has from now on.
  void Begin(int64_t row_count);

  RowTile AllRows() { return {{0, row_count_}, /*alone=*/false, {&all_}, {&all_}}; }

  // 1 for few rows; for many, equally many tiles for each thread.
  int64_t tile_count() const { return tile_count_; }
  plan::Range TileRows(int64_t index) const { return PartOf(row_count_, index, tile_count_); }
  // One of several tiles, for the thread that takes it alone.
  RowTile TileFor(int64_t index, int32_t thread);
  bool ranks_meet() const { return ranks_meet_; }
  int32_t thread_count() const { return team_.thread_count(); }

  // Calls function(tile) for each tile of the step, on all threads; for AllRows() if it is one.
  template <typename Function>
  void ForTiles(const Function& function);

  // The operations between the matrices: function(begin, end, thread) for ranges that tile the
  // tile's rows. Of many rows a range is whole cache blocks where they begin with one, because its
  // positions share lines of keys, and threads that write one line wait for each other.
  void ForRows(const RowTile& tile, const device::RangeFunction& function);

  // Calls function(rows, panels) for parts of a product that tile [0, the tile's rows) x [0,
  // panels).
  template <typename Function>
  void ForPanels(const RowTile& tile, const PanelWork& work, const Function& function);

  // function(thread), thread_count() times; a thread that comes early may take a late one's turn.
  template <typename Function>
  void ForEachThread(const Function& function);

  // function(begin, end, thread) for ranges that tile [0, count), one index at a time.
  void ForEach(int64_t count, const device::RangeFunction& function) {
    team_.ParallelFor(count, 1, function);
  }

 private:
  // How many parts a product with `rows` rows makes: of rows, and of panels.
  struct PartCounts {
    int64_t rows;
    int64_t panels;
  };
  PartCounts CountParts(int64_t rows, const PanelWork& work) const;

  device::ThreadTeam& team_;
  LayerRows& all_;
  const std::span<LayerRows> by_thread_;
  const bool ranks_meet_;
  int64_t row_count_ = 0;
  int64_t tile_count_ = 1;
};

template <typename Function>
void RowExecutor::ForTiles(const Function& function) {
  if (tile_count_ == 1) return function(AllRows());
  team_.ReadAhead({});  // Every thread begins with the first panels: it has no share.
  team_.ParallelFor(tile_count_, 1, [this, &function](int64_t begin, int64_t end, int32_t thread) {
    for (int64_t i = begin; i < end; ++i) function(TileFor(i, thread));
  });
}

template <typename Function>
void RowExecutor::ForEachThread(const Function& function) {
  team_.ReadAhead({});  // As above.
  team_.ParallelFor(thread_count(), 1,
                    [&function](int64_t, int64_t, int32_t thread) { function(thread); });
}

template <typename Function>
void RowExecutor::ForPanels(const RowTile& tile, const PanelWork& work, const Function& function) {
  const int64_t rows = tile.rows.count();
  if (tile.alone) return function(plan::Range{0, rows}, plan::Range{0, work.panels});
  const PartCounts parts = CountParts(rows, work);
  // Of many rows every thread begins with the first panels, and has no share to read ahead.
  team_.ReadAhead(parts.rows == 1 ? work.next : std::span<const std::byte>());
  team_.ParallelFor(parts.rows * parts.panels, 1,
                    [=, panels = work.panels](int64_t begin, int64_t end, int32_t) {
                      for (int64_t i = begin; i < end; ++i) {
                        function(PartOf(rows, i / parts.panels, parts.rows),
                                 PartOf(panels, i % parts.panels, parts.panels));
                      }
                    });
}

}  // namespace shoal::forward
