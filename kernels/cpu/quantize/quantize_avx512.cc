// The quantiser. Maxima and integer sums may be taken in any order; everything else is done element
// by element as in quantize_scalar.cc.

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/inline.h"
#include "kernels/cpu/quantize/fetch_next_row.h"
#include "kernels/cpu/quantize/quantize.h"

namespace shoal::cpu {
namespace {

constexpr int64_t kGroup = 32;  // Of QuantizeRow.
constexpr int64_t kStep = 16;   // Of groups of any other size, which are multiples of it.
constexpr uint32_t kInfinityBits = 0x7f800000u;
constexpr uint32_t kSmallestBits = 0x0d800000u;  // 2^-100

// Needs no limit: no |x| is above amax, and amax * RN(127 / amax) is less than 127.5.
SHOAL_INLINE __m512i QuantizeHalf(__m512 x, __m512 inverse) {
  return _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
}

SHOAL_INLINE void Quantize32(const float* x, int8_t* quants, float* scale, int32_t* sum) {
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
SHOAL_INLINE __m128i ReduceFour(const __m512i* v, Merge merge) {
  const __m512i first = merge(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
  const __m512i second =
      merge(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
  // Of every 128 bits, one lane for each register.
  __m512i all = merge(_mm512_unpacklo_epi64(first, second), _mm512_unpackhi_epi64(first, second));
  all = merge(all, _mm512_shuffle_i64x2(all, all, 0x4e));
  all = merge(all, _mm512_shuffle_i64x2(all, all, 0xb1));
  return _mm512_castsi512_si128(all);
}

// As Quantize32 with each of four groups that follow each other.
SHOAL_INLINE void QuantizeFourGroups(const float* x, int8_t* quants, float* scales, int32_t* sums) {
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
      Quantize32(x + g * kGroup, quants + g * kGroup, scales + g, sums + g);
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

void QuantizeRow(const float* x, int64_t cols, int8_t* quants, float* scales, int32_t* sums) {
  const int64_t groups = cols / kGroup;
  FetchNextRow(quants, cols, scales, sums, groups);
  int64_t group = 0;
  for (; group + 4 <= groups; group += 4) {
    QuantizeFourGroups(x + group * kGroup, quants + group * kGroup, scales + group, sums + group);
  }
  for (; group < groups; ++group) {
    Quantize32(x + group * kGroup, quants + group * kGroup, scales + group, sums + group);
  }
}

SHOAL_INLINE uint32_t LargestBits(const float* x, int64_t count) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i max = _mm512_setzero_si512();
  for (int64_t i = 0; i < count; i += kStep) {
    const __m512i bits = _mm512_castps_si512(_mm512_loadu_ps(x + i));
    max = _mm512_max_epu32(max, _mm512_and_si512(bits, magnitude));
  }
  return _mm512_reduce_max_epu32(max);
}

SHOAL_INLINE void QuantizeGroup(const float* x, int64_t count, uint32_t max_bits, int8_t* quants,
                                float* scale, int32_t* sum) {
  *sum = 0;
  if (__builtin_expect(max_bits >= kInfinityBits || max_bits < kSmallestBits, 0)) {
    *scale = max_bits >= kInfinityBits ? __builtin_nanf("") : 0.0f;
    __builtin_memset(quants, 0, static_cast<size_t>(count));
    return;
  }
  float amax;
  __builtin_memcpy(&amax, &max_bits, 4);
  *scale = amax / 127.0f;
  // No magnitude is above amax, and that rounds to 127: nothing is left to clamp.
  const __m512 inverse = _mm512_set1_ps(127.0f / amax);
  const auto quantized = [=](int64_t i) __attribute__((always_inline)) {
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i), inverse));
  };
  __m512i sums = _mm512_setzero_si512();
  int64_t i = 0;
  for (; i + 4 * kStep <= count; i += 4 * kStep) {
    // Packing works within 128-bit quarters; the permutation puts the quads of k back in order.
    const __m512i low = _mm512_packs_epi32(quantized(i), quantized(i + kStep));
    const __m512i high = _mm512_packs_epi32(quantized(i + 2 * kStep), quantized(i + 3 * kStep));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i bytes = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(low, high));
    sums = _mm512_dpbusd_epi32(sums, _mm512_set1_epi8(1), bytes);
    _mm512_storeu_si512(quants + i, bytes);
  }
  for (; i < count; i += kStep) {
    const __m512i q = quantized(i);
    sums = _mm512_add_epi32(sums, q);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(quants + i), _mm512_cvtepi32_epi8(q));
  }
  *sum = _mm512_reduce_add_epi32(sums);
}

void QuantizeGroups(const float* x, int64_t cols, int64_t group, int8_t* quants, float* scales,
                    int32_t* sums) {
  FetchNextRow(quants, cols, scales, sums, (cols + group - 1) / group);
  for (int64_t k = 0, g = 0; k < cols; k += group, ++g) {
    const int64_t count = cols - k < group ? cols - k : group;
    QuantizeGroup(x + k, count, LargestBits(x + k, count), quants + k, scales + g, sums + g);
  }
}

}  // namespace

constinit const QuantizeKernels kQuantizeAvx512 = {.row = QuantizeRow,
                                                   .groups = QuantizeGroups,
                                                   .largest_bits = LargestBits,
                                                   .group = QuantizeGroup};

}  // namespace shoal::cpu
