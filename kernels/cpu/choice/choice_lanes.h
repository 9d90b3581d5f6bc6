#pragma once

// Choosing a token, over vectors of lanes, written once for every instruction set: C adds doubles
// and integers to the lanes of rows and attention. kernels/math/choice.cc, which shares nothing
// with this but its types, is the reference. Local to the file that includes it
// (kernels/cpu/inline.h says why).

#include <cstdint>

#include "kernels/cpu/choice/noise_lanes.h"
#include "kernels/cpu/lanes/exp_lanes.h"
#include "kernels/cpu/lanes/for_lanes.h"
#include "kernels/math/choice.h"

namespace shoal::cpu {
namespace {

constexpr float kNoLogit = -__builtin_inff();

template <typename C>
math::LargestLogit FindLargestLogit(const float* logits, int64_t count) {
  using F = typename C::F;
  constexpr int kChains = 4;
  F largest[kChains];
  F differences[kChains];  // x - x is NaN where x is not finite, and so is every sum with it.
  for (int c = 0; c < kChains; ++c) {
    largest[c] = C::Set(logits[0]);
    differences[c] = C::Zero();
  }
  const auto take = [&](int c, F x) {
    largest[c] = C::Max(largest[c], x);
    differences[c] = C::Add(differences[c], C::Sub(x, x));
  };
  int64_t i = 0;
  for (; i + kChains * C::kWidth <= count; i += kChains * C::kWidth) {
    for (int c = 0; c < kChains; ++c) take(c, C::Load(logits + i + c * C::kWidth));
  }
  ForLanes<C>(
      count - i, [&](int64_t j) { take(0, C::Load(logits + i + j)); },
      [&](int64_t j, int64_t n) {
        take(0, C::KeepFirst(C::LoadFirst(logits + i + j, n), C::Set(logits[0]), n));
      });
  for (int c = 1; c < kChains; ++c) {
    largest[0] = C::Max(largest[0], largest[c]);
    differences[0] = C::Add(differences[0], differences[c]);
  }
  return {.value = C::MaxOfLanes(largest[0]),
          .finite = C::CountMagnitudesFrom(differences[0], 0x7F800000) == 0};
}

// RNE(x * 2^40) of each lane, |x| <= 1: the integer in the low bits of a double near 1.5 * 2^52.
template <typename C>
typename C::I ToWeights(typename C::D x) {
  const typename C::D round = C::SetD(0x1.8p52);
  return C::SubI(C::Bits(C::AddD(C::MulD(x, C::SetD(0x1p40)), round)), C::Bits(round));
}

template <typename C, bool kMoments>
math::WeightSums SumWeights(const math::WeightsCall& call) {
  using F = typename C::F;
  using D = typename C::D;
  const D maximum = C::SetD(call.maximum);
  const D temperature = C::SetD(call.temperature);
  const bool divides = call.temperature != 1;
  // A difference of two floats that is rounded to double and then to float is rounded as if once.
  const auto exponent = [&](F logit) {
    if (!divides) return C::Sub(logit, C::Set(call.maximum));
    return C::Join(C::DivD(C::SubD(C::Low(logit), maximum), temperature),
                   C::DivD(C::SubD(C::High(logit), maximum), temperature));
  };
  typename C::I weights = C::ZeroI();
  typename C::I moments = C::ZeroI();
  const auto add = [&](F logit, uint64_t* out) {
    const F x = exponent(logit);
    const F v = C::KeepFrom(x, math::kNoWeight, x);  // +0 for others, -infinity among them.
    const F e = C::KeepFrom(x, math::kNoWeight, ExpLanes<C>(v));
    const typename C::I low = ToWeights<C>(C::Low(e));
    const typename C::I high = ToWeights<C>(C::High(e));
    weights = C::AddI(weights, C::AddI(low, high));
    if constexpr (kMoments) {
      const F minus = C::Negate(v);
      moments = C::AddI(moments, C::AddI(ToWeights<C>(C::MulD(C::Low(e), C::Low(minus))),
                                         ToWeights<C>(C::MulD(C::High(e), C::High(minus)))));
    }
    if (out == nullptr) return;
    C::StoreI(out, low);
    C::StoreI(out + C::kWidth / 2, high);
  };
  ForLanes<C>(
      call.count,
      [&](int64_t i) {
        add(C::Load(call.logits + i), call.weights == nullptr ? nullptr : call.weights + i);
      },
      [&](int64_t i, int64_t n) {
        uint64_t some[C::kWidth];
        add(C::KeepFirst(C::LoadFirst(call.logits + i, n), C::Set(kNoLogit), n), some);
        if (call.weights == nullptr) return;
        for (int64_t j = 0; j < n; ++j) call.weights[i + j] = some[j];
      });
  return {.weights = C::SumI(weights), .moments = C::SumI(moments)};
}

template <typename C>
math::WeightSums SumWeights(const math::WeightsCall& call) {
  return call.moments ? SumWeights<C, true>(call) : SumWeights<C, false>(call);
}

template <typename C>
consteval math::ChoiceKernels ChoiceKernelsOf() {
  return {.largest = FindLargestLogit<C>, .weights = SumWeights<C>, .noisy = ListNoisyTokens<C>};
}

}  // namespace
}  // namespace shoal::cpu
