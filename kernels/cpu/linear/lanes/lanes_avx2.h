#pragma once

// The 16 outputs of a panel in two AVX2 registers, and what the linear layers over quantised
// weights share. Included only by AVX2 files.

#include <immintrin.h>

#include "kernels/cpu/linear/tiles/panels.h"
#include "kernels/cpu/linear/tiles/prefetch.h"

namespace shoal::cpu {
namespace {

struct Lanes256 {
  static constexpr uint64_t kFixedBias = 0x4338000000000000u;  // The bits of kFixedMagic.

  __m256 half[2];  // Outputs 0-7, 8-15.

  static SHOAL_INLINE Lanes256 Zero() { return {{_mm256_setzero_ps(), _mm256_setzero_ps()}}; }
  static SHOAL_INLINE Lanes256 LoadLanes(const float* from) {
    return {{_mm256_load_ps(from), _mm256_load_ps(from + 8)}};
  }
  SHOAL_INLINE void StoreLanes(float* to) const {
    _mm256_storeu_ps(to, half[0]);
    _mm256_storeu_ps(to + 8, half[1]);
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
  static constexpr SHOAL_INLINE Ahead StreamAhead(int) { return kStreamAhead; }
  SHOAL_INLINE Lanes256 operator+(Lanes256 other) const {
    return {{_mm256_add_ps(half[0], other.half[0]), _mm256_add_ps(half[1], other.half[1])}};
  }
};

// Adding 1.5 * 2^52 to a double leaves its rounded integer in the low bits, below the bits of that
// number itself. They are left in the sums: who clears the sums knows how often they are added.
constexpr double kFixedMagic = 0x1.8p52;

// RNE(y * 2^32) for |y| < 2^30, exactly: y = whole + rest with |rest| <= 1/2. The rest is exact
// because whole is the nearest integer: below 1/2 it is y itself, above it has no more bits than y
// (with the next lower integer, a rest near 1 would round, and could become a tie). whole * 2^32 is
// an even integer, so rounding the rest alone breaks ties alike.
SHOAL_INLINE __m256i ToFixedAndBias256(__m128 y) {
  const __m256d value = _mm256_cvtps_pd(y);
  const __m256d whole = _mm256_round_pd(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256d rest = _mm256_mul_pd(_mm256_sub_pd(value, whole), _mm256_set1_pd(0x1p32));
  const __m256d magic = _mm256_set1_pd(kFixedMagic);
  const __m256i high = _mm256_castpd_si256(_mm256_add_pd(whole, magic));
  const __m256i low = _mm256_castpd_si256(_mm256_add_pd(rest, magic));
  // The shift drops the magic number's own bits: its low 32 bits are zeros.
  return _mm256_add_epi64(_mm256_slli_epi64(high, 32), low);
}

// The same for |y| < 2^19: y * 2^32 is exact and below 2^51.
SHOAL_INLINE __m256i ToFixedAndBias256Small(__m128 y) {
  return _mm256_castpd_si256(
      _mm256_fmadd_pd(_mm256_cvtps_pd(y), _mm256_set1_pd(0x1p32), _mm256_set1_pd(kFixedMagic)));
}

SHOAL_INLINE void AddTo(int64_t* sums, __m256i values) {
  auto* sum = reinterpret_cast<__m256i*>(sums);
  _mm256_store_si256(sum, _mm256_add_epi64(_mm256_load_si256(sum), values));
}

SHOAL_INLINE __m256 IsBelow(__m256 y, float limit) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  return _mm256_cmp_ps(_mm256_and_ps(y, magnitude), _mm256_set1_ps(limit), _CMP_LT_OQ);
}

inline __attribute__((noinline, cold)) uint32_t AddFixed256Large(Lanes256 y, float limit,
                                                                 int64_t* sums) {
  uint32_t bad = 0;
  for (int h = 0; h < 2; ++h) {
    const __m256 valid = IsBelow(y.half[h], limit);
    const __m256 checked = _mm256_and_ps(y.half[h], valid);
    bad |= (static_cast<uint32_t>(_mm256_movemask_ps(valid)) ^ 0xFFu) << (8 * h);
    AddTo(sums + 8 * h, ToFixedAndBias256(_mm256_castps256_ps128(checked)));
    AddTo(sums + 8 * h + 4, ToFixedAndBias256(_mm256_extractf128_ps(checked, 1)));
  }
  return bad;
}

SHOAL_INLINE uint32_t AddFixed256(Lanes256 y, float limit, int64_t* sums) {
  const float small = limit < 0x1p19f ? limit : 0x1p19f;
  const __m256 both = _mm256_and_ps(IsBelow(y.half[0], small), IsBelow(y.half[1], small));
  if (__builtin_expect(_mm256_movemask_ps(both) != 0xFF, 0)) {
    return AddFixed256Large(y, limit, sums);
  }
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    AddTo(sums + 8 * h, ToFixedAndBias256Small(_mm256_castps256_ps128(y.half[h])));
    AddTo(sums + 8 * h + 4, ToFixedAndBias256Small(_mm256_extractf128_ps(y.half[h], 1)));
  }
  return 0;
}

SHOAL_INLINE __m256i Broadcast32(const void* from) {
  int32_t bits;
  __builtin_memcpy(&bits, from, 4);
  return _mm256_set1_epi32(bits);
}

// Keeps a value where it is computed. Otherwise the compiler puts off additions and spills what
// they add, or makes a string move of a short copy.
SHOAL_INLINE void Settle(__m256i& value) { __asm__("" : "+x"(value)); }

}  // namespace
}  // namespace shoal::cpu
