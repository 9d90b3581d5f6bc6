// The single-precision exponential. Vector rows repeat it operation by operation: a change here is
// a change of kernels/cpu/lanes/exp_lanes.h, of kernels/ARITHMETIC.md and of every committed
// digest.

#include <bit>

#include "kernels/math/scalar.h"

namespace shoal::math {
namespace {

// 1.5 * 2^23: adding it rounds a float below 2^22 in magnitude to an integer, to nearest even, and
// leaves that integer in the low bits.
constexpr float kRound = 12582912.0f;

// 2^exponent as a float; exponent in [-126, 127].
float PowerOfTwo(int32_t exponent) {
  return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
}

}  // namespace

float Exp(float x) {
  // Below -104 every result rounds to 0, above 89 to infinity. Comparisons with NaN are false.
  const float low = x < -104.0f ? -104.0f : x;
  const float v = low > 89.0f ? 89.0f : low;

  // v = n * ln 2 + r with |r| <= ln(2) / 2 (a hair more after rounding); ln 2 in two parts, of
  // which the first has 15 bits, so that the first fma is exact.
  const float shifted = __builtin_fmaf(v, 0x1.715476p+0f, kRound);
  const float n = shifted - kRound;
  float r = __builtin_fmaf(n, -0x1.62e4p-1f, v);
  r = __builtin_fmaf(n, -0x1.7f7d1cp-20f, r);

  // The series' own terms up to r^7 / 7!: what is left out is below 6e-9 of the result.
  float p = 1.0f / 5040.0f;
  p = __builtin_fmaf(p, r, 1.0f / 720.0f);
  p = __builtin_fmaf(p, r, 1.0f / 120.0f);
  p = __builtin_fmaf(p, r, 1.0f / 24.0f);
  p = __builtin_fmaf(p, r, 1.0f / 6.0f);
  p = __builtin_fmaf(p, r, 0.5f);
  p = __builtin_fmaf(p, r, 1.0f);
  p = __builtin_fmaf(p, r, 1.0f);

  // 2^n in two factors: n = 128 and n < -126 have no float of their own. The first product is
  // exact, so the second is the only rounding, also of a subnormal result. For NaN the factors are
  // arbitrary and p is NaN; the subtraction of the bits is unsigned because it may wrap then.
  const uint32_t difference = std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kRound);
  const auto exponent = static_cast<int32_t>(difference);
  const int32_t half = exponent >> 1;
  return (p * PowerOfTwo(half)) * PowerOfTwo(exponent - half);
}

float Silu(float x) { return x / (1.0f + Exp(-x)); }

}  // namespace shoal::math
