#pragma once

// Double-precision functions for tables that are built once. Plain multiplications and additions,
// no fma: the same bits on any machine, at the same speed.

namespace shoal::math {

// e^x for |x| <= 700. Error at most 2 ulp.
double ExpReal(double x);

struct SinCos {
  double sin;
  double cos;
};

// The largest magnitude that SinCosReal reduces exactly: 2^20 quarter turns, rounded down.
constexpr double kSinCosMax = 1'647'000.0;

// Sine and cosine of x radians for |x| <= kSinCosMax. Error at most 2^-52 of 1.
SinCos SinCosReal(double x);

}  // namespace shoal::math
