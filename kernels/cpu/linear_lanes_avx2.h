#pragma once

// The 16 outputs of a panel in two AVX2 registers. Included only by AVX2 files.

#include <immintrin.h>

#include "kernels/cpu/linear_tiles.h"

namespace shoal::cpu {
namespace {

struct Lanes256 {
  __m256 half[2];  // Outputs 0-7, 8-15.

  static SHOAL_INLINE Lanes256 Zero() { return {{_mm256_setzero_ps(), _mm256_setzero_ps()}}; }
  static SHOAL_INLINE Lanes256 LoadLanes(const float* from) {
    return {{_mm256_load_ps(from), _mm256_load_ps(from + 8)}};
  }
  SHOAL_INLINE void StoreLanes(float* to) const {
    _mm256_store_ps(to, half[0]);
    _mm256_store_ps(to + 8, half[1]);
  }
  SHOAL_INLINE void StoreOutputs(float* to, int64_t count) const {
    if (count == kPanelRows) {
      _mm256_storeu_ps(to, half[0]);
      _mm256_storeu_ps(to + 8, half[1]);
      return;
    }
    alignas(32) float lanes[kPanelRows];
    StoreLanes(lanes);
    for (int64_t lane = 0; lane < count; ++lane) to[lane] = lanes[lane];
  }
  SHOAL_INLINE Lanes256 operator+(Lanes256 other) const {
    return {{_mm256_add_ps(half[0], other.half[0]), _mm256_add_ps(half[1], other.half[1])}};
  }
};

// RNE(y * 2^32) for |y| < 2^30, exactly: y = whole + rest with |rest| <= 1/2. The rest is exact
// because whole is the nearest integer: below 1/2 it is y itself, above it has no more bits than y
// (with the next lower integer, a rest near 1 would round, and could become a tie). whole * 2^32 is
// an even integer, so rounding the rest alone breaks ties alike. Adding 1.5 * 2^52 to a double
// leaves the rounded integer in the low bits.
SHOAL_INLINE __m256i ToFixed256(__m128 y) {
  const __m256d value = _mm256_cvtps_pd(y);
  const __m256d whole = _mm256_round_pd(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256d rest = _mm256_mul_pd(_mm256_sub_pd(value, whole), _mm256_set1_pd(0x1p32));
  const __m256d magic = _mm256_set1_pd(0x1.8p52);
  const __m256i high = _mm256_castpd_si256(_mm256_add_pd(whole, magic));
  const __m256i low =
      _mm256_sub_epi64(_mm256_castpd_si256(_mm256_add_pd(rest, magic)), _mm256_castpd_si256(magic));
  // The shift drops the magic number's own bits: its low 32 bits are zeros.
  return _mm256_add_epi64(_mm256_slli_epi64(high, 32), low);
}

SHOAL_INLINE uint32_t AddFixed256(Lanes256 y, float limit, int64_t* sums) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  uint32_t bad = 0;
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    const __m256 valid =
        _mm256_cmp_ps(_mm256_and_ps(y.half[h], magnitude), _mm256_set1_ps(limit), _CMP_LT_OQ);
    const __m256 checked = _mm256_and_ps(y.half[h], valid);
    bad |= (static_cast<uint32_t>(_mm256_movemask_ps(valid)) ^ 0xFFu) << (8 * h);
    const __m128 quarters[2] = {_mm256_castps256_ps128(checked), _mm256_extractf128_ps(checked, 1)};
#pragma GCC unroll 2
    for (int q = 0; q < 2; ++q) {
      auto* sum = reinterpret_cast<__m256i*>(sums + 8 * h + 4 * q);
      _mm256_store_si256(sum, _mm256_add_epi64(_mm256_load_si256(sum), ToFixed256(quarters[q])));
    }
  }
  return bad;
}

}  // namespace
}  // namespace shoal::cpu
