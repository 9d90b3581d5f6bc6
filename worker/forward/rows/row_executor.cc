#include "worker/forward/rows/row_executor.h"

#include <algorithm>

#include "kernels/format/packed.h"
#include "transport/base/check.h"

namespace shoal::forward {
namespace {

// Rows that one thread takes at a time in the operations between the matrices, at least.
constexpr int64_t kRowGrain = 4;
// Weights that one thread takes at a time, about, of a large matrix that few rows use: a few
// microseconds of reading, which is how long another thread may wait for it at the end.
constexpr int64_t kPartBytes = 128 * 1024;

}  // namespace

void RowExecutor::Begin(int64_t row_count) {
  row_count_ = row_count;
  tile_count_ = TileCount(row_count, team_.thread_count());
  SHOAL_CHECK(tile_count_ == 1 || !by_thread_.empty(), row_count, " rows in tiles");
}

RowTile RowExecutor::TileFor(int64_t index, int32_t thread) {
  const plan::Range rows = TileRows(index);
  const RowSpace own = {&by_thread_[thread], rows.begin};
  return {rows, /*alone=*/true, ranks_meet_ ? RowSpace{&all_} : own, own};
}

void RowExecutor::ForRows(const RowTile& tile, const device::RangeFunction& function) {
  if (tile.alone) return function(tile.rows.begin, tile.rows.end, 0);
  const int64_t count = tile.rows.count();
  const int64_t first = tile.rows.begin;
  const int64_t share = count / (4 * team_.thread_count());
  const int64_t grain = std::max(kRowGrain, share / kKvBlockTokens * kKvBlockTokens);
  if (first == 0) return team_.ParallelFor(count, grain, function);
  team_.ParallelFor(count, grain, [first, &function](int64_t begin, int64_t end, int32_t thread) {
    function(first + begin, first + end, thread);
  });
}

// Many rows are divided among the threads as ForRows does it: what a thread computes here it works
// on later, and no core waits for memory that another one holds. Few rows are read by all.
RowExecutor::PartCounts RowExecutor::CountParts(int64_t rows, const PanelWork& work) const {
  const int64_t threads = team_.thread_count();
  const int64_t row_parts = threads == 1 ? 1 : TileCount(rows, threads);
  const int64_t parts = threads == 1    ? 1
                        : row_parts > 1 ? 4 * threads
                                        : std::max(8 * threads, work.bytes / kPartBytes);
  const int64_t panel_parts = std::clamp(parts / row_parts, int64_t{1},
                                         std::max(work.panels / work.panels_min, int64_t{1}));
  return {row_parts, panel_parts};
}

}  // namespace shoal::forward
