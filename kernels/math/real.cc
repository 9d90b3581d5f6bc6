// Logarithm, exponential, sine and cosine in double precision. The coefficients are those of the
// functions' own series, which at these interval widths are as good as minimax ones and need no
// source but the definition.

#include "kernels/math/real.h"

#include <bit>
#include <cstdint>

#include "kernels/math/scalar.h"

namespace shoal::math {
namespace {

constexpr double kLn2High = 0x1.62e42feep-1;  // 32 bits: its product with an exponent is exact.
constexpr double kLn2Low = 0x1.a39ef35793c76p-33;

// 1.5 * 2^52: adding it rounds a double below 2^51 in magnitude to an integer, to nearest even.
constexpr double kRound = 6755399441055744.0;

double PowerOfTwo(int64_t exponent) {
  return std::bit_cast<double>(static_cast<uint64_t>(exponent + 1023) << 52);
}

}  // namespace

double Log(double x) {
  int64_t exponent = 0;
  if (x < 0x1p-1022) {
    x *= 0x1p54;
    exponent = -54;
  }
  // x = 2^exponent * m with m in [sqrt(1/2), sqrt(2)).
  constexpr int64_t kSqrtHalfBits = 0x3FE6A09E667F3BCD;
  const auto bits = std::bit_cast<int64_t>(x);
  const int64_t shift = (bits - kSqrtHalfBits) >> 52;
  exponent += shift;
  const auto m =
      std::bit_cast<double>(static_cast<uint64_t>(bits) - (static_cast<uint64_t>(shift) << 52));

  // log(1 + f) = 2 atanh(s) = 2s + s * R(s^2), s = f / (2 + f), |s| < 0.1716; and 2s = f - s * f,
  // so that the leading term f is exact and the rest is small.
  const double f = m - 1.0;
  const double s = f / (2.0 + f);
  const double z = s * s;
  double series = 2.0 / 21.0;
  series = series * z + 2.0 / 19.0;
  series = series * z + 2.0 / 17.0;
  series = series * z + 2.0 / 15.0;
  series = series * z + 2.0 / 13.0;
  series = series * z + 2.0 / 11.0;
  series = series * z + 2.0 / 9.0;
  series = series * z + 2.0 / 7.0;
  series = series * z + 2.0 / 5.0;
  series = series * z + 2.0 / 3.0;
  series = series * z;
  const double half_square = 0.5 * f * f;
  const auto e = static_cast<double>(exponent);
  return e * kLn2High - ((half_square - (s * (half_square + series) + e * kLn2Low)) - f);
}

double ExpReal(double x) {
  const double n = (x * 0x1.71547652b82fep+0 + kRound) - kRound;
  const double r = (x - n * kLn2High) - n * kLn2Low;
  double p = 1.0 / 6227020800.0;  // 1 / 13!
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * (r * r) + r;
  p = p + 1.0;
  // |x| <= 700, so |n| <= 1010: one normal factor is enough.
  return p * PowerOfTwo(static_cast<int64_t>(n));
}

SinCos SinCosReal(double x) {
  // x = quarters * pi / 2 + r. pi / 2 in three parts, of which two have 33 bits: their products
  // with fewer than 2^20 quarters are exact, so what remains has an absolute error far below 2^-60.
  const double quarters = (x * 0x1.45f306dc9c883p-1 + kRound) - kRound;
  const double first = x - quarters * 0x1.921fb544p+0;
  const double second = quarters * 0x1.0b4611a6p-34;
  const double high = first - second;
  const double low = ((first - high) - second) - quarters * 0x1.3198a2e037073p-69;
  const double r = high + low;
  const double rest = (high - r) + low;

  const double z = r * r;
  double s = 1.0 / 355687428096000.0;  // 1 / 17!
  s = s * z - 1.0 / 1307674368000.0;
  s = s * z + 1.0 / 6227020800.0;
  s = s * z - 1.0 / 39916800.0;
  s = s * z + 1.0 / 362880.0;
  s = s * z - 1.0 / 5040.0;
  s = s * z + 1.0 / 120.0;
  s = s * z - 1.0 / 6.0;
  const double sine = r + (s * z * r + rest);

  double c = 1.0 / 20922789888000.0;  // 1 / 16!
  c = c * z - 1.0 / 87178291200.0;
  c = c * z + 1.0 / 479001600.0;
  c = c * z - 1.0 / 3628800.0;
  c = c * z + 1.0 / 40320.0;
  c = c * z - 1.0 / 720.0;
  c = c * z + 1.0 / 24.0;
  const double half = 0.5 * z;
  const double one_less_half = 1.0 - half;
  const double cosine = one_less_half + (((1.0 - one_less_half) - half) + (c * z * z - r * rest));

  switch (static_cast<int64_t>(quarters) & 3) {
    case 0:
      return {sine, cosine};
    case 1:
      return {cosine, -sine};
    case 2:
      return {-sine, -cosine};
    default:
      return {-cosine, sine};
  }
}

}  // namespace shoal::math
