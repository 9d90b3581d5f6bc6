#pragma once

// exp over vectors of lanes: L is Avx2Lanes or Avx512Lanes. Local to the file that includes it
// (kernels/cpu/inline.h says why).

namespace shoal::cpu {
namespace {

// math::Exp, operation by operation.
template <typename L>
typename L::F ExpLanes(typename L::F x) {
  using F = typename L::F;
  // Operand order: the second is kept where it is NaN.
  const F v = L::Min(L::Set(89.0f), L::Max(L::Set(-104.0f), x));
  const F round = L::Set(12582912.0f);
  const F shifted = L::Fma(v, L::Set(0x1.715476p+0f), round);
  const F n = L::Sub(shifted, round);
  F r = L::Fma(n, L::Set(-0x1.62e4p-1f), v);
  r = L::Fma(n, L::Set(-0x1.7f7d1cp-20f), r);
  F p = L::Set(1.0f / 5040.0f);
  p = L::Fma(p, r, L::Set(1.0f / 720.0f));
  p = L::Fma(p, r, L::Set(1.0f / 120.0f));
  p = L::Fma(p, r, L::Set(1.0f / 24.0f));
  p = L::Fma(p, r, L::Set(1.0f / 6.0f));
  p = L::Fma(p, r, L::Set(0.5f));
  p = L::Fma(p, r, L::Set(1.0f));
  p = L::Fma(p, r, L::Set(1.0f));
  return L::TimesPowerOfTwo(p, n);
}

}  // namespace
}  // namespace shoal::cpu
