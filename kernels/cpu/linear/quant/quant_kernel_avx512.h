#pragma once

// Linear layers over quantised weights with the VNNI dot product: unsigned weights, signed
// activations. A group's weights are unpacked once into eight registers and used by every row of
// the tile; activations are broadcast from memory four k at a time.
//
// Registers, at 12 rows: 12 accumulators, 8 of weights, scale and minimum, 4 integer dots.
//
// Local to the files that include it (kernels/cpu/inline.h says why): one for each format,
// so that what takes long to compile does so side by side.

#include <immintrin.h>

#include <cstdint>
#include <type_traits>

#include "kernels/cpu/linear/lanes/lanes_avx512.h"
#include "kernels/cpu/linear/quant/quant_offset.h"
#include "kernels/cpu/linear/quant/quant_operands_avx512.h"
#include "kernels/cpu/linear/tiles/kept_rows.h"
#include "kernels/cpu/linear/tiles/run_tiles.h"

namespace shoal::cpu {
namespace {

constexpr int kRowsMax = 12;
constexpr int kRowsTogether = 4;  // Dot product chains in flight: hides a latency of four cycles.

template <DType kType, int kRows>
struct QuantKernel {
  using Lanes = Lanes512;
  using FixedAdder = FixedAdder512;
  using Rows = RowBlock<kType, kRows>;
  static constexpr bool kAddsBetween = kRows > 1;  // One row's dot products hide nothing.
  static constexpr int64_t kPanels = 12;
  static constexpr int kTogether = 1;
  static constexpr int64_t kRowUnit = kRowsTogether;

  static constexpr SHOAL_INLINE int64_t WeightBytes(int64_t k) {
    constexpr int64_t kBytes = PackedGroupBytes(kType);
    return k / kGroup * kBytes;
  }
  static SHOAL_INLINE uint32_t AddFixed(Lanes y, float limit, int64_t* sums) {
    return AddFixed512(y, limit, sums);
  }

  SHOAL_INLINE void Load(const ActivationRows& input, int64_t row, int64_t k, int64_t count) {
    rows.Load(input, row, k, count);
  }

  // acc[r] for up to kRowsTogether rows from kFirst on, with two other pieces of work between them.
  template <int kFirst, typename Between>
  static SHOAL_INLINE void AddRows(const Rows& rows, const WeightGroup<kType>& w, int64_t g,
                                   __m512* acc, Between between) {
    constexpr int kCount = kRows - kFirst < kRowsTogether ? kRows - kFirst : kRowsTogether;
    __m512i dot[kCount];
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) {
      const float* correction = &rows.corrections[kFirst + i][g];
      dot[i] = kOffset<kType> == 0 ? _mm512_setzero_si512()
                                   : BroadcastQuad(reinterpret_cast<const int8_t*>(correction));
    }
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) {
      if (v % 4 == 0) between(kFirst / kRowsTogether * 2 + v / 4);
#pragma GCC unroll 4
      for (int i = 0; i < kCount; ++i) {
        const int8_t* quad = &rows.quants[kFirst + i][g * kGroup + 4 * v];
        AddQuadDots<(kRows > kRowsTogether)>(w.quads[v], quad, dot[i]);
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) {
      __m512& sum = acc[kFirst + i];
      const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(rows.scales[kFirst + i][g]), w.d);
      sum = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(dot[i]), sum);
      if constexpr (kType == DType::kQ4_1) {
        sum = _mm512_fmadd_ps(w.m, _mm512_set1_ps(rows.corrections[kFirst + i][g]), sum);
      }
    }
  }

  // acc[r] for all rows; calls between(i) for i in [0, kPieces).
  template <typename Between>
  SHOAL_INLINE void AddGroup(const Rows& rows, const uint8_t* group, int64_t g, __m512* acc,
                             Between between) const {
    WeightGroup<kType> w;
    Prefetch<WeightGroup<kType>::kBytes>(group, ahead);
    w.Load(group);
    AddRows<0>(rows, w, g, acc, between);
    if constexpr (kRows > 4) AddRows<4>(rows, w, g, acc, between);
    if constexpr (kRows > 8) AddRows<8>(rows, w, g, acc, between);
  }

  // The first two groups, which most leaves have, take the rows of `between`, one for every sixteen
  // dot products.
  template <int, typename Sink, typename Between = DoNothing>
  SHOAL_INLINE void Block(const uint8_t* weights, int64_t, int64_t k_begin, int64_t count,
                          Sink sink, Between between = {}) const {
    constexpr int64_t kBytes = WeightGroup<kType>::kBytes;
    const Rows& block = *rows.block;  // Not a member, which `between` might write to.
    __m512 acc[kRows];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) acc[r] = _mm512_setzero_ps();
    const int64_t first = k_begin / kGroup;
    const int64_t groups = count / kGroup;
    int64_t g = 0;
    if constexpr (!std::is_same_v<Between, DoNothing>) {
      const auto take = [=](int64_t row) __attribute__((always_inline)) {
        if (kRows == 2 * kPieces || row < kRows) between(row);
      };
      for (; g < Smaller(groups, 2); ++g) {
        AddGroup(
            block, weights + g * kBytes, first + g,
            acc, [=](int64_t i) __attribute__((always_inline)) { take(g * kPieces + i); });
      }
      for (int64_t row = g * kPieces; row < kRows; ++row) between(row);
    }
    for (; g < groups; ++g) AddGroup(block, weights + g * kBytes, first + g, acc, DoNothing());
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) sink(0, r, Lanes{acc[r]});
  }

  static constexpr int64_t kPieces = (kRows + kRowsTogether - 1) / kRowsTogether * 2;

  KeptRows<Rows> rows;
  Ahead ahead;
};

template <DType kType>
struct QuantFormat {
  template <int kRows>
  using Kernel = QuantKernel<kType, kRows>;

  template <typename Call>
  static void Compute(const Call& call) {
    Run<Kernel, kRowsMax>(call);
  }
};

}  // namespace
}  // namespace shoal::cpu
