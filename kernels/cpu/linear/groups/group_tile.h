#pragma once

// Tiles of linear layers over groups: where one stands in a call, and the sums of a leaf. Local to
// the file that includes it (kernels/cpu/inline.h says why).

#include <cstdint>

#include "kernels/cpu/linear/groups/group_kernel.h"
#include "kernels/cpu/linear/groups/group_rows.h"
#include "kernels/cpu/linear/tiles/kept_rows.h"
#include "kernels/cpu/linear/tiles/panels.h"

namespace shoal::cpu {
namespace {

constexpr int64_t kGroupTilePanels = 4;

// The matrix's panels, which begin with a table of `table_bytes`.
template <DType kType>
SHOAL_INLINE Panels TabledPanels(const PackedMatrix& weights, int64_t table_bytes) {
  constexpr int64_t kGroup = GroupSize(kType);
  constexpr int64_t kGroupBytes = PackedGroupBytes(kType);
  return {.data = reinterpret_cast<const uint8_t*>(weights.data),
          .bytes = (table_bytes + weights.cols / kGroup * kGroupBytes + 63) / 64 * 64,
          .rows = weights.rows,
          .cols = weights.cols};
}

// Where a tile stands in a call. Rows are taken eight, four, two or one at a time.
struct GroupPlace {
  static constexpr int kRows = kGroupTileRows;
  static constexpr int64_t kPanels = kGroupTilePanels;

  SHOAL_INLINE void Place(int64_t new_row, int64_t rows_left, int64_t new_panel,
                          int64_t new_panel_count) {
    row = new_row;
    panel = new_panel;
    row_count = rows_left >= 8 ? 8 : rows_left >= 4 ? 4 : rows_left >= 2 ? 2 : 1;
    panel_count = new_panel_count;
  }

  int64_t row = 0;
  int row_count = 0;
  int64_t panel = 0;
  int64_t panel_count = 0;
};

// A tile of up to kGroupTileRows rows and kGroupTilePanels panels of a call.
template <typename Isa, DType kType>
struct GroupTile : GroupPlace {
  using Kernel = GroupKernel<Isa, kType>;
  using Lanes = typename Isa::Lanes;

  static SHOAL_INLINE uint32_t AddFixed(Lanes y, float limit, int64_t* sums) {
    return Isa::AddFixed(y, limit, sums);
  }

  SHOAL_INLINE GroupTile(const PackedMatrix& weights, const ActivationRows& input)
      : input_(input), block_offset_(weights.block_offset) {
    table_bytes_ = Kernel::kTableEntry * ((weights.cols + kBlockK - 1) / kBlockK + 1);
    panels = TabledPanels<kType>(weights, table_bytes_);
  }

  // Calls sink(panel of the tile, row of the tile, sum) with the sums over a leaf,
  // [k_begin, k_end).
  template <typename Sink>
  SHOAL_INLINE void SumLeaf(int64_t k_begin, int64_t k_end, Sink sink) {
    Clear();
    for (int64_t k = k_begin; k < k_end; k += kBlockK) {
      const int64_t count = Smaller(kBlockK, k_end - k);
      rows.Load(input_, Kernel::kOffset, row, row_count, k, count, Kernel::kGroup);
      for (int64_t p = 0; p < panel_count; ++p) {
        const uint8_t* table = Table(p);
        AddBlock({.groups = table + table_bytes_ + k / Kernel::kGroup * Kernel::kGroupBytes,
                  .table = table,
                  .table_k = block_offset_ + k,
                  .count = count,
                  .rows = rows.block},
                 p);
      }
    }
    for (int64_t p = 0; p < panel_count; ++p) {
      for (int r = 0; r < row_count; ++r) sink(p, r, Lanes::LoadLanes(results_[p][r]));
    }
  }

  // How many blocks of rows SumLeaf takes for all leaves of so many k.
  SHOAL_INLINE int64_t BlocksOf(int64_t leaf_cols) const {
    return (panels.cols + leaf_cols - 1) / leaf_cols * ((leaf_cols + kBlockK - 1) / kBlockK);
  }

  static constexpr int64_t kKeptBlocks = kKeptBytes / sizeof(GroupRows);

  Panels panels;
  KeptRows<GroupRows> rows;
  GroupRows kept[kKeptBlocks];

 private:
  SHOAL_INLINE const uint8_t* Table(int64_t p) const {
    return panels.data + (panel + p) * panels.bytes;
  }

  SHOAL_INLINE void Clear() {
    for (int64_t p = 0; p < panel_count; ++p) {
      for (int r = 0; r < row_count; ++r) Lanes::Zero().StoreLanes(results_[p][r]);
    }
  }

  SHOAL_INLINE void AddBlock(const GroupBlock& block, int64_t p) {
    switch (row_count) {
      case 8:
        return Kernel::template AddBlock<8>(block, results_[p]);
      case 4:
        return Kernel::template AddBlock<4>(block, results_[p]);
      case 2:
        return Kernel::template AddBlock<2>(block, results_[p]);
      default:
        return Kernel::template AddBlock<1>(block, results_[p]);
    }
  }

  const ActivationRows& input_;
  int64_t block_offset_;
  int64_t table_bytes_;
  alignas(64) float results_[kGroupTilePanels][kGroupTileRows][kPanelRows];
};

}  // namespace
}  // namespace shoal::cpu
