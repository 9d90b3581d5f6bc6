#pragma once

// What the AMX variant's linear layers share: the configuration of a thread's tiles, and the 16
// outputs of a panel in one AVX-512 register. Included only by AMX files.

#include "kernels/cpu/linear/lanes/lanes_avx512.h"

namespace shoal::cpu {
namespace {

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64);

// While it lives, this thread's tiles have the shapes of `config`.
class TileSession {
 public:
  explicit SHOAL_INLINE TileSession(const TileConfig& config) {
    // An operand that names the whole struct: GCC 12's own intrinsic takes its address alone, and
    // the stores to it may be dropped.
    __asm__ volatile("ldtilecfg %0" : : "m"(config));
  }
  SHOAL_INLINE ~TileSession() { __asm__ volatile("tilerelease" : : : "memory"); }
  TileSession(const TileSession&) = delete;
  TileSession& operator=(const TileSession&) = delete;
};

struct AmxLanes : Lanes512 {
  static SHOAL_INLINE AmxLanes Of(__m512 v) { return {Lanes512{v}}; }
  static SHOAL_INLINE AmxLanes Zero() { return Of(_mm512_setzero_ps()); }
  static SHOAL_INLINE AmxLanes LoadLanes(const float* from) { return Of(_mm512_load_ps(from)); }
  static SHOAL_INLINE AmxLanes Broadcast(float x) { return Of(_mm512_set1_ps(x)); }
  static SHOAL_INLINE AmxLanes FromHalves(const uint8_t* from) {
    return Of(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
  }
  static SHOAL_INLINE AmxLanes FromDots(const int32_t* dots) {
    return Of(_mm512_cvtepi32_ps(_mm512_load_si512(dots)));
  }
  // float(dots + start)
  static SHOAL_INLINE AmxLanes FromDots(const int32_t* dots, int32_t start) {
    return Of(
        _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_load_si512(dots), _mm512_set1_epi32(start))));
  }
  static SHOAL_INLINE AmxLanes Scaled(AmxLanes a, float x) {
    return Of(_mm512_mul_ps(a.v, _mm512_set1_ps(x)));
  }
  static SHOAL_INLINE AmxLanes PlusProduct(AmxLanes a, AmxLanes b, AmxLanes sum) {
    return Of(_mm512_fmadd_ps(a.v, b.v, sum.v));
  }
  static SHOAL_INLINE uint32_t AddFixed(AmxLanes y, float limit, int64_t* sums) {
    return AddFixed512(y, limit, sums);
  }
  static SHOAL_INLINE void UnpackNibbles(const uint8_t* from, int8_t offset, int8_t* to) {
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i offsets = _mm512_set1_epi8(offset);
#pragma GCC unroll 4
    for (int i = 0; i < 256; i += 64) {
      const __m512i both = _mm512_loadu_si512(from + i);
      __m512i first = _mm512_and_si512(both, low);
      __m512i second = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
      _mm512_store_si512(to + i, _mm512_sub_epi8(first, offsets));
      _mm512_store_si512(to + 256 + i, _mm512_sub_epi8(second, offsets));
    }
  }
  static SHOAL_INLINE void UnpackBytes(const uint8_t* from, uint8_t offset, int8_t* to) {
    const __m512i offsets = _mm512_set1_epi8(static_cast<char>(offset));
#pragma GCC unroll 8
    for (int i = 0; i < 512; i += 64) {
      _mm512_store_si512(to + i, _mm512_sub_epi8(_mm512_loadu_si512(from + i), offsets));
    }
  }
  static SHOAL_INLINE void CopyFactors(const float* scales, const int32_t* sums, int64_t groups,
                                       float* to, float* minimums) {
    const auto mask = static_cast<__mmask8>((1u << groups) - 1);
    const __m256 scale = _mm256_maskz_loadu_ps(mask, scales);
    _mm256_store_ps(to, scale);
    if (minimums == nullptr) return;
    const __m256 sum = _mm256_cvtepi32_ps(_mm256_maskz_loadu_epi32(mask, sums));
    _mm256_store_ps(minimums, _mm256_mul_ps(scale, sum));
  }
  static constexpr SHOAL_INLINE Ahead StreamAhead(int) { return kStreamAhead; }
  SHOAL_INLINE AmxLanes operator+(AmxLanes other) const { return Of(_mm512_add_ps(v, other.v)); }
};

}  // namespace
}  // namespace shoal::cpu
