#pragma once

// The contract's scalar functions: the same sequence of IEEE operations on every machine, so that
// vector and device versions can repeat it lane by lane. Compiled without instruction-set flags.

#include <array>
#include <cstdint>
#include <span>

namespace shoal::math {

// e^x: exact 1 for +-0, +inf above the f32 range, +0 below it (subnormal results are kept),
// NaN for NaN. Error at most 2 ulp. The order of operations is in kernels/ARITHMETIC.md.
float Exp(float x);

// x / (1 + Exp(-x)).
float Silu(float x);

// Natural logarithm in double, for x > 0 and finite. Error at most 2 ulp.
double Log(double x);

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// Gumbel noise of `token` at absolute `position` ("Choosing a token" in kernels/ARITHMETIC.md).
double GumbelNoise(uint64_t seed, uint32_t position, uint32_t token, uint32_t choice);
// The noise that a random word of the generator gives.
double GumbelOf(uint32_t word);

// RNE(y * 2^32) modulo 2^64; |y| < 2^30.
int64_t ToFixed(float y);
// float(double(sum) * 2^-32).
float FromFixed(int64_t sum);

// The contract's sum over a row: blocks of 512, 16 partial sums each. +0 for an empty row.
float RowSum(std::span<const float> values);
// Likewise, of the squares.
float RowSumSquares(std::span<const float> values);

// Proves that this thread rounds to nearest even, keeps subnormals, and that fmaf rounds once;
// every result rests on it. Errors: kFailed, naming what is wrong.
void CheckArithmetic();

}  // namespace shoal::math
