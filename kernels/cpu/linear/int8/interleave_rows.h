#pragma once

// Quads of several rows side by side. Local to the file that includes it (kernels/cpu/inline.h says
// why).

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/inline.h"

namespace shoal::cpu {
namespace {

// to[k / 4][row][k % 4] = the values of kCount rows, each of `cols`, a multiple of 16: quads of all
// rows lie side by side, and one register addresses them.
template <int kCount>
SHOAL_INLINE void InterleaveRows(const int8_t* rows, int64_t cols, int8_t* to) {
  const auto load = [=](int r, int64_t k) __attribute__((always_inline)) {
    return _mm_castsi128_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + r * cols + k)));
  };
  const auto store = [=](__m128 quads, int64_t k, int r) __attribute__((always_inline)) {
    _mm_storeu_ps(reinterpret_cast<float*>(to + k * kCount + 4 * r), quads);
  };
  for (int64_t k = 0; k < cols; k += 16) {
    if constexpr (kCount == 2) {
      store(_mm_unpacklo_ps(load(0, k), load(1, k)), k, 0);
      store(_mm_unpackhi_ps(load(0, k), load(1, k)), k + 8, 0);
    } else {
#pragma GCC unroll 2
      for (int r = 0; r < kCount; r += 4) {
        __m128 x[4] = {load(r, k), load(r + 1, k), load(r + 2, k), load(r + 3, k)};
        _MM_TRANSPOSE4_PS(x[0], x[1], x[2], x[3]);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) store(x[i], k + 4 * i, r);
      }
    }
  }
}

}  // namespace
}  // namespace shoal::cpu
