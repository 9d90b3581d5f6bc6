#include <immintrin.h>

#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/linear_variants.h"

// The quantiser for groups of any multiple of 16. Maxima and integer sums may be taken in any
// order; everything else is done element by element as in quantize_scalar.cc.

namespace shoal::cpu {
namespace {

constexpr int64_t kStep = 16;
constexpr uint32_t kInfinityBits = 0x7f800000u;
constexpr uint32_t kSmallestBits = 0x0d800000u;  // 2^-100

inline __attribute__((always_inline)) uint32_t LargestBits(const float* x, int64_t count) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i max = _mm512_setzero_si512();
  for (int64_t i = 0; i < count; i += kStep) {
    const __m512i bits = _mm512_castps_si512(_mm512_loadu_ps(x + i));
    max = _mm512_max_epu32(max, _mm512_and_si512(bits, magnitude));
  }
  return _mm512_reduce_max_epu32(max);
}

inline __attribute__((always_inline)) void QuantizeGroup(const float* x, int64_t count,
                                                         uint32_t max_bits, int8_t* quants,
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

}  // namespace

uint32_t LargestBitsAvx512(const float* x, int64_t cols) { return LargestBits(x, cols); }

void QuantizeGroupAvx512(const float* x, int64_t count, uint32_t max_bits, int8_t* quants,
                         float* scale, int32_t* sum) {
  QuantizeGroup(x, count, max_bits, quants, scale, sum);
}

void QuantizeGroupsAvx512(const float* x, int64_t cols, int64_t group, int8_t* quants,
                          float* scales, int32_t* sums) {
  FetchNextRow(quants, cols, scales, sums, (cols + group - 1) / group);
  for (int64_t k = 0, g = 0; k < cols; k += group, ++g) {
    const int64_t count = cols - k < group ? cols - k : group;
    QuantizeGroup(x + k, count, LargestBits(x + k, count), quants + k, scales + g, sums + g);
  }
}

}  // namespace shoal::cpu
