#pragma once

// Linear layers over quantised weights with int8 tile instructions: a group's dot products of 16
// activation rows with 16 outputs are one instruction, 16 x 32 bytes times 32 x 16, both signed.
// What remains per row is scaling, which bounds the speed.
//
// A panel's block is unpacked once for all rows, and a tile of 16 rows is multiplied by all of it
// before it is scaled: a processor that goes back and forth between tiles and vectors waits.
//
// Written against two policies, so that tests run the same code with emulated tiles:
//   Tiles    Multiply(rows, stride, weights, dots)
//            dots[16][16] = exact dot products of 32 k; rows are `stride` bytes apart, weights are
//            8 rows of 64 bytes: four k of 16 outputs
//   L        16 floats, as tiles/kernel.h has them, and FromDots, FromHalves, Broadcast, Scaled,
//            PlusProduct, AddFixed;
//            on a group's weights UnpackNibbles(from, offset, to), 256 low and then 256 high ones
//            less the offset, and UnpackBytes(from, offset, to), 512;
//            on up to 8 groups of a row CopyFactors(scales, sums, groups, to, minimums), where
//            minimums, unless null, become scale * float(sum)
//
// Local to the file that includes it (kernels/cpu/inline.h says why).

#include "kernels/cpu/linear/tiles/kernel.h"
#include "kernels/cpu/linear/tiles/panels.h"
#include "kernels/cpu/linear/tiles/prefetch.h"

namespace shoal::cpu {
namespace {

constexpr int kTileRows = 16;
// With fewer rows the tile is mostly empty, and the dot products of vectors are faster.
constexpr int64_t kTileRowsMin = 10;

template <DType kType, typename Tiles, typename L>
struct TileKernel {
  using Lanes = L;
  static constexpr int64_t kPanels = 8;
  static constexpr int kTogether = 1;
  static constexpr int kTiles = 2;
  static constexpr int kRowUnit = kTileRows;
  static constexpr int kRowsMax = kTiles * kTileRows;
  static constexpr int64_t kGroup = 32;
  static constexpr int64_t kBlockGroups = kBlockK / kGroup;
  static constexpr int64_t kBytes = PackedGroupBytes(kType);
  static constexpr int64_t kFactors = kType == DType::kQ8_0 ? 512 : 256;
  static constexpr bool kHasMinimum = kType == DType::kQ4_1;
  static constexpr int64_t kMinimums = kRowsMax * kBlockGroups;  // From scales to minimums.

  static constexpr SHOAL_INLINE int64_t WeightBytes(int64_t k) { return k / kGroup * kBytes; }
  static SHOAL_INLINE uint32_t AddFixed(L y, float limit, int64_t* to) {
    return L::AddFixed(y, limit, to);
  }

  SHOAL_INLINE void Load(const ActivationRows& input, int64_t row, int64_t k, int64_t count) {
    const int64_t groups = count / kGroup;
    const int8_t* from = input.quants + row * input.cols + k;
    // Rows at such a distance lie in the same few sets of L1.
    const bool collide = input.cols % 4096 == 0;
    for (int r = 0; r < row_count; ++r) {
      const int64_t first_group = (row + r) * (input.cols / kGroup) + k / kGroup;
      L::CopyFactors(input.scales + first_group, input.sums + first_group, groups, scales[r],
                     kHasMinimum ? scales[kRowsMax + r] : nullptr);
    }
    // Tiles are multiplied and scaled whole.
    for (int r = row_count; r % kTileRows != 0; ++r) {
      __builtin_memset(scales[r], 0, sizeof(scales[r]));
      if constexpr (kHasMinimum) __builtin_memset(scales[kRowsMax + r], 0, sizeof(scales[r]));
    }
    for (int tile = 0; tile * kTileRows < row_count; ++tile) {
      const int first = tile * kTileRows;
      const int rows = row_count - first < kTileRows ? row_count - first : kTileRows;
      quants[tile] = from + first * input.cols;
      stride[tile] = input.cols;
      if (rows == kTileRows && !collide) continue;
      for (int r = 0; r < rows; ++r) {
        __builtin_memcpy(copies[first + r], quants[tile] + r * input.cols,
                         static_cast<size_t>(count));
      }
      for (int r = rows; r < kTileRows; ++r) {
        __builtin_memset(copies[first + r], 0, sizeof(copies[0]));
      }
      quants[tile] = copies[first];
      stride[tile] = kBlockK;
    }
  }

  // A group's weights and factors.
  SHOAL_INLINE void Unpack(const uint8_t* group, int64_t g) {
    Prefetch<kBytes>(group, ahead);
    if constexpr (kType == DType::kQ8_0) {
      L::UnpackBytes(group, 128, unpacked[g]);
    } else {
      L::UnpackNibbles(group, kType == DType::kQ4_0 ? 8 : 0, unpacked[g]);
    }
    L::FromHalves(group + kFactors).StoreLanes(factors[g][0]);
    if constexpr (kHasMinimum) L::FromHalves(group + kFactors + 32).StoreLanes(factors[g][1]);
  }

  // Calls sink(0, row, sum) for the tile's rows and every `leaf` groups of the `groups` unpacked.
  template <int kRows, typename Sink>
  SHOAL_INLINE void Scale(int tile, int64_t first, int64_t groups, int64_t leaf, Sink sink) {
    const int rows = row_count - tile * kTileRows;
    for (int64_t begin = 0; begin < groups; begin += leaf) {
      L acc[kRows];
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) acc[r] = L::Zero();
      for (int64_t g = begin; g < Smaller(begin + leaf, groups); ++g) {
        const L d = L::LoadLanes(factors[g][0]);
        [[maybe_unused]] const L m = L::LoadLanes(factors[g][1]);
        const float* group_scales = &scales[tile * kTileRows][first + g];
        // One address and offsets to it, not one for each row.
        __asm__("" : "+r"(group_scales));
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          const L dot = L::FromDots(dots[g][r]);
          acc[r] = L::PlusProduct(L::Scaled(d, group_scales[r * kBlockGroups]), dot, acc[r]);
          if constexpr (kHasMinimum) {
            const L correction = L::Broadcast(group_scales[kMinimums + r * kBlockGroups]);
            acc[r] = L::PlusProduct(m, correction, acc[r]);
          }
        }
      }
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        if (r < rows) sink(0, tile * kTileRows + r, acc[r]);
      }
    }
  }

  template <typename Sink>
  SHOAL_INLINE void Leaves(const uint8_t* weights, int64_t k_begin, int64_t count,
                           int64_t leaf_cols, Sink sink) {
    const int64_t first = k_begin / kGroup;
    const int64_t groups = count / kGroup;
    for (int64_t g = 0; g < groups; ++g) Unpack(weights + g * kBytes, g);
    for (int tile = 0; tile * kTileRows < row_count; ++tile) {
      for (int64_t g = 0; g < groups; ++g) {
        Tiles::Multiply(quants[tile] + (first + g) * kGroup, stride[tile], unpacked[g], dots[g][0]);
      }
      if (row_count - tile * kTileRows > kTileRows / 2) {
        Scale<kTileRows>(tile, first, groups, leaf_cols / kGroup, sink);
      } else {
        Scale<kTileRows / 2>(tile, first, groups, leaf_cols / kGroup, sink);
      }
    }
  }

  template <int, typename Sink>
  SHOAL_INLINE void Block(const uint8_t* weights, int64_t, int64_t k_begin, int64_t count,
                          Sink sink) {
    Leaves(weights, k_begin, count, count, sink);
  }

  // By tile: its rows from the block's first k on, and their distance.
  const int8_t* quants[kTiles];
  int64_t stride[kTiles];
  alignas(64) int8_t copies[kRowsMax][kBlockK];
  alignas(64) int8_t unpacked[kBlockGroups][512];
  alignas(64) float factors[kBlockGroups][2][kPanelRows];
  alignas(64) int32_t dots[kBlockGroups][kTileRows][kPanelRows];
  // Scales, and then of formats with a minimum scale * float(sum).
  alignas(32) float scales[kHasMinimum ? 2 * kRowsMax : kRowsMax][kBlockGroups];
  int row_count;
  Ahead ahead;
};

}  // namespace
}  // namespace shoal::cpu
