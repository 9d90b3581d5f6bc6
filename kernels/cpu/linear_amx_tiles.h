#pragma once

// Linear layers over quantised weights with int8 tile instructions: a group's dot products of 16
// activation rows with 16 outputs are one instruction, 16 x 32 signed bytes times 32 x 16 unsigned
// ones. What remains per row is scaling, which bounds the speed.
//
// Written against two policies, so that tests run the same code with emulated tiles:
//   Tiles    LoadActivations(rows, stride)  16 rows of 32 signed bytes
//            LoadWeights(quads)             8 rows of 64 unsigned bytes: four k of 16 outputs
//            ZeroSums, MultiplyAdd          sums[row][output] += their dot products, exact int32
//            StoreSums(to)                  [16][16]
//   L        16 floats, as linear_tiles.h has them, and FromDots, FromHalves, Broadcast, Scaled,
//            PlusProduct, AddFixed
//
// Included only with the same care as linear_panels.h.

#include "kernels/cpu/linear_tiles.h"

namespace shoal::cpu {
namespace {

constexpr int kTileRows = 16;
// With fewer rows the tile is mostly empty, and the dot products of vectors are faster: scaling 16
// rows takes as long as multiplying and scaling half as many without tiles.
constexpr int64_t kTileRowsMin = 8;

template <DType kType, typename Tiles, typename L>
struct TileKernel {
  using Lanes = L;
  static constexpr int64_t kPanels = 8;
  static constexpr int kTogether = 1;
  static constexpr int kRowsMax = kTileRows;
  static constexpr int64_t kGroup = 32;
  static constexpr int64_t kBlockGroups = kBlockK / kGroup;
  static constexpr int64_t kBytes = PackedGroupBytes(kType);
  static constexpr int64_t kFactors = kType == DType::kQ8_0 ? 512 : 256;
  // What is subtracted from every unsigned weight.
  static constexpr int32_t kOffset = kType == DType::kQ8_0 ? 128 : kType == DType::kQ4_0 ? 8 : 0;

  static constexpr SHOAL_INLINE int64_t WeightBytes(int64_t k) { return k / kGroup * kBytes; }
  static SHOAL_INLINE uint32_t AddFixed(L y, float limit, int64_t* to) {
    return L::AddFixed(y, limit, to);
  }

  SHOAL_INLINE void Load(const ActivationRows& input, int64_t row, int64_t k, int64_t count) {
    const int64_t groups = count / kGroup;
    for (int r = 0; r < kTileRows; ++r) {
      if (r >= row_count) {  // The tile is loaded and scaled whole.
        __builtin_memset(quants[r], 0, sizeof(quants[r]));
        __builtin_memset(scales[r], 0, sizeof(scales[r]));
        __builtin_memset(corrections[r], 0, sizeof(corrections[r]));
        continue;
      }
      const int64_t first_group = (row + r) * (input.cols / kGroup) + k / kGroup;
      __builtin_memcpy(quants[r], input.quants + (row + r) * input.cols + k,
                       static_cast<size_t>(count));
      for (int64_t g = 0; g < groups; ++g) {
        const int32_t sum = input.sums[first_group + g];
        scales[r][g] = input.scales[first_group + g];
        if constexpr (kOffset == 0) {
          corrections[r][g] = scales[r][g] * static_cast<float>(sum);
        } else {
          starts[r][g] = -kOffset * sum;
        }
      }
    }
  }

  // The group's weights, a byte each.
  SHOAL_INLINE const uint8_t* Bytes(const uint8_t* group) {
    if constexpr (kType == DType::kQ8_0) {
      return group;
    } else {
      for (int64_t i = 0; i < 256; ++i) {
        unpacked[i] = group[i] & 15;
        unpacked[256 + i] = group[i] >> 4;
      }
      return unpacked;
    }
  }

  SHOAL_INLINE void Multiply(const uint8_t* group, int64_t g) {
#pragma GCC unroll 16
    for (int64_t line = 0; line < kBytes; line += 64) {
      __builtin_prefetch(group + ahead + line);
    }
    tiles.LoadWeights(Bytes(group));
    tiles.LoadActivations(quants[0] + g * kGroup, kBlockK);
    tiles.ZeroSums();
    tiles.MultiplyAdd();
    tiles.StoreSums(dots[g % 2][0]);
  }

  SHOAL_INLINE void Scale(const uint8_t* group, int64_t g, L* acc) const {
    const L d = L::FromHalves(group + kFactors);
    L m = d;
    if constexpr (kType == DType::kQ4_1) m = L::FromHalves(group + kFactors + 32);
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
      const int32_t start = kOffset == 0 ? 0 : starts[r][g];
      const L dot = L::FromDots(dots[g % 2][r], start);
      acc[r] = L::PlusProduct(L::Scaled(d, scales[r][g]), dot, acc[r]);
      if constexpr (kType == DType::kQ4_1) {
        acc[r] = L::PlusProduct(m, L::Broadcast(corrections[r][g]), acc[r]);
      }
    }
  }

  // Multiplies a group ahead of the one that it scales, so that the two overlap.
  template <int, typename Sink>
  SHOAL_INLINE void Block(const uint8_t* weights, int64_t, int64_t k_begin, int64_t count,
                          Sink sink) {
    L acc[kTileRows];
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) acc[r] = L::Zero();
    const int64_t first = k_begin / kGroup;
    const int64_t groups = count / kGroup;
    Multiply(weights, first);
    for (int64_t g = 0; g < groups; ++g) {
      if (g + 1 < groups) Multiply(weights + (g + 1) * kBytes, first + g + 1);
      Scale(weights + g * kBytes, first + g, acc);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
      if (r < row_count) sink(0, r, acc[r]);
    }
  }

  alignas(64) int8_t quants[kTileRows][kBlockK];
  alignas(64) uint8_t unpacked[kType == DType::kQ8_0 ? 64 : 512];
  alignas(64) int32_t dots[2][kTileRows][kPanelRows];
  float scales[kTileRows][kBlockGroups];
  union {
    float corrections[kTileRows][kBlockGroups];  // Q4_1: scale * float(sum).
    int32_t starts[kTileRows][kBlockGroups];     // The others: -offset * sum, added to the dot.
  };
  Tiles tiles;
  int row_count;
  int64_t ahead;
};

}  // namespace
}  // namespace shoal::cpu
