#pragma once

// A block of rows and a group of weights, ready to be multiplied. Local to the file that includes
// it (kernels/cpu/inline.h says why).

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/inline.h"
#include "kernels/cpu/linear/quant/quant_offset.h"
#include "kernels/format/packed.h"

namespace shoal::cpu {
namespace {

// Up to 256 k of the tile's rows at constant distances, with what a (row, group) needs once.
template <DType kType, int kRows>
struct RowBlock {
  alignas(64) int8_t quants[kRows][kBlockK];
  alignas(64) float scales[kRows][kBlockGroups];
  // Q4_1: scale * float(sum). The others: -offset * sum, where the integer dot starts.
  alignas(64) float corrections[kRows][kBlockGroups];

  SHOAL_INLINE void Load(const ActivationRows& input, int64_t row, int64_t k, int64_t count) {
    const int64_t groups = count / kGroup;
    const auto mask = static_cast<__mmask8>((1u << groups) - 1);
    for (int r = 0; r < kRows; ++r) {
      const int64_t first_group = (row + r) * (input.cols / kGroup) + k / kGroup;
      const int8_t* from = input.quants + (row + r) * input.cols + k;
      for (int64_t g = 0; g < groups; ++g) {
        const auto* group = reinterpret_cast<const __m256i*>(from + g * kGroup);
        _mm256_store_si256(reinterpret_cast<__m256i*>(quants[r] + g * kGroup),
                           _mm256_loadu_si256(group));
      }
      const __m256 scale = _mm256_maskz_loadu_ps(mask, input.scales + first_group);
      const __m256i sum = _mm256_maskz_loadu_epi32(mask, input.sums + first_group);
      _mm256_store_ps(scales[r], scale);
      if constexpr (kOffset<kType> == 0) {
        _mm256_store_ps(corrections[r], _mm256_mul_ps(scale, _mm256_cvtepi32_ps(sum)));
      } else {
        const __m256i start = _mm256_mullo_epi32(sum, _mm256_set1_epi32(-kOffset<kType>));
        _mm256_store_si256(reinterpret_cast<__m256i*>(corrections[r]), start);
      }
    }
  }
};

SHOAL_INLINE __m512 LoadHalves(const uint8_t* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

// One group's weights of 16 outputs, unpacked.
template <DType kType>
struct WeightGroup {
  static constexpr int64_t kBytes = PackedGroupBytes(kType);
  __m512i quads[8];
  __m512 d;
  __m512 m;

  SHOAL_INLINE void Load(const uint8_t* from) {
    if constexpr (kType == DType::kQ8_0) {
#pragma GCC unroll 8
      for (int v = 0; v < 8; ++v) quads[v] = _mm512_loadu_si512(from + 64 * v);
      d = LoadHalves(from + 512);
    } else {
      const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        const __m512i both = _mm512_loadu_si512(from + 64 * v);
        quads[v] = _mm512_and_si512(both, low);
        quads[v + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
      }
      d = LoadHalves(from + 256);
      if constexpr (kType == DType::kQ4_1) m = LoadHalves(from + 288);
    }
  }
};

}  // namespace
}  // namespace shoal::cpu
