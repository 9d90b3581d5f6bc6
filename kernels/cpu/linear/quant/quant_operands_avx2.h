#pragma once

// A block of rows and a block of weights, ready to be multiplied. Local to the file that includes
// it (kernels/cpu/inline.h says why).

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/inline.h"
#include "kernels/cpu/linear/lanes/lanes_avx2.h"
#include "kernels/cpu/linear/quant/quant_offset.h"
#include "kernels/format/packed.h"

namespace shoal::cpu {
namespace {

SHOAL_INLINE __m256i LoadBytes(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

SHOAL_INLINE void StoreBytes(void* to, __m256i bytes) {
  _mm256_store_si256(static_cast<__m256i*>(to), bytes);
}

// Rows of up to 256 k at constant distances, with what a (row, group) needs once.
template <DType kType, int kRowsMax>
struct RowBlock {
  static constexpr bool kWide = kType == DType::kQ8_0;
  // As bytes; or as 16-bit numbers, of each quad of k first the two even ones, then the two odd.
  static constexpr int64_t kQuadBytes = kWide ? 8 : 4;
  alignas(32) int8_t quants[kRowsMax][kBlockK / 4 * kQuadBytes];
  alignas(32) float scales[kRowsMax][kBlockGroups];
  // Q4_1: scale * float(sum). The others: -offset * sum as bits, where the dot product starts.
  alignas(32) float corrections[kRowsMax][kBlockGroups];

  SHOAL_INLINE void Load(const ActivationRows& input, int64_t row, int rows, int64_t k,
                         int64_t count) {
    const int64_t groups = count / kGroup;
    const __m256i present = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(groups)),
                                               _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    for (int r = 0; r < rows; ++r) {
      const int64_t first_group = (row + r) * (input.cols / kGroup) + k / kGroup;
      const int8_t* from = input.quants + (row + r) * input.cols + k;
      for (int64_t g = 0; g < groups; ++g) LoadGroup(from + g * kGroup, r, g);
      const __m256 scale = _mm256_maskload_ps(input.scales + first_group, present);
      const __m256i sum = _mm256_maskload_epi32(input.sums + first_group, present);
      _mm256_store_ps(scales[r], scale);
      if constexpr (kOffset<kType> == 0) {
        _mm256_store_ps(corrections[r], _mm256_mul_ps(scale, _mm256_cvtepi32_ps(sum)));
      } else {
        StoreBytes(corrections[r], _mm256_mullo_epi32(sum, _mm256_set1_epi32(-kOffset<kType>)));
      }
    }
  }

  SHOAL_INLINE void LoadGroup(const int8_t* from, int r, int64_t g) {
    __m256i x = LoadBytes(from);
    Settle(x);
    int8_t* to = quants[r] + g * (kGroup / 4 * kQuadBytes);
    if constexpr (kWide) {
      const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
      const __m256i odd = _mm256_srai_epi16(x, 8);
      const __m256i low = _mm256_unpacklo_epi32(even, odd);   // Quads 0, 1 and 4, 5.
      const __m256i high = _mm256_unpackhi_epi32(even, odd);  // Quads 2, 3 and 6, 7.
      StoreBytes(to, _mm256_permute2x128_si256(low, high, 0x20));
      StoreBytes(to + 32, _mm256_permute2x128_si256(low, high, 0x31));
    } else {
      StoreBytes(to, x);
    }
  }
};

// A block of one panel's weights as they are multiplied.
template <DType kType>
struct UnpackedBlock {
  static constexpr int64_t kQuadBytes = kType == DType::kQ8_0 ? 128 : 64;
  alignas(32) uint8_t quads[kBlockGroups][kGroup / 4][kQuadBytes];
  alignas(32) float factors[kBlockGroups][2][kPanelRows];  // Scales, then minimums.
};

}  // namespace
}  // namespace shoal::cpu
