#pragma once

// The 16 outputs of a panel in one AVX-512 register. Included only by AVX-512 files.

#include <immintrin.h>

#include "kernels/cpu/linear_tiles.h"

namespace shoal::cpu {
namespace {

struct Lanes512 {
  static constexpr uint64_t kFixedBias = 0;

  __m512 v;

  static SHOAL_INLINE Lanes512 Zero() { return {_mm512_setzero_ps()}; }
  static SHOAL_INLINE Lanes512 LoadLanes(const float* from) { return {_mm512_load_ps(from)}; }
  SHOAL_INLINE void StoreLanes(float* to) const { _mm512_store_ps(to, v); }
  SHOAL_INLINE void StoreOutputs(float* to, int64_t count) const {
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), v);
  }
  SHOAL_INLINE Lanes512 operator+(Lanes512 other) const { return {_mm512_add_ps(v, other.v)}; }
};

// y * 2^32 is exact in f32, and the conversion rounds to nearest even.
SHOAL_INLINE uint32_t AddFixed512(Lanes512 y, float limit, int64_t* sums) {
  const __mmask16 valid = _mm512_cmp_ps_mask(_mm512_abs_ps(y.v), _mm512_set1_ps(limit), _CMP_LT_OQ);
  const __m512 scaled = _mm512_maskz_mul_ps(valid, y.v, _mm512_set1_ps(0x1p32f));
  const __m512i low = _mm512_cvtps_epi64(_mm512_castps512_ps256(scaled));
  const __m512i high = _mm512_cvtps_epi64(_mm512_extractf32x8_ps(scaled, 1));
  _mm512_store_si512(sums, _mm512_add_epi64(_mm512_load_si512(sums), low));
  _mm512_store_si512(sums + 8, _mm512_add_epi64(_mm512_load_si512(sums + 8), high));
  return static_cast<uint16_t>(~valid);
}

SHOAL_INLINE __m512i BroadcastQuad(const int8_t* quad) {
  int32_t bits;
  __builtin_memcpy(&bits, quad, 4);
  return _mm512_set1_epi32(bits);
}

}  // namespace
}  // namespace shoal::cpu
