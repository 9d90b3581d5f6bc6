#pragma once

// Softmax over a segment, and how the sums of segments combine. L is Avx2Lanes or Avx512Lanes.
// Local to the file that includes it (kernels/cpu/inline.h says why).

#include <cstdint>

#include "kernels/cpu/lanes/exp_lanes.h"
#include "kernels/cpu/lanes/for_lanes.h"

namespace shoal::cpu {
namespace {

// A NaN may be lost here; its own weight is NaN whatever the maximum, and with it the sum.
template <typename L>
float LargestScore(const float* scores, int64_t count) {
  using F = typename L::F;
  const F lowest = L::Set(-__builtin_inff());
  F m = lowest;
  ForLanes<L>(
      count, [&](int64_t i) { m = L::Max(m, L::Load(scores + i)); },
      [&](int64_t i, int64_t n) {
        m = L::Max(m, L::KeepFirst(L::LoadFirst(scores + i, n), lowest, n));
      });
  return L::MaxOfLanes(m);
}

// Turns `count` scores into weights, in place, and returns the weights' sum.
template <typename L>
float Softmax(float* scores, int64_t count, float max) {
  using F = typename L::F;
  const F largest = L::Set(max);
  typename L::Partials sums = L::Partials::Zeros();
  const auto add = [&](int64_t i, F weight) {
    F& partial = sums.At(static_cast<int>(i / L::kWidth));
    partial = L::Add(partial, weight);
  };
  ForLanes<L>(
      count,
      [&](int64_t i) {
        const F weight = ExpLanes<L>(L::Sub(L::Load(scores + i), largest));
        L::Store(scores + i, weight);
        add(i, weight);
      },
      [&](int64_t i, int64_t n) {
        const F weight = ExpLanes<L>(L::Sub(L::LoadFirst(scores + i, n), largest));
        L::StoreFirst(scores + i, weight, n);
        add(i, L::KeepFirst(weight, L::Zero(), n));  // Weights are never -0: + 0 changes nothing.
      });
  return sums.Total();
}

// Softmax-weighted sums over some keys, one for each pair of a pass.
template <typename L>
struct Partials {
  float max[L::kPairsMax];
  float weight_sum[L::kPairsMax];
  float* output;  // [kPairsMax][head_dim]
};

// Folds pair p of `next`, which covers the keys that follow, into `sum`.
template <typename L>
void Fold(Partials<L>& sum, const Partials<L>& next, int p, int64_t head_dim) {
  using F = typename L::F;
  float* to = sum.output + p * head_dim;
  const float* from = next.output + p * head_dim;
  const float max = next.max[p] > sum.max[p] ? next.max[p] : sum.max[p];
  const F a = ExpLanes<L>(L::Set(sum.max[p] - max));
  const F b = ExpLanes<L>(L::Set(next.max[p] - max));
  const auto fold = [&](F x, F y) { return L::Fma(x, a, L::Mul(y, b)); };
  sum.max[p] = max;
  sum.weight_sum[p] = L::Lane0(fold(L::Set(sum.weight_sum[p]), L::Set(next.weight_sum[p])));
  ForLanes<L>(
      head_dim, [&](int64_t d) { L::Store(to + d, fold(L::Load(to + d), L::Load(from + d))); },
      [&](int64_t d, int64_t n) {
        L::StoreFirst(to + d, fold(L::LoadFirst(to + d, n), L::LoadFirst(from + d, n)), n);
      });
}

}  // namespace
}  // namespace shoal::cpu
