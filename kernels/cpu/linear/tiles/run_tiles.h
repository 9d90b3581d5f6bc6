#pragma once

// Cuts a linear call into tiles of rows and panels, and runs a Kernel over them. Local to the file
// that includes it (kernels/cpu/inline.h says why).

#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/cpu/linear/tiles/leaf_sums.h"
#include "kernels/cpu/linear/tiles/tile.h"

namespace shoal::cpu {
namespace {

// How many blocks of K a tile of the call loads, at most.
SHOAL_INLINE int64_t BlocksOf(const LinearCall& call) {
  return (call.weights->cols + kBlockK - 1) / kBlockK;
}
SHOAL_INLINE int64_t BlocksOf(const LeafLinearCall& call) {
  const int64_t leaves = (call.weights->cols + call.leaf_cols - 1) / call.leaf_cols;
  if (call.leaf_cols > kBlockK) return leaves * ((call.leaf_cols + kBlockK - 1) / kBlockK);
  const int64_t together = kBlockK / call.leaf_cols;
  return (leaves + together - 1) / together;
}

template <typename Kernel, int kRows, typename Call>
void RunTile(Kernel& kernel, const Call& call, const Tile& tile) {
  SetRows(kernel, tile.rows);
  if constexpr (KeepsRows<Kernel>) {
    kernel.rows.next = reinterpret_cast<decltype(kernel.rows.next)>(tile.kept);
    kernel.rows.step = tile.keeps ? 1 : 0;
    kernel.rows.makes = tile.makes;
  }
  ComputeTile<Kernel, kRows>(kernel, call, tile);
}

// Panels outside, rows inside: a few panels stay in the cache while all rows pass by, or as many as
// are kept. Both are spread over tiles evenly, so that 17 rows are 9 + 8 and not 16 + 1.
template <typename Kernel, int64_t kRowsMax, typename Call, typename Run>
SHOAL_INLINE void ForTiles(const Call& call, Run run) {
  constexpr int64_t kBlockBytes = RowBlockBytes<Kernel>();
  alignas(64) std::byte kept[kBlockBytes > 0 ? kKeptBytes : 1];
  int64_t unit = 1;
  if constexpr (TakesRowsTogether<Kernel>) unit = Kernel::kRowUnit;
  const int64_t rows = call.row_end - call.row_begin;
  const int64_t tiles = (rows + kRowsMax - 1) / kRowsMax;
  const int64_t units = (rows + unit - 1) / unit;
  const int64_t panels = call.panel_end - call.panel_begin;
  const int64_t step = PrefetchesAhead<Kernel> && rows <= kStreamedRows ? 1 : Kernel::kPanels;
  const int64_t columns = (panels + step - 1) / step;
  const int64_t tile_bytes = BlocksOf(call) * kBlockBytes;
  const bool keeps = kBlockBytes > 0 && columns > 1 && tile_bytes <= kKeptBytes;
  const int64_t together = keeps ? Smaller(kKeptBytes / tile_bytes, tiles) : tiles;
  int64_t first_row = call.row_begin;
  for (int64_t first = 0; first < tiles; first += together) {
    int64_t row = first_row;
    int64_t panel = call.panel_begin;
    for (int64_t column = 0; column < columns; ++column) {
      const int64_t panel_count = panels / columns + (column < panels % columns ? 1 : 0);
      row = first_row;
      for (int64_t i = first; i < Smaller(first + together, tiles); ++i) {
        const int64_t tile_units = units / tiles + (i < units % tiles ? 1 : 0);
        const auto row_count = static_cast<int>(Smaller(tile_units * unit, call.row_end - row));
        run(Tile{.row = row,
                 .rows = row_count,
                 .panel = panel,
                 .panels = panel_count,
                 .kept = keeps ? kept + (i - first) * tile_bytes : kept,
                 .keeps = keeps,
                 .makes = !keeps || column == 0});
        row += row_count;
      }
      panel += panel_count;
    }
    first_row = row;
  }
}

template <template <int> typename Kernel, typename Call, int... kMinus1>
SHOAL_INLINE void RunTiles(const Call& call, std::integer_sequence<int, kMinus1...>) {
  using RunRows = void (*)(const Call&, const Tile&);
  static constexpr RunRows kRuns[] = {[](const Call& tile_call, const Tile& tile) {
    Kernel<kMinus1 + 1> kernel;
    RunTile<Kernel<kMinus1 + 1>, kMinus1 + 1>(kernel, tile_call, tile);
  }...};
  constexpr int kRowsMax = sizeof...(kMinus1);
  ForTiles<Kernel<kRowsMax>, kRowsMax>(call,
                                       [&](const Tile& tile) { kRuns[tile.rows - 1](call, tile); });
}

// One Kernel<rows> for each number of rows up to kRowsMax.
template <template <int> typename Kernel, int kRowsMax, typename Call>
SHOAL_INLINE void Run(const Call& call) {
  RunTiles<Kernel>(call, std::make_integer_sequence<int, kRowsMax>());
}

// One Kernel for any number of rows.
template <typename Kernel, typename Call>
SHOAL_INLINE void RunAnyRows(const Call& call) {
  Kernel kernel;
  ForTiles<Kernel, Kernel::kRowsMax>(
      call, [&](const Tile& tile) { RunTile<Kernel, Kernel::kRowsMax>(kernel, call, tile); });
}

}  // namespace
}  // namespace shoal::cpu
