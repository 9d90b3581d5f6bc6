#include <immintrin.h>

#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/linear_variants.h"

// The quantiser, a group of 32 in two registers. Maxima and integer sums may be taken in any order;
// everything else is done element by element as in quantize_scalar.cc.

namespace shoal::cpu {
namespace {

constexpr int64_t kGroup = 32;
constexpr uint32_t kInfinityBits = 0x7f800000u;
constexpr uint32_t kSmallestBits = 0x0d800000u;  // 2^-100

inline __attribute__((always_inline)) __m512i QuantizeHalf(__m512 x, __m512 inverse) {
  const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
  return _mm512_max_epi32(_mm512_min_epi32(q, _mm512_set1_epi32(127)), _mm512_set1_epi32(-127));
}

inline __attribute__((always_inline)) void QuantizeGroup(const float* x, int8_t* quants,
                                                         float* scale, int32_t* sum) {
  const __m512 low = _mm512_loadu_ps(x);
  const __m512 high = _mm512_loadu_ps(x + 16);
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  const uint32_t max_bits = _mm512_reduce_max_epu32(
      _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(low), magnitude),
                       _mm512_and_si512(_mm512_castps_si512(high), magnitude)));
  if (__builtin_expect(max_bits >= kInfinityBits || max_bits < kSmallestBits, 0)) {
    *scale = max_bits >= kInfinityBits ? __builtin_nanf("") : 0.0f;
    *sum = 0;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(quants), _mm256_setzero_si256());
    return;
  }
  float amax;
  __builtin_memcpy(&amax, &max_bits, 4);
  *scale = amax / 127.0f;
  const __m512 inverse = _mm512_set1_ps(127.0f / amax);
  const __m512i first = QuantizeHalf(low, inverse);
  const __m512i second = QuantizeHalf(high, inverse);
  *sum = _mm512_reduce_add_epi32(_mm512_add_epi32(first, second));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(quants), _mm512_cvtepi32_epi8(first));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(quants + 16), _mm512_cvtepi32_epi8(second));
}

}  // namespace

void QuantizeRowAvx512(const float* x, int64_t cols, int8_t* quants, float* scales, int32_t* sums) {
  const int64_t groups = cols / kGroup;
  FetchNextRow(quants, cols, scales, sums, groups);
  for (int64_t group = 0; group < groups; ++group) {
    QuantizeGroup(x + group * kGroup, quants + group * kGroup, scales + group, sums + group);
  }
}

}  // namespace shoal::cpu
