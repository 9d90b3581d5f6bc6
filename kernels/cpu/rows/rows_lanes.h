#pragma once

// The row operations over vectors of lanes, written once for every instruction set: L is Avx2Lanes
// or Avx512Lanes. rows_scalar.cc, which shares nothing with this, is the reference. Local to the
// file that includes it (kernels/cpu/inline.h says why).

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/lanes/exp_lanes.h"
#include "kernels/cpu/lanes/for_lanes.h"
#include "kernels/cpu/rows/rows.h"
#include "kernels/cpu/rows/store_kv.h"
#include "kernels/format/packed.h"

namespace shoal::cpu {
namespace {

template <typename L>
void RmsNorm(const float* x, const float* weight, float epsilon, int64_t cols, float* y) {
  constexpr int64_t kRowBlock = 512;
  float total = 0.0f;
  for (int64_t begin = 0; begin < cols; begin += kRowBlock) {
    const int64_t count = cols - begin < kRowBlock ? cols - begin : kRowBlock;
    typename L::Partials sums = L::Partials::Zeros();
    const auto add = [&](int64_t i, typename L::F v) {
      typename L::F& sum = sums.At(static_cast<int>(i / L::kWidth));
      sum = L::Fma(v, v, sum);
    };
    // Absent elements are squares of +0: a partial is never -0, so adding them changes nothing.
    ForLanes<L>(
        count, [&](int64_t i) { add(i, L::Load(x + begin + i)); },
        [&](int64_t i, int64_t n) { add(i, L::LoadFirst(x + begin + i, n)); });
    total += sums.Total();
  }
  const float mean = total / static_cast<float>(cols);
  const typename L::F r = L::Div(L::Set(1.0f), L::Sqrt(L::Set(mean + epsilon)));
  ForLanes<L>(
      cols,
      [&](int64_t i) { L::Store(y + i, L::Mul(L::Mul(L::Load(x + i), r), L::Load(weight + i))); },
      [&](int64_t i, int64_t n) {
        const auto scaled = L::Mul(L::LoadFirst(x + i, n), r);
        L::StoreFirst(y + i, L::Mul(scaled, L::LoadFirst(weight + i, n)), n);
      });
}

inline void RotateOne(float* x0, float* x1, float c, float s) {
  const float y0 = __builtin_fmaf(*x0, c, -(*x1 * s));
  const float y1 = __builtin_fmaf(*x0, s, *x1 * c);
  *x0 = y0;
  *x1 = y1;
}

template <typename L>
void RopeAdjacent(float* head, const float* cos, const float* sin, int64_t head_dim) {
  int64_t i = 0;
  for (; i + L::kWidth <= head_dim; i += L::kWidth) {
    L::RotatePairs(head + i, cos + i / 2, sin + i / 2);
  }
  for (; i + 1 < head_dim; i += 2) RotateOne(head + i, head + i + 1, cos[i / 2], sin[i / 2]);
}

template <typename L>
void RopeHalfSplit(float* head, const float* cos, const float* sin, int64_t head_dim) {
  using F = typename L::F;
  const int64_t half = head_dim / 2;
  int64_t i = 0;
  for (; i + L::kWidth <= half; i += L::kWidth) {
    const F x0 = L::Load(head + i);
    const F x1 = L::Load(head + half + i);
    const F c = L::Load(cos + i);
    const F s = L::Load(sin + i);
    L::Store(head + i, L::Fma(x0, c, L::Negate(L::Mul(x1, s))));
    L::Store(head + half + i, L::Fma(x0, s, L::Mul(x1, c)));
  }
  for (; i < half; ++i) RotateOne(head + i, head + half + i, cos[i], sin[i]);
}

template <typename L>
void SiluMul(const float* gate, const float* up, int64_t cols, float* y) {
  using F = typename L::F;
  const auto silu_mul = [](F g, F u) {
    return L::Mul(L::Div(g, L::Add(L::Set(1.0f), ExpLanes<L>(L::Negate(g)))), u);
  };
  ForLanes<L>(
      cols, [&](int64_t i) { L::Store(y + i, silu_mul(L::Load(gate + i), L::Load(up + i))); },
      [&](int64_t i, int64_t n) {
        L::StoreFirst(y + i, silu_mul(L::LoadFirst(gate + i, n), L::LoadFirst(up + i, n)), n);
      });
}

template <typename L>
void AddFixed(const int64_t* sum, int64_t cols, float* residual) {
  ForLanes<L>(
      cols,
      [&](int64_t i) {
        L::Store(residual + i, L::Add(L::Load(residual + i), L::FromFixed(sum + i)));
      },
      [&](int64_t i, int64_t n) {
        int64_t some[L::kWidth] = {};
        for (int64_t j = 0; j < n; ++j) some[j] = sum[i + j];
        L::StoreFirst(residual + i, L::Add(L::LoadFirst(residual + i, n), L::FromFixed(some)), n);
      });
}

template <typename L>
int64_t AddDots(const int64_t* dots, const PackedMatrix& weights, float scale, float* residual) {
  constexpr uint32_t kLimitBits = 0x4E800000;  // 2^30
  // As PanelBytes, which has external linkage.
  const int64_t panel_bytes =
      kPanelRows * (int64_t{sizeof(float)} + weights.cols * int64_t{sizeof(int8_t)});
  int64_t invalid = 0;
  const auto scaled = [&](int64_t o, const int64_t* from) {
    const auto* scales =
        reinterpret_cast<const float*>(weights.data + o / kPanelRows * panel_bytes);
    const auto d = L::Mul(L::Set(scale), L::Load(scales + o % kPanelRows));
    return L::Add(L::Zero(), L::Fma(d, L::FromInts(from), L::Zero()));
  };
  ForLanes<L>(
      weights.rows,
      [&](int64_t o) {
        const auto y = scaled(o, dots + o);
        invalid += L::CountMagnitudesFrom(y, kLimitBits);
        L::Store(residual + o, L::Add(L::Load(residual + o), y));
      },
      [&](int64_t o, int64_t n) {
        int64_t some[L::kWidth] = {};
        for (int64_t i = 0; i < n; ++i) some[i] = dots[o + i];
        float y[L::kWidth];
        L::Store(y, scaled(o, some));
        const auto present = L::LoadFirst(y, n);
        invalid += L::CountMagnitudesFrom(present, kLimitBits);
        L::StoreFirst(residual + o, L::Add(L::LoadFirst(residual + o, n), present), n);
      });
  return invalid;
}

template <typename L>
consteval RowKernels RowKernelsOf() {
  return {.rms_norm = RmsNorm<L>,
          .rope_adjacent = RopeAdjacent<L>,
          .rope_half_split = RopeHalfSplit<L>,
          .silu_mul = SiluMul<L>,
          .add_fixed = AddFixed<L>,
          .add_dots = AddDots<L>,
          .store_kv = StoreKv<L>};
}

}  // namespace
}  // namespace shoal::cpu
