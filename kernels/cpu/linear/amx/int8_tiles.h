#pragma once

// INT8 linear layers with int8 tile instructions: exact sums stay in tiles over the whole of K,
// those of 32 rows with two panels in four tiles. Meanwhile the processor's vector units scale the
// sums of the rows and panels before.
//
// Written against two policies, so that tests run the same code with emulated tiles:
//   Tiles    Clear<tiles>()                        sums = 0 for both panels and 1 or 2 x 16 rows
//            MultiplyAdd<tiles>(rows, weights)     sums += exact dot products of 64 k; rows[tile]:
//                                                  16 rows of signed bytes, weights[panel]: 16 rows
//                                                  of 64 unsigned bytes, four k of 16 outputs
//            Store<tiles>(dots)                    dots[panel][row][16] = sums
//   L        16 floats, as tiles/kernel.h has them, and FromDots, Scaled, PlusProduct
//
// Local to the file that includes it (kernels/cpu/inline.h says why).

#include "kernels/cpu/linear/groups/group_tile.h"
#include "kernels/cpu/linear/int8/int8_layer.h"
#include "kernels/cpu/linear/tiles/panels.h"
#include "kernels/cpu/linear/tiles/prefetch.h"

namespace shoal::cpu {
namespace {

// With fewer rows the tile is mostly empty, and the dot products of vectors are faster.
constexpr int64_t kInt8TileRowsMin = 8;

// 16 rows, `stride` bytes apart.
struct TileRows {
  const int8_t* rows;
  int64_t stride;
};

// Dots for int8_layer.h.
template <typename Tiles, typename L>
class Int8Tiles {
 public:
  using Lanes = L;
  static constexpr int32_t kOffset = QuantOffset(DType::kINT8);

  SHOAL_INLINE Int8Tiles(const PackedMatrix& weights, const ActivationRows& input)
      : panels(TabledPanels<DType::kINT8>(weights, kTableBytes)), input_(input) {}

  static SHOAL_INLINE L Scaled(const float* table, float scale, const int32_t* dots,
                               int32_t start) {
    const L scales = L::Scaled(L::LoadLanes(table), scale);
    return L::Zero() + L::PlusProduct(scales, L::FromDots(dots, start), L::Zero());
  }

  template <typename Call, typename Sink>
  SHOAL_INLINE void ForEach(const Call& call, Sink sink) {
    Block before = {};
    // Rows that stay in L2 while all panels meet them.
    const int64_t together = (kRowsBytes / panels.cols + kRows - 1) / kRows * kRows;
    for (int64_t first = call.row_begin; first < call.row_end; first += together) {
      const int64_t end = Smaller(first + together, call.row_end);
      for (int64_t panel = call.panel_begin; panel < call.panel_end; panel += kPanels) {
        for (int64_t row = first; row < end; row += kRows) {
          const Block block = {
              .row = row,
              .rows = Smaller(kRows, end - row),
              .panel = panel,
              .panels = Smaller(kPanels, call.panel_end - panel),
              .dots = before.dots == dots_[0] ? dots_[1] : dots_[0],
              .fetch = FetchShare(row - first, end - first),
              .fetched_panels = Smaller(kPanels, call.panel_end - panel - kPanels)};
          FetchOutputs(call, row, block.rows, panel, block.panels);
          if (block.rows > kTileRows) {
            Multiply<2>(block, before, sink);
          } else {
            Multiply<1>(block, before, sink);
          }
          before = block;
        }
      }
    }
    Give(before, 1, sink);
  }

  Panels panels;

 private:
  static constexpr int64_t kRows = 32;
  static constexpr int64_t kTileRows = 16;
  static constexpr int64_t kPanels = 2;
  // Half of the L2 of every processor with AMX so far.
  static constexpr int64_t kRowsBytes = 1 << 20;
  static constexpr int64_t kGroup = GroupSize(DType::kINT8);
  static constexpr int64_t kGroupBytes = PackedGroupBytes(DType::kINT8);
  static constexpr int64_t kTableBytes = kPanelRows * PackedFactsOf(DType::kINT8).block_factors;
  static constexpr int64_t kStep = 64;
  static constexpr int64_t kStepBytes = kStep * kPanelRows;

  // A range of the cache lines that a panel has in a step.
  struct Lines {
    int64_t begin;
    int64_t end;
  };

  // Rows and panels whose sums are in dots[panel][row].
  struct Block {
    int64_t row;
    int64_t rows;
    int64_t panel;
    int64_t panels;
    int32_t (*dots)[kRows][kPanelRows];
    // What is brought to L2 meanwhile: these lines of each step of so many of the
    // panels that follow.
    Lines fetch;
    int64_t fetched_panels;
    int64_t given = 0;  // Rows of each panel that were handed on.
  };

  // The part of the next panels that falls to the block at `row` of `rows`.
  static SHOAL_INLINE Lines FetchShare(int64_t row, int64_t rows) {
    constexpr int64_t kLines = kStepBytes / 64;
    const int64_t blocks = (rows + kRows - 1) / kRows;
    const int64_t share = (kLines + blocks - 1) / blocks;
    const int64_t begin = Smaller(row / kRows * share, kLines);
    return {begin, Smaller(begin + share, kLines)};
  }

  // Hands on the block's next rows, so many that `steps_left` equal portions would be the rest.
  template <typename Sink>
  SHOAL_INLINE void Give(Block& block, int64_t steps_left, Sink sink) {
    const int64_t end = block.given + (block.rows - block.given + steps_left - 1) / steps_left;
    for (int64_t r = block.given; r < end; ++r) {
      sink(block.panel, block.row + r, 1, block.dots[0] + r);
      if (block.panels == 2) sink(block.panel + 1, block.row + r, 1, block.dots[1] + r);
    }
    block.given = end;
  }

  // 64 k of a row tile, or as many as there are and zeros; and so with rows.
  SHOAL_INLINE TileRows Rows(const Block& block, int tile, int64_t k, int64_t count) {
    const int64_t first = tile * kTileRows;
    const int64_t rows = Smaller(block.rows - first, kTileRows);
    const int8_t* from = input_.quants + (block.row + first) * input_.cols + k;
    if (rows == kTileRows && count == kStep) return {from, input_.cols};
    int8_t(*to)[kStep] = copies_[tile];
    for (int64_t r = 0; r < kTileRows; ++r) {
      __builtin_memset(to[r], 0, kStep);
      if (r >= rows) continue;
      for (int64_t i = 0; i < count; i += kGroup) {
        __builtin_memcpy(to[r] + i, from + r * input_.cols + i, kGroup);
      }
    }
    return {to[0], kStep};
  }

  // The block's dot products; without a second panel, those of the first twice. Between the tiles
  // it hands on what `before` still has.
  template <int kTiles, typename Sink>
  SHOAL_INLINE void Multiply(const Block& block, Block& before, Sink sink) {
    const uint8_t* weights[kPanels];
    for (int64_t p = 0; p < kPanels; ++p) {
      weights[p] =
          panels.data + (block.panel + Smaller(p, block.panels - 1)) * panels.bytes + kTableBytes;
    }
    tiles_.template Clear<kTiles>();
    for (int64_t k = 0; k < panels.cols; k += kStep) {
      const int64_t count = Smaller(kStep, panels.cols - k);
      for (int64_t p = 0; p < block.fetched_panels; ++p) {
        const uint8_t* next = weights[p] + kPanels * panels.bytes;
        for (int64_t line = block.fetch.begin; line < block.fetch.end; ++line) {
          __builtin_prefetch(next + 64 * line, 0, 2);
        }
      }
      TileRows rows[kTiles];
      for (int tile = 0; tile < kTiles; ++tile) rows[tile] = Rows(block, tile, k, count);
      if (count < kStep) {
        // A tile's worth may not be there; with rows of zeros it does not matter what it is.
        for (int64_t p = 0; p < kPanels; ++p) {
          __builtin_memcpy(rest_[p], weights[p], kStepBytes / 2);
          weights[p] = rest_[p];
        }
      }
      tiles_.template MultiplyAdd<kTiles>(rows, weights);
      for (const uint8_t*& panel_weights : weights) panel_weights += kStepBytes;
      Give(before, (panels.cols - k + kStep - 1) / kStep, sink);
    }
    tiles_.template Store<kTiles>(block.dots);
  }

  const ActivationRows& input_;
  Tiles tiles_;
  alignas(64) int32_t dots_[2][kPanels][kRows][kPanelRows];
  alignas(64) int8_t copies_[2][kTileRows][kStep];
  alignas(64) uint8_t rest_[kPanels][kStepBytes] = {};
};

}  // namespace
}  // namespace shoal::cpu
