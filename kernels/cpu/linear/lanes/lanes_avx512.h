#pragma once

// The 16 outputs of a panel in one AVX-512 register. Included only by AVX-512 files.

#include <immintrin.h>

#include "kernels/cpu/linear/tiles/panels.h"
#include "kernels/cpu/linear/tiles/prefetch.h"

namespace shoal::cpu {
namespace {

struct Lanes512 {
  static constexpr uint64_t kFixedBias = 0;

  __m512 v;

  static SHOAL_INLINE Lanes512 Zero() { return {_mm512_setzero_ps()}; }
  static SHOAL_INLINE Lanes512 LoadLanes(const float* from) { return {_mm512_load_ps(from)}; }
  SHOAL_INLINE void StoreLanes(float* to) const { _mm512_storeu_ps(to, v); }
  SHOAL_INLINE void StoreOutputs(float* to, int64_t count) const {
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), v);
  }
  SHOAL_INLINE Lanes512 operator+(Lanes512 other) const { return {_mm512_add_ps(v, other.v)}; }

  // With one or two rows the loads themselves run some groups ahead, and what a Zen 4 prefetches of
  // itself helps most if ours stay near those: 8 KiB ahead they cost up to a third of the speed.
  static SHOAL_INLINE Ahead StreamAhead(int rows) {
    return rows <= 2 && __builtin_cpu_is("amd") ? Ahead{.far = 1024, .near = 256} : kStreamAhead;
  }
};

// sums[16] += RNE(y * 2^32), or 0 where `valid` is not set. The conversion rounds to nearest even,
// and the product is a sum of exponents, which leaves multiplications to the dot products: zeros
// and subnormals, which have none, become less than 2^-93, and 0 like theirs.
SHOAL_INLINE void AddScaled512(Lanes512 y, __mmask16 valid, int64_t* sums) {
  const __m512 scaled = _mm512_castsi512_ps(
      _mm512_maskz_add_epi32(valid, _mm512_castps_si512(y.v), _mm512_set1_epi32(32 << 23)));
  const __m512i low = _mm512_cvtps_epi64(_mm512_castps512_ps256(scaled));
  const __m512i high = _mm512_cvtps_epi64(_mm512_extractf32x8_ps(scaled, 1));
  _mm512_store_si512(sums, _mm512_add_epi64(_mm512_load_si512(sums), low));
  _mm512_store_si512(sums + 8, _mm512_add_epi64(_mm512_load_si512(sums + 8), high));
}

SHOAL_INLINE __mmask16 BelowLimit512(Lanes512 y, float limit) {
  return _mm512_cmp_ps_mask(_mm512_abs_ps(y.v), _mm512_set1_ps(limit), _CMP_LT_OQ);
}

SHOAL_INLINE uint32_t AddFixed512(Lanes512 y, float limit, int64_t* sums) {
  const __mmask16 valid = BelowLimit512(y, limit);
  AddScaled512(y, valid, sums);
  return static_cast<uint16_t>(~valid);
}

// AddFixed without a limit, for many at once: whether one was beyond it is asked after them.
struct FixedAdder512 {
  // Magnitudes as bits, twice: without the sign, and NaN is beyond any number.
  __m512i largest = _mm512_setzero_si512();

  SHOAL_INLINE void Add(Lanes512 y, int64_t* sums) {
    largest = _mm512_max_epu32(largest, _mm512_slli_epi32(_mm512_castps_si512(y.v), 1));
    AddScaled512(y, 0xffff, sums);
  }
  SHOAL_INLINE bool AllBelow(float limit) const {
    const __m512i limits = _mm512_castps_si512(_mm512_set1_ps(limit));
    return _mm512_cmplt_epu32_mask(largest, _mm512_slli_epi32(limits, 1)) == 0xffff;
  }
  // Makes what Add has made of the sums what AddFixed would have, and returns the same.
  static SHOAL_INLINE uint32_t TakeBack(Lanes512 y, float limit, int64_t* sums) {
    alignas(64) int64_t added[kPanelRows] = {};
    AddScaled512(y, 0xffff, added);
    const auto bad = static_cast<uint16_t>(~BelowLimit512(y, limit));
    for (int i = 0; i < kPanelRows; ++i) {
      const auto sum = static_cast<uint64_t>(sums[i]);
      if ((bad >> i & 1) != 0)
        sums[i] = static_cast<int64_t>(sum - static_cast<uint64_t>(added[i]));
    }
    return bad;
  }
};

SHOAL_INLINE __m512i BroadcastQuad(const int8_t* quad) {
  int32_t bits;
  __builtin_memcpy(&bits, quad, 4);
  return _mm512_set1_epi32(bits);
}

// dots[16] += the dot products of four k: unsigned weights of 16 outputs, signed activations. kFold
// makes one instruction of it, where GCC 12 loads the activations to a register first: better where
// dot products are waited for. With few rows it is weights, and loads of their own run further
// ahead.
template <bool kFold>
SHOAL_INLINE void AddQuadDots(__m512i weights, const int8_t* quad, __m512i& dots) {
  if constexpr (kFold) {
    using Quad [[gnu::may_alias]] = int32_t;
    asm("vpdpbusd %2%{1to16%}, %1, %0"
        : "+v"(dots)
        : "v"(weights), "m"(*reinterpret_cast<const Quad*>(quad)));
  } else {
    dots = _mm512_dpbusd_epi32(dots, weights, BroadcastQuad(quad));
  }
}

}  // namespace
}  // namespace shoal::cpu
