#pragma once

// Linear layers over quantised weights with the VNNI dot product: unsigned weights, signed
// activations. A group's weights are unpacked once into eight registers and used by every row of
// the tile; activations are broadcast from memory four k at a time.
//
// Registers, at 12 rows: 12 accumulators, 8 of weights, scale and minimum, 4 integer dots.
//
// Local to the files that include it (kernels/cpu/inline.h says why): one for each width of
// weights, so that what takes long to compile does so side by side.

#include <immintrin.h>

#include <cstdint>
#include <type_traits>

#include "kernels/cpu/linear/lanes/lanes_avx512.h"
#include "kernels/cpu/linear/tiles/kept_rows.h"
#include "kernels/cpu/linear/tiles/run_tiles.h"

namespace shoal::cpu {
namespace {

constexpr int64_t kGroup = 32;
constexpr int64_t kBlockGroups = kBlockK / kGroup;
constexpr int kRowsMax = 12;
constexpr int kRowsTogether = 4;  // Dot product chains in flight: hides a latency of four cycles.

// What is subtracted from every unsigned weight.
template <DType kType>
constexpr int32_t kOffset = kType == DType::kQ8_0   ? 128
                            : kType == DType::kQ4_0 ? 8
                                                    : 0;

// Up to 256 k of the tile's rows at constant distances, with what a (row, group) needs once.
template <DType kType, int kRows>
struct RowBlock {
  alignas(64) int8_t quants[kRows][kBlockK];
  alignas(64) float scales[kRows][kBlockGroups];
  // Q4_1: scale * float(sum). The others: -offset * sum, where the integer dot starts.
  alignas(64) float corrections[kRows][kBlockGroups];

  SHOAL_INLINE void Load(const ActivationRows& input, int64_t row, int64_t k, int64_t count) {
    const int64_t groups = count / kGroup;
    const auto mask = static_cast<__mmask8>((1u << groups) - 1);
    for (int r = 0; r < kRows; ++r) {
      const int64_t first_group = (row + r) * (input.cols / kGroup) + k / kGroup;
      const int8_t* from = input.quants + (row + r) * input.cols + k;
      for (int64_t g = 0; g < groups; ++g) {
        const auto* group = reinterpret_cast<const __m256i*>(from + g * kGroup);
        _mm256_store_si256(reinterpret_cast<__m256i*>(quants[r] + g * kGroup),
                           _mm256_loadu_si256(group));
      }
      const __m256 scale = _mm256_maskz_loadu_ps(mask, input.scales + first_group);
      const __m256i sum = _mm256_maskz_loadu_epi32(mask, input.sums + first_group);
      _mm256_store_ps(scales[r], scale);
      if constexpr (kOffset<kType> == 0) {
        _mm256_store_ps(corrections[r], _mm256_mul_ps(scale, _mm256_cvtepi32_ps(sum)));
      } else {
        const __m256i start = _mm256_mullo_epi32(sum, _mm256_set1_epi32(-kOffset<kType>));
        _mm256_store_si256(reinterpret_cast<__m256i*>(corrections[r]), start);
      }
    }
  }
};

SHOAL_INLINE __m512 LoadHalves(const uint8_t* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

// One group's weights of 16 outputs, unpacked.
template <DType kType>
struct WeightGroup {
  static constexpr int64_t kBytes = PackedGroupBytes(kType);
  __m512i quads[8];
  __m512 d;
  __m512 m;

  SHOAL_INLINE void Load(const uint8_t* from) {
    if constexpr (kType == DType::kQ8_0) {
#pragma GCC unroll 8
      for (int v = 0; v < 8; ++v) quads[v] = _mm512_loadu_si512(from + 64 * v);
      d = LoadHalves(from + 512);
    } else {
      const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        const __m512i both = _mm512_loadu_si512(from + 64 * v);
        quads[v] = _mm512_and_si512(both, low);
        quads[v + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
      }
      d = LoadHalves(from + 256);
      if constexpr (kType == DType::kQ4_1) m = LoadHalves(from + 288);
    }
  }
};

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
