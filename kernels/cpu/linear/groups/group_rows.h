#pragma once

// Rows of activations as linear layers over groups read them. Local to the file that includes it
// (kernels/cpu/inline.h says why).

#include <cstdint>

#include "kernels/cpu/inline.h"
#include "kernels/format/packed.h"

namespace shoal::cpu {
namespace {

constexpr int kGroupTileRows = 8;

// Up to a block of a tile's rows at constant distances, with what a (row, group) needs once.
struct GroupRows {
  alignas(64) int8_t quants[kGroupTileRows][kBlockK];
  float scales[kGroupTileRows][kBlockK / 16];
  float minimums[kGroupTileRows][kBlockK / 16];  // scale * float(sum)
  int32_t starts[kGroupTileRows][kBlockK / 16];  // -offset * sum, where the dot product starts.

  // `count` k of `rows` rows, in groups of `group`.
  SHOAL_INLINE void Load(const ActivationRows& input, int32_t offset, int64_t row, int rows,
                         int64_t k, int64_t count, int64_t group) {
    for (int r = 0; r < rows; ++r) {
      const int8_t* from = input.quants + (row + r) * input.cols + k;
      int64_t i = 0;
      for (; i + 64 <= count; i += 64) __builtin_memcpy(quants[r] + i, from + i, 64);
      for (; i < count; i += 16) __builtin_memcpy(quants[r] + i, from + i, 16);
      const int64_t first = ((row + r) * input.cols + k) / group;
      for (int64_t g = 0; g < count / group; ++g) {
        const int32_t sum = input.sums[first + g];
        scales[r][g] = input.scales[first + g];
        minimums[r][g] = scales[r][g] * static_cast<float>(sum);
        starts[r][g] = -offset * sum;
      }
    }
  }
};

}  // namespace
}  // namespace shoal::cpu
