#pragma once

// Cuts a linear call over groups into tiles, and runs them. Local to the file that includes it
// (kernels/cpu/inline.h says why).

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/linear/groups/group_tile.h"
#include "kernels/cpu/linear/linear.h"

namespace shoal::cpu {
namespace {

// Calls visit() for every placement of the tile; panels outside, so that they stay in the cache,
// for as many rows as there is room to keep.
template <typename Tile, typename Call, typename Visit>
SHOAL_INLINE void ForTiles(const Call& call, Tile& tile, int64_t leaf_cols, Visit visit) {
  const int64_t row_count = call.row_end - call.row_begin;
  const int64_t step = row_count <= kStreamedRows ? 1 : Tile::kPanels;
  const int64_t blocks = tile.BlocksOf(leaf_cols);
  const bool keeps = blocks <= Tile::kKeptBlocks;
  const int64_t tiles_max = keeps ? Tile::kKeptBlocks / blocks : row_count;
  int64_t row_end = call.row_begin;
  for (int64_t row_begin = call.row_begin; row_begin < call.row_end; row_begin = row_end) {
    for (int64_t panel = call.panel_begin; panel < call.panel_end; panel += step) {
      row_end = row_begin;
      for (int64_t i = 0; i < tiles_max && row_end < call.row_end; ++i) {
        tile.Place(row_end, call.row_end - row_end, panel, Smaller(step, call.panel_end - panel));
        tile.rows = {.block = nullptr,
                     .next = tile.kept + (keeps ? i * blocks : 0),
                     .step = keeps ? 1 : 0,
                     .makes = !keeps || panel == call.panel_begin};
        FetchOutputs(call, tile.row, tile.row_count, panel, tile.panel_count);
        visit();
        row_end += tile.row_count;
      }
    }
  }
}

template <typename Tile>
void ComputeByTiles(const LinearCall& call) {
  using Lanes = typename Tile::Lanes;
  Tile tile(*call.weights, *call.input);
  ForTiles(
      call, tile, tile.panels.cols, [&]() __attribute__((always_inline)) {
        tile.SumLeaf(
            0, tile.panels.cols, [&](int64_t p, int r, Lanes sum) __attribute__((always_inline)) {
              const int64_t panel = tile.panel + p;
              float* output =
                  call.output + (tile.row + r) * call.output_stride + panel * kPanelRows;
              sum.StoreOutputs(output, OutputsOf(tile.panels, panel));
            });
      });
}

template <typename Tile>
void ComputeByTiles(const LeafLinearCall& call) {
  using Lanes = typename Tile::Lanes;
  Tile tile(*call.weights, *call.input);
  const int64_t start = FixedStart<Lanes>(tile.panels.cols, call.leaf_cols);
  alignas(64) int64_t sums[Tile::kPanels][Tile::kRows][kPanelRows];
  ForTiles(
      call, tile, call.leaf_cols, [&]() __attribute__((always_inline)) {
        for (int64_t p = 0; p < tile.panel_count; ++p) {
          for (int r = 0; r < tile.row_count; ++r) {
            for (int64_t& sum : sums[p][r]) sum = start;
          }
        }
        int64_t invalid[Tile::kRows] = {};
        for (int64_t k = 0; k < tile.panels.cols; k += call.leaf_cols) {
          tile.SumLeaf(
              k, Smaller(k + call.leaf_cols, tile.panels.cols),
              [&](int64_t p, int r, Lanes sum) __attribute__((always_inline)) {
                const uint32_t bad = Tile::AddFixed(sum, call.limit, sums[p][r]);
                if (__builtin_expect(bad != 0, 0)) {
                  // Padding lanes of an invalid row are NaN too, but they are nobody's output.
                  const uint32_t present =
                      (uint32_t{1} << OutputsOf(tile.panels, tile.panel + p)) - 1;
                  invalid[r] += __builtin_popcount(bad & present);
                }
              });
        }
        for (int r = 0; r < tile.row_count; ++r) {
          for (int64_t p = 0; p < tile.panel_count; ++p) {
            const int64_t panel = tile.panel + p;
            int64_t* output =
                call.output + (tile.row + r) * call.output_stride + panel * kPanelRows;
            __builtin_memcpy(output, sums[p][r],
                             static_cast<size_t>(OutputsOf(tile.panels, panel)) * sizeof(int64_t));
          }
          if (invalid[r] != 0) {
            __atomic_fetch_add(&call.invalid[tile.row + r], invalid[r], __ATOMIC_RELAXED);
          }
        }
      });
}

}  // namespace
}  // namespace shoal::cpu
