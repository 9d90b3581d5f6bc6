#pragma once

// A tile of rows and panels, and its sums over all of K. Local to the file that includes it
// (kernels/cpu/inline.h says why).

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/linear/linear.h"
#include "kernels/cpu/linear/tiles/kernel.h"
#include "kernels/cpu/linear/tiles/panels.h"
#include "kernels/cpu/linear/tiles/prefetch.h"

namespace shoal::cpu {
namespace {

// What one walk through K computes: kRows rows at most, a few panels.
struct Tile {
  int64_t row;
  int rows;
  int64_t panel;
  int64_t panels;
  // For KeptRows: where they are, whether every block has its own place, and whether they are still
  // to be made.
  std::byte* kept;
  bool keeps;
  bool makes;
};

// Tells a kernel, at block [k, k_end) of the p-th of the tile's panels, how far after it lie those
// that come next: the next panels', after the last panel the first ones' next block of k, after the
// last k those of the panels that follow. Of a single panel the weights come as they lie.
template <typename Kernel>
SHOAL_INLINE void SetAhead(Kernel& kernel, const Panels& weights, const Tile& tile, int64_t p,
                           int64_t k, int64_t k_end) {
  if constexpr (PrefetchesAhead<Kernel>) {
    const auto ahead = [&](int64_t blocks) __attribute__((always_inline)) {
      const int64_t next_k = k + (p + blocks) / tile.panels * (k_end - k);
      if (next_k >= weights.cols) return blocks * weights.bytes - Kernel::WeightBytes(k);
      return ((p + blocks) % tile.panels - p) * weights.bytes + Kernel::WeightBytes(next_k - k);
    };
    kernel.ahead = tile.panels == 1 ? Kernel::Lanes::StreamAhead(tile.rows)
                                    : Ahead{.far = ahead(kFarBlocks), .near = ahead(kNearBlocks)};
  }
}

template <typename Kernel, int kRows>
SHOAL_INLINE void ClearResults(float (*results)[kRows][kPanelRows], int rows, int64_t count) {
  for (int64_t p = 0; p < count; ++p) {
    for (int r = 0; r < rows; ++r) Kernel::Lanes::Zero().StoreLanes(results[p][r]);
  }
}

// Where a tile's sums lie: row r's with panel p.
template <typename T>
struct TileSums {
  T* first;
  int64_t panel_stride;
  int64_t row_stride;

  SHOAL_INLINE T* At(int64_t p, int64_t r) const {
    return first + p * panel_stride + r * row_stride;
  }
  SHOAL_INLINE TileSums<const T> ToRead() const { return {first, panel_stride, row_stride}; }
};

template <int kRows>
SHOAL_INLINE TileSums<float> SumsIn(float (*results)[kRows][kPanelRows]) {
  return {.first = results[0][0], .panel_stride = kRows * kPanelRows, .row_stride = kPanelRows};
}

// to = from + the sums of block [k, k + length).
template <typename Kernel, typename Call>
SHOAL_INLINE void AddBlock(Kernel& kernel, const Call& call, const Panels& weights,
                           const Tile& tile, int64_t k, int64_t length, TileSums<const float> from,
                           TileSums<float> to) {
  using Lanes = typename Kernel::Lanes;
  kernel.Load(*call.input, tile.row, k, length);
  const uint8_t* first = weights.data + tile.panel * weights.bytes + Kernel::WeightBytes(k);
  ForPanels<Kernel>(
      tile.panels, [&](int64_t p, auto group) __attribute__((always_inline)) {
        SetAhead(kernel, weights, tile, p, k, k + length);
        if (k + length == weights.cols) {
          FetchOutputs(call, tile.row, tile.rows, tile.panel + p, decltype(group)::kPanels);
        }
        kernel.template Block<decltype(group)::kPanels>(
            first + p * weights.bytes, weights.bytes, 0,
            length, [=](int i, int r, Lanes acc) __attribute__((always_inline)) {
              (Lanes::LoadLanes(from.At(p + i, r)) + acc).StoreLanes(to.At(p + i, r));
            });
      });
}

template <typename Kernel, int kRows>
SHOAL_INLINE void ComputeTile(Kernel& kernel, const LinearCall& call, const Tile& tile) {
  using Lanes = typename Kernel::Lanes;
  const Panels weights = PanelsOf<Kernel>(*call.weights);
  alignas(64) float results[Kernel::kPanels][kRows][kPanelRows];
  const TileSums<float> sums = SumsIn(results);
  const TileSums<float> outputs = {
      .first = call.output + tile.row * call.output_stride + tile.panel * kPanelRows,
      .panel_stride = kPanelRows,
      .row_stride = call.output_stride};
  if constexpr (KeepsRows<Kernel> && kRows > kStreamedRows) {
    // Of many rows, the last block's sums go straight to the outputs, but for a matrix's last ones.
    alignas(64) static constexpr float kZeros[kPanelRows] = {};
    const bool whole = OutputsOf(weights, tile.panel + tile.panels - 1) == kPanelRows;
    TileSums<const float> from = {.first = kZeros, .panel_stride = 0, .row_stride = 0};
    for (int64_t k = 0; k < weights.cols; k += kBlockK) {
      const int64_t length = Smaller(kBlockK, weights.cols - k);
      AddBlock(kernel, call, weights, tile, k, length, from,
               whole && k + length == weights.cols ? outputs : sums);
      from = sums.ToRead();
    }
    if (whole) return;
  } else {
    ClearResults<Kernel, kRows>(results, tile.rows, tile.panels);
    for (int64_t k = 0; k < weights.cols; k += kBlockK) {
      AddBlock(kernel, call, weights, tile, k, Smaller(kBlockK, weights.cols - k), sums.ToRead(),
               sums);
    }
  }
  for (int64_t r = 0; r < tile.rows; ++r) {
    for (int64_t p = 0; p < tile.panels; ++p) {
      Lanes::LoadLanes(sums.At(p, r))
          .StoreOutputs(outputs.At(p, r), OutputsOf(weights, tile.panel + p));
    }
  }
}

}  // namespace
}  // namespace shoal::cpu
