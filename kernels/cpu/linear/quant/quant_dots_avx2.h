#pragma once

// Dot products of a group of weights with a strip of rows. Local to the file that includes it
// (kernels/cpu/inline.h says why).

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/inline.h"
#include "kernels/cpu/linear/lanes/lanes_avx2.h"
#include "kernels/cpu/linear/quant/quant_operands_avx2.h"

namespace shoal::cpu {
namespace {

enum class Source {
  kPacked,           // Unpacks, for one strip only.
  kPackedForOthers,  // Unpacks and stores, for the strips that follow.
  kUnpacked,
};

// Dot products of kRows rows of a q4 group with 16 outputs in two halves. Row r's quants are
// kBlockK bytes after those of row r - 1.
template <Source kSource, int kRows>
SHOAL_INLINE void DotNibbles(const uint8_t* packed, uint8_t (*unpacked)[64], const int8_t* quants,
                             __m256i (*dot)[2]) {
  const __m256i low = _mm256_set1_epi8(15);
#pragma GCC unroll 8
  for (int step = 0; step < 8; ++step) {
    const int quad = step % 2 * 4 + step / 2;  // The low and the high nibbles of a vector in turn.
    __m256i w[2];
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      if constexpr (kSource == Source::kUnpacked) {
        w[h] = LoadBytes(unpacked[quad] + 32 * h);
      } else {
        const __m256i both = LoadBytes(packed + 64 * (quad % 4) + 32 * h);
        w[h] = _mm256_and_si256(quad < 4 ? both : _mm256_srli_epi16(both, 4), low);
        if constexpr (kSource == Source::kPackedForOthers)
          StoreBytes(unpacked[quad] + 32 * h, w[h]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m256i x = Broadcast32(quants + r * kBlockK + 4 * quad);
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const __m256i pairs = _mm256_maddubs_epi16(w[h], x);
        dot[r][h] = step == 0 ? pairs : _mm256_add_epi16(dot[r][h], pairs);
        Settle(dot[r][h]);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) dot[r][h] = _mm256_madd_epi16(dot[r][h], _mm256_set1_epi16(1));
  }
}

// Likewise for a q8 group; rows are 2 * kBlockK bytes apart.
template <Source kSource, int kRows>
SHOAL_INLINE void DotBytes(const uint8_t* packed, uint8_t (*unpacked)[128], const int8_t* quants,
                           __m256i (*dot)[2]) {
#pragma GCC unroll 16
  for (int step = 0; step < 16; ++step) {
    const int quad = step / 2;
    const bool odd = step % 2 != 0;
    __m256i w[2];
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      uint8_t* stored = unpacked[quad] + 64 * h + (odd ? 32 : 0);
      if constexpr (kSource == Source::kUnpacked) {
        w[h] = LoadBytes(stored);
      } else {
        const __m256i both = LoadBytes(packed + 64 * quad + 32 * h);
        w[h] = odd ? _mm256_srli_epi16(both, 8) : _mm256_and_si256(both, _mm256_set1_epi16(0xFF));
        if constexpr (kSource == Source::kPackedForOthers) StoreBytes(stored, w[h]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m256i x = Broadcast32(quants + r * (2 * kBlockK) + 4 * step);
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const __m256i products = _mm256_madd_epi16(w[h], x);
        dot[r][h] = step == 0 ? products : _mm256_add_epi32(dot[r][h], products);
        Settle(dot[r][h]);
      }
    }
  }
}

}  // namespace
}  // namespace shoal::cpu
