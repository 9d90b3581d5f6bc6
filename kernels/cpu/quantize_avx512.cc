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

// Needs no limit: no |x| is above amax, and amax * RN(127 / amax) is less than 127.5.
inline __attribute__((always_inline)) __m512i QuantizeHalf(__m512 x, __m512 inverse) {
  return _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
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

// The results of `merge` over the sixteen lanes of each of four registers, which may be taken in
// any order.
template <typename Merge>
inline __attribute__((always_inline)) __m128i ReduceFour(const __m512i* v, Merge merge) {
  const __m512i first = merge(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
  const __m512i second =
      merge(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
  // Of every 128 bits, one lane for each register.
  __m512i all = merge(_mm512_unpacklo_epi64(first, second), _mm512_unpackhi_epi64(first, second));
  all = merge(all, _mm512_shuffle_i64x2(all, all, 0x4e));
  all = merge(all, _mm512_shuffle_i64x2(all, all, 0xb1));
  return _mm512_castsi512_si128(all);
}

// As QuantizeGroup with each of four groups that follow each other.
inline __attribute__((always_inline)) void QuantizeFourGroups(const float* x, int8_t* quants,
                                                              float* scales, int32_t* sums) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i magnitudes[4];
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) {
    const __m512i low = _mm512_castps_si512(_mm512_loadu_ps(x + g * kGroup));
    const __m512i high = _mm512_castps_si512(_mm512_loadu_ps(x + g * kGroup + 16));
    magnitudes[g] =
        _mm512_max_epu32(_mm512_and_si512(low, magnitude), _mm512_and_si512(high, magnitude));
  }
  const __m128i max_bits = ReduceFour(
      magnitudes,
      [](__m512i a, __m512i b) __attribute__((always_inline)) { return _mm512_max_epu32(a, b); });
  const __m128i above_smallest = _mm_sub_epi32(max_bits, _mm_set1_epi32(kSmallestBits));
  const __mmask8 usual =
      _mm_cmplt_epu32_mask(above_smallest, _mm_set1_epi32(kInfinityBits - kSmallestBits));
  if (__builtin_expect(usual != 0xf, 0)) {
    for (int g = 0; g < 4; ++g) {
      QuantizeGroup(x + g * kGroup, quants + g * kGroup, scales + g, sums + g);
    }
    return;
  }
  const __m128 amax = _mm_castsi128_ps(max_bits);
  const __m128 most = _mm_set1_ps(127.0f);
  _mm_storeu_ps(scales, _mm_div_ps(amax, most));
  const __m512 inverses = _mm512_castps128_ps512(_mm_div_ps(most, amax));
  __m512i halves[4][2];
  __m512i parts[4];
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) {
    const __m512 inverse = _mm512_permutexvar_ps(_mm512_set1_epi32(g), inverses);
    halves[g][0] = QuantizeHalf(_mm512_loadu_ps(x + g * kGroup), inverse);
    halves[g][1] = QuantizeHalf(_mm512_loadu_ps(x + g * kGroup + 16), inverse);
    parts[g] = _mm512_add_epi32(halves[g][0], halves[g][1]);
  }
  const __m128i totals = ReduceFour(
      parts,
      [](__m512i a, __m512i b) __attribute__((always_inline)) { return _mm512_add_epi32(a, b); });
  _mm_storeu_si128(reinterpret_cast<__m128i*>(sums), totals);
  // Packing leaves every 4 values together, and the 128 bits of the operands apart.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
#pragma GCC unroll 2
  for (int g = 0; g < 4; g += 2) {
    const __m512i packed =
        _mm512_packs_epi16(_mm512_packs_epi32(halves[g][0], halves[g][1]),
                           _mm512_packs_epi32(halves[g + 1][0], halves[g + 1][1]));
    _mm512_storeu_si512(quants + g * kGroup, _mm512_permutexvar_epi32(order, packed));
  }
}

}  // namespace

void QuantizeRowAvx512(const float* x, int64_t cols, int8_t* quants, float* scales, int32_t* sums) {
  const int64_t groups = cols / kGroup;
  FetchNextRow(quants, cols, scales, sums, groups);
  int64_t group = 0;
  for (; group + 4 <= groups; group += 4) {
    QuantizeFourGroups(x + group * kGroup, quants + group * kGroup, scales + group, sums + group);
  }
  for (; group < groups; ++group) {
    QuantizeGroup(x + group * kGroup, quants + group * kGroup, scales + group, sums + group);
  }
}

}  // namespace shoal::cpu
