#pragma once

// Sixteen floats in an AVX-512 register, as the row operations and attention see them. Only for
// files compiled with AVX-512 flags; everything is local to the file that includes it
// (kernels/cpu/inline.h says why).

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/format/packed.h"

namespace shoal::cpu {
namespace {

struct Avx512Lanes {
  using F = __m512;
  static constexpr int kWidth = 16;
  static constexpr int kPairsMax = 12;  // Attention's (row, head) pairs at a time.

  // Tiles of attention that keep sums, operands and a broadcast within 32 registers: vectors of
  // keys for the scores of `pairs` pairs, and vectors of the head's dimensions for their outputs.
  static constexpr int KeyVectors(int pairs) { return pairs <= 2 ? 8 : pairs <= 4 ? 4 : 2; }
  static constexpr int DimVectors(int pairs) { return pairs <= 4 ? 4 : 2; }

  static __mmask16 First(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }

  static F Zero() { return _mm512_setzero_ps(); }
  static F Set(float x) { return _mm512_set1_ps(x); }
  static F Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, F v) { _mm512_storeu_ps(p, v); }
  // The first n of 16; the others are +0 or left alone.
  static F LoadFirst(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(First(n), p); }
  static void StoreFirst(float* p, F v, int64_t n) { _mm512_mask_storeu_ps(p, First(n), v); }
  // v's first n lanes, `other` in the rest.
  static F KeepFirst(F v, F other, int64_t n) { return _mm512_mask_mov_ps(other, First(n), v); }

  static F Add(F a, F b) { return _mm512_add_ps(a, b); }
  static F Sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F Mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F Div(F a, F b) { return _mm512_div_ps(a, b); }
  static F Sqrt(F a) { return _mm512_sqrt_ps(a); }
  static F Fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  // Fma(*a, b, c) in one instruction, where compilers load a factor that is used twice to a
  // register first: a Zen 4 so comes to its peak, and not to 0.9 of it.
  static F FmaFolded(const float* a, F b, F c) {
    asm("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(c) : "v"(b), "m"(*a));
    return c;
  }
  static F Negate(F a) {
    return _mm512_castsi512_ps(
        _mm512_xor_si512(_mm512_castps_si512(a), _mm512_set1_epi32(INT32_MIN)));
  }
  // b where either is NaN.
  static F Max(F a, F b) { return _mm512_max_ps(a, b); }
  static F Min(F a, F b) { return _mm512_min_ps(a, b); }

  // p * 2^n, rounded once; n are integers.
  static F TimesPowerOfTwo(F p, F n) { return _mm512_scalef_ps(p, n); }

  static float Lane0(F v) { return _mm512_cvtss_f32(v); }
  static float MaxOfLanes(F v) {
    const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 quarter = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    const __m128 pair = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
    return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
  }

  // Sixteen partial sums, added up in the contract's order.
  struct Partials {
    F p;
    static Partials Zeros() { return {Zero()}; }
    F& At(int) { return p; }
    float Total() const {
      const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(p), _mm512_extractf32x8_ps(p, 1));
      const __m128 four =
          _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
      const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
      return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
    }
  };

  // Sixteen elements of the cache, widened.
  template <KvDType kDType>
  static F Widen(const std::byte* p) {
    if constexpr (kDType == KvDType::kF32) return _mm512_loadu_ps(p);
    if constexpr (kDType == KvDType::kInt8)
      return WidenBytes(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return WidenHalves<kDType>(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  template <KvDType kDType>
  static F WidenFirst(const std::byte* p, int64_t n) {
    if constexpr (kDType == KvDType::kF32) return _mm512_maskz_loadu_ps(First(n), p);
    if constexpr (kDType == KvDType::kInt8) return WidenBytes(_mm_maskz_loadu_epi8(First(n), p));
    return WidenHalves<kDType>(_mm256_maskz_loadu_epi16(First(n), p));
  }
  static F WidenBytes(__m128i bytes) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)); }
  template <KvDType kDType>
  static F WidenHalves(__m256i halves) {
    if constexpr (kDType == KvDType::kF16) return _mm512_cvtph_ps(halves);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }

  // Rounds sixteen floats to 16 bits each.
  static void StoreF16(uint16_t* p, F v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static void StoreBF16(uint16_t* p, F v) {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i chosen = _mm512_mask_mov_epi32(rounded, is_nan, quiet);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(chosen, 16)));
  }

  // Lanes whose bits without the sign are at least `threshold`.
  static int64_t CountMagnitudesFrom(F v, uint32_t threshold) {
    const __m512i magnitude =
        _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(INT32_MAX));
    const __mmask16 found =
        _mm512_cmpge_epu32_mask(magnitude, _mm512_set1_epi32(static_cast<int32_t>(threshold)));
    return __builtin_popcount(found);
  }

  // float(double(sum[i]) * 2^-32).
  static F FromFixed(const int64_t* sum) {
    const __m512d unit = _mm512_set1_pd(0x1p-32);
    const __m512d low = _mm512_cvtepi64_pd(_mm512_loadu_si512(sum));
    const __m512d high = _mm512_cvtepi64_pd(_mm512_loadu_si512(sum + 8));
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(_mm512_mul_pd(low, unit))),
                              _mm512_cvtpd_ps(_mm512_mul_pd(high, unit)), 1);
  }

  static F FromInts(const int64_t* ints) {
    const __m256i low = _mm512_cvtepi64_epi32(_mm512_loadu_si512(ints));
    const __m256i high = _mm512_cvtepi64_epi32(_mm512_loadu_si512(ints + 8));
    return _mm512_cvtepi32_ps(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
  }

  // Rope on eight neighbouring pairs (x0, x1), in place.
  static void RotatePairs(float* x, const float* cos, const float* sin) {
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    const F c = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(cos)));
    const F s = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(sin)));
    const F v = Load(x);
    constexpr __mmask16 kOdd = 0xAAAA;
    // Even lanes: fma(x0, c, x1 * -s); odd lanes: fma(x0, s, x1 * c).
    const F second = Mul(_mm512_movehdup_ps(v), _mm512_mask_blend_ps(kOdd, Negate(s), c));
    Store(x, Fma(_mm512_moveldup_ps(v), _mm512_mask_blend_ps(kOdd, c, s), second));
  }
};

}  // namespace
}  // namespace shoal::cpu
