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

SHOAL_INLINE uint32_t MaximumBits(const __m256* x) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i max = _mm256_and_si256(_mm256_castps_si256(x[0]), magnitude);
#pragma GCC unroll 4
  for (int i = 1; i < 4; ++i) {
    max = _mm256_max_epu32(max, _mm256_and_si256(_mm256_castps_si256(x[i]), magnitude));
  }
  __m128i m = _mm_max_epu32(_mm256_castsi256_si128(max), _mm256_extracti128_si256(max, 1));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4E));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xB1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(m));
}

SHOAL_INLINE int32_t SumOf(__m256i values) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1));
  return _mm_cvtsi128_si32(s);
}

SHOAL_INLINE void Quantize32(const float* x, int8_t* quants, float* scale, int32_t* sum) {
  const __m256 parts[4] = {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8), _mm256_loadu_ps(x + 16),
                           _mm256_loadu_ps(x + 24)};
  const uint32_t max_bits = MaximumBits(parts);
  auto* to = reinterpret_cast<__m256i*>(quants);
  if (__builtin_expect(max_bits >= kInfinityBits || max_bits < kSmallestBits, 0)) {
    *scale = max_bits >= kInfinityBits ? __builtin_nanf("") : 0.0f;
    *sum = 0;
    _mm256_storeu_si256(to, _mm256_setzero_si256());
    return;
  }
  float amax;
  __builtin_memcpy(&amax, &max_bits, 4);
  *scale = amax / 127.0f;
  const __m256 inverse = _mm256_set1_ps(127.0f / amax);
  __m256i q[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(parts[i], inverse));
    q[i] =
        _mm256_max_epi32(_mm256_min_epi32(q[i], _mm256_set1_epi32(127)), _mm256_set1_epi32(-127));
  }
  *sum = SumOf(_mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3])));
  // Packing works within 128-bit halves; the permutation puts the quads of k back in order.
  const __m256i bytes =
      _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
  _mm256_storeu_si256(
      to, _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
}

void QuantizeRow(const float* x, int64_t cols, int8_t* quants, float* scales, int32_t* sums) {
  const int64_t groups = cols / kGroup;
  FetchNextRow(quants, cols, scales, sums, groups);
  for (int64_t group = 0; group < groups; ++group) {
    Quantize32(x + group * kGroup, quants + group * kGroup, scales + group, sums + group);
  }
}

SHOAL_INLINE __m256i Magnitude(const float* x) {
  return _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x)), _mm256_set1_epi32(0x7fffffff));
}

SHOAL_INLINE uint32_t LargestBits(const float* x, int64_t count) {
  __m256i max = _mm256_setzero_si256();
  for (int64_t i = 0; i < count; i += kStep) {
    max = _mm256_max_epu32(max, _mm256_max_epu32(Magnitude(x + i), Magnitude(x + i + 8)));
  }
  __m128i m = _mm_max_epu32(_mm256_castsi256_si128(max), _mm256_extracti128_si256(max, 1));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4E));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xB1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(m));
}

SHOAL_INLINE __m256i QuantizeEight(const float* x, __m256 inverse) {
  const __m256i q = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse));
  return _mm256_max_epi32(_mm256_min_epi32(q, _mm256_set1_epi32(127)), _mm256_set1_epi32(-127));
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
  const __m256 inverse = _mm256_set1_ps(127.0f / amax);
  __m256i sums = _mm256_setzero_si256();
  for (int64_t i = 0; i < count; i += kStep) {
    const __m256i low = QuantizeEight(x + i, inverse);
    const __m256i high = QuantizeEight(x + i + 8, inverse);
    sums = _mm256_add_epi32(sums, _mm256_add_epi32(low, high));
    // Packing works within 128-bit halves; the permutation puts the words back in order.
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
    const __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(quants + i), bytes);
  }
  *sum = SumOf(sums);
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

constinit const QuantizeKernels kQuantizeAvx2 = {.row = QuantizeRow,
                                                 .groups = QuantizeGroups,
                                                 .largest_bits = LargestBits,
                                                 .group = QuantizeGroup};

}  // namespace shoal::cpu
