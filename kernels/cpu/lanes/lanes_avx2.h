#pragma once

// Eight floats in an AVX register, as the row operations and attention see them. Only for files
// compiled with AVX2 flags; everything is local to the file that includes it (kernels/cpu/inline.h
// says why).

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/format/packed.h"

namespace shoal::cpu {
namespace {

struct Avx2Lanes {
  using F = __m256;
  static constexpr int kWidth = 8;
  static constexpr int kPairsMax = 6;  // Attention's (row, head) pairs at a time.

  // Tiles of attention that keep sums, operands and a broadcast within 16 registers: vectors of
  // keys for the scores of `pairs` pairs, and vectors of the head's dimensions for their outputs.
  static constexpr int KeyVectors(int pairs) { return pairs == 1 ? 8 : pairs <= 3 ? 4 : 2; }
  static constexpr int DimVectors(int pairs) { return pairs == 1 ? 8 : pairs <= 3 ? 4 : 2; }

  static __m256i First(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(n)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }

  static F Zero() { return _mm256_setzero_ps(); }
  static F Set(float x) { return _mm256_set1_ps(x); }
  static F Load(const float* p) { return _mm256_loadu_ps(p); }
  static void Store(float* p, F v) { _mm256_storeu_ps(p, v); }
  // The first n of 8; the others are +0 or left alone.
  static F LoadFirst(const float* p, int64_t n) { return _mm256_maskload_ps(p, First(n)); }
  static void StoreFirst(float* p, F v, int64_t n) { _mm256_maskstore_ps(p, First(n), v); }
  // v's first n lanes, `other` in the rest.
  static F KeepFirst(F v, F other, int64_t n) {
    return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(First(n)));
  }

  static F Add(F a, F b) { return _mm256_add_ps(a, b); }
  static F Sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F Mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F Div(F a, F b) { return _mm256_div_ps(a, b); }
  static F Sqrt(F a) { return _mm256_sqrt_ps(a); }
  static F Fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  // As Fma: no instruction folds a broadcast here.
  static F FmaFolded(const float* a, F b, F c) { return Fma(Set(*a), b, c); }
  static F Negate(F a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
  // b where either is NaN.
  static F Max(F a, F b) { return _mm256_max_ps(a, b); }
  static F Min(F a, F b) { return _mm256_min_ps(a, b); }

  // p * 2^n, rounded once, for |p| near 1 and integers n in [-151, 129]: the first of two factors
  // loses no bit.
  static F TimesPowerOfTwo(F p, F n) {
    const __m256i exponent = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(exponent, 1);
    const __m256i bias = _mm256_set1_epi32(127);
    const F first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    const F second = _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(exponent, half), bias), 23));
    return Mul(Mul(p, first), second);
  }

  static float Lane0(F v) { return _mm256_cvtss_f32(v); }
  static float MaxOfLanes(F v) {
    const __m128 half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
  }

  // Sixteen partial sums, added up in the contract's order.
  struct Partials {
    F p[2];
    static Partials Zeros() { return {{Zero(), Zero()}}; }
    F& At(int vector) { return p[vector & 1]; }
    float Total() const {
      const F eight = _mm256_add_ps(p[0], p[1]);
      const __m128 four =
          _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
      const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
      return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
    }
  };

  // Eight elements of the cache, widened.
  template <KvDType kDType>
  static F Widen(const std::byte* p) {
    if constexpr (kDType == KvDType::kF32)
      return _mm256_loadu_ps(reinterpret_cast<const float*>(p));
    if constexpr (kDType == KvDType::kInt8)
      return WidenBytes(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return WidenHalves<kDType>(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  template <KvDType kDType>
  static F WidenFirst(const std::byte* p, int64_t n) {
    if constexpr (kDType == KvDType::kF32) return LoadFirst(reinterpret_cast<const float*>(p), n);
    // There is no masked load of small elements; past the n lies perhaps the end of the cache.
    alignas(16) uint16_t cells[8] = {};
    __builtin_memcpy(cells, p, static_cast<size_t>(n * ElementBytes(kDType)));
    const __m128i loaded = _mm_load_si128(reinterpret_cast<const __m128i*>(cells));
    if constexpr (kDType == KvDType::kInt8) return WidenBytes(loaded);
    return WidenHalves<kDType>(loaded);
  }
  static F WidenBytes(__m128i bytes) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)); }
  template <KvDType kDType>
  static F WidenHalves(__m128i halves) {
    if constexpr (kDType == KvDType::kF16) return _mm256_cvtph_ps(halves);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }

  // Rounds eight floats to 16 bits each.
  static void StoreF16(uint16_t* p, F v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
  static void StoreBF16(uint16_t* p, F v) {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, is_nan), 16);
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(p),
        _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)));
  }

  // Lanes whose bits without the sign are at least `threshold`, which is not 0.
  static int64_t CountMagnitudesFrom(F v, uint32_t threshold) {
    const __m256i magnitude =
        _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(INT32_MAX));
    const __m256i found =
        _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(static_cast<int32_t>(threshold - 1)));
    return __builtin_popcount(
        static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(found))));
  }

  // float(double(sum[i]) * 2^-32).
  static F FromFixed(const int64_t* sum) {
    return _mm256_set_m128(FourFromFixed(sum + 4), FourFromFixed(sum));
  }
  static __m128 FourFromFixed(const int64_t* sum) {
    // AVX2 has no conversion from 64 bits. The upper half, read as a double's low bits above 2^84
    // (signed through 2^63), and the lower half above 2^52, are exact; so their sum rounds once.
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sum));
    const __m256i low = _mm256_blend_epi32(_mm256_castpd_si256(_mm256_set1_pd(0x1p52)), v, 0x55);
    const __m256i high = _mm256_xor_si256(_mm256_srli_epi64(v, 32),
                                          _mm256_castpd_si256(_mm256_set1_pd(0x1p84 + 0x1p63)));
    const __m256d upper =
        _mm256_sub_pd(_mm256_castsi256_pd(high), _mm256_set1_pd(0x1p84 + 0x1p63 + 0x1p52));
    const __m256d value = _mm256_add_pd(upper, _mm256_castsi256_pd(low));
    return _mm256_cvtpd_ps(_mm256_mul_pd(value, _mm256_set1_pd(0x1p-32)));
  }

  static F FromInts(const int64_t* ints) {
    const __m256 low = _mm256_loadu_ps(reinterpret_cast<const float*>(ints));
    const __m256 high = _mm256_loadu_ps(reinterpret_cast<const float*>(ints + 4));
    // The lower halves of four integers each, by 128-bit halves, and then in order.
    const __m256i halves = _mm256_castps_si256(_mm256_shuffle_ps(low, high, 0x88));
    return _mm256_cvtepi32_ps(_mm256_permute4x64_epi64(halves, 0xD8));
  }

  // Rope on four neighbouring pairs (x0, x1), in place.
  static void RotatePairs(float* x, const float* cos, const float* sin) {
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    const F c = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(cos)), twice);
    const F s = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(sin)), twice);
    const F v = Load(x);
    constexpr int kOdd = 0xAA;
    // Even lanes: fma(x0, c, x1 * -s); odd lanes: fma(x0, s, x1 * c).
    const F second = Mul(_mm256_movehdup_ps(v), _mm256_blend_ps(Negate(s), c, kOdd));
    Store(x, Fma(_mm256_moveldup_ps(v), _mm256_blend_ps(c, s, kOdd), second));
  }
};

}  // namespace
}  // namespace shoal::cpu
