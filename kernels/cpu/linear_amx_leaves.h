#pragma once

// INT8 linear layers with int8 tile instructions. A row's leaf has one scale and an output another,
// so exact sums stay in tiles over the whole leaf: those of 32 rows with two panels in four tiles.
//
// Written against two policies, so that tests run the same code with emulated tiles:
//   Tiles    Clear<tiles>()                        sums = 0 for both panels and 1 or 2 x 16 rows
//            MultiplyAdd<tiles>(rows, weights)     sums += exact dot products of 64 k; rows[tile]:
//                                                  16 rows of signed bytes, weights[panel]: 16 rows
//                                                  of 64 unsigned bytes, four k of 16 outputs
//            Store<tiles>(dots)                    dots[panel][row][16] = sums
//   L        16 floats, as linear_tiles.h has them, and FromDots, Scaled, PlusProduct, AddFixed
//
// Included only with the same care as linear_panels.h.

#include "kernels/cpu/linear_groups.h"

namespace shoal::cpu {
namespace {

// With fewer rows the tile is mostly empty, and the dot products of vectors are faster.
constexpr int64_t kLeafTileRowsMin = 8;

// 16 rows, `stride` bytes apart.
struct TileRows {
  const int8_t* rows;
  int64_t stride;
};

// A tile for LinearByTiles and LeafLinearByTiles.
template <typename Tiles, typename L>
struct WholeLeafTile {
  using Lanes = L;
  static constexpr int kRows = 32;
  static constexpr int64_t kPanels = 4;
  static constexpr int kRowTile = 16;
  static constexpr int64_t kGroup = GroupSize(DType::kINT8);
  static constexpr int64_t kGroupBytes = PackedGroupBytes(DType::kINT8);
  static constexpr int64_t kTableBytes = kPanelRows * PackedFactsOf(DType::kINT8).block_factors;
  static constexpr int64_t kStep = 64;
  static constexpr int64_t kStepBytes = kStep * kPanelRows;

  SHOAL_INLINE WholeLeafTile(const PackedMatrix& weights, const ActivationRows& input)
      : panels(TabledPanels<DType::kINT8>(weights, kTableBytes)), input_(input) {}

  static SHOAL_INLINE uint32_t AddFixed(L y, float limit, int64_t* sums) {
    return L::AddFixed(y, limit, sums);
  }

  SHOAL_INLINE void Place(int64_t new_row, int64_t rows_left, int64_t new_panel,
                          int64_t new_panel_count) {
    row = new_row;
    panel = new_panel;
    row_count = static_cast<int>(Smaller(rows_left, kRows));
    panel_count = new_panel_count;
  }

  // Calls sink(panel of the tile, row of the tile, sum) with the sums over leaf number `leaf` of
  // `leaves`, [k_begin, k_end).
  template <typename Sink>
  SHOAL_INLINE void SumLeaf(int64_t leaf, int64_t leaves, int64_t k_begin, int64_t k_end,
                            Sink sink) {
    for (int r = 0; r < row_count; ++r) {
      const int64_t at = (row + r) * leaves + leaf;
      scales_[r] = input_.scales[at];
      starts_[r] = -QuantOffset(DType::kINT8) * input_.sums[at];
    }
    for (int64_t p = 0; p < panel_count; p += 2) {
      if (row_count > kRowTile) {
        Multiply<2>(p, k_begin, k_end);
      } else {
        Multiply<1>(p, k_begin, k_end);
      }
      for (int64_t q = 0; q < Smaller(2, panel_count - p); ++q) {
        const L d = L::LoadLanes(reinterpret_cast<const float*>(Data(p + q)));
        for (int r = 0; r < row_count; ++r) {
          const L dot = L::FromDots(dots_[q][r], starts_[r]);
          sink(p + q, r, L::Zero() + L::PlusProduct(L::Scaled(d, scales_[r]), dot, L::Zero()));
        }
      }
    }
  }

  Panels panels;
  int64_t row = 0;
  int row_count = 0;
  int64_t panel = 0;
  int64_t panel_count = 0;

 private:
  SHOAL_INLINE const uint8_t* Data(int64_t p) const {
    return panels.data + (panel + p) * panels.bytes;
  }

  // 64 k of a row tile, or as many as there are and zeros; and so with rows.
  SHOAL_INLINE TileRows Rows(int tile, int64_t k, int64_t count) {
    const int first = tile * kRowTile;
    const int64_t rows = Smaller(row_count - first, kRowTile);
    const int8_t* from = input_.quants + (row + first) * input_.cols + k;
    if (rows == kRowTile && count == kStep) return {from, input_.cols};
    int8_t(*to)[kStep] = copies_[tile];
    for (int r = 0; r < kRowTile; ++r) {
      __builtin_memset(to[r], 0, kStep);
      if (r >= rows) continue;
      for (int64_t i = 0; i < count; i += kGroup) {
        __builtin_memcpy(to[r] + i, from + r * input_.cols + i, kGroup);
      }
    }
    return {to[0], kStep};
  }

  // dots_ of panels p and p + 1; without a second one, of the first twice.
  template <int kTiles>
  SHOAL_INLINE void Multiply(int64_t p, int64_t k_begin, int64_t k_end) {
    const uint8_t* weights[2];
    for (int64_t q = 0; q < 2; ++q) {
      weights[q] =
          Data(Smaller(p + q, panel_count - 1)) + kTableBytes + k_begin / kGroup * kGroupBytes;
    }
    tiles_.template Clear<kTiles>();
    for (int64_t k = k_begin; k < k_end; k += kStep) {
      const int64_t count = Smaller(kStep, k_end - k);
      TileRows rows[kTiles];
      for (int tile = 0; tile < kTiles; ++tile) rows[tile] = Rows(tile, k, count);
      if (count < kStep) {
        // A tile's worth may not be there; with rows of zeros it does not matter what it is.
        for (int q = 0; q < 2; ++q) {
          __builtin_memcpy(rest_[q], weights[q], kStepBytes / 2);
          weights[q] = rest_[q];
        }
      }
      tiles_.template MultiplyAdd<kTiles>(rows, weights);
      for (const uint8_t*& panel_weights : weights) panel_weights += kStepBytes;
    }
    tiles_.template Store<kTiles>(dots_);
  }

  const ActivationRows& input_;
  Tiles tiles_;
  float scales_[kRows];
  int32_t starts_[kRows];
  alignas(64) int32_t dots_[2][kRows][kPanelRows];
  alignas(64) int8_t copies_[2][kRowTile][kStep];
  alignas(64) uint8_t rest_[2][kStepBytes] = {};
};

}  // namespace
}  // namespace shoal::cpu
