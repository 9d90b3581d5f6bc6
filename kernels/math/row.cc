// Sums over rows, fixed-point numbers, and the proof that this machine's arithmetic is the one they
// need.

#include <algorithm>

#include "kernels/math/scalar.h"
#include "transport/base/error.h"

namespace shoal::math {
namespace {

constexpr size_t kRowBlock = 512;
constexpr size_t kPartials = 16;

template <typename Accumulate>
float SumBlocks(std::span<const float> values, Accumulate accumulate) {
  float total = 0.0f;
  for (size_t begin = 0; begin < values.size(); begin += kRowBlock) {
    const size_t end = std::min(begin + kRowBlock, values.size());
    float partials[kPartials] = {};
    for (size_t i = begin; i < end; ++i) {
      float& partial = partials[i % kPartials];
      partial = accumulate(values[i], partial);
    }
    for (size_t width = kPartials / 2; width > 0; width /= 2) {
      for (size_t i = 0; i < width; ++i) partials[i] += partials[i + width];
    }
    total += partials[0];
  }
  return total;
}

}  // namespace

float RowSum(std::span<const float> values) {
  return SumBlocks(values, [](float x, float partial) { return partial + x; });
}

float RowSumSquares(std::span<const float> values) {
  return SumBlocks(values, [](float x, float partial) { return __builtin_fmaf(x, x, partial); });
}

int64_t ToFixed(float y) {
  // Exact: y has 24 bits, and 2^32 only moves its exponent.
  const double scaled = static_cast<double>(y) * 0x1p32;
  // From 2^51 on, a float's multiple of 2^28 is an integer already; below, adding 1.5 * 2^52
  // rounds.
  constexpr double kRound = 6755399441055744.0;
  const bool whole = scaled >= 0x1p51 || scaled <= -0x1p51;
  return static_cast<int64_t>(whole ? scaled : (scaled + kRound) - kRound);
}

float FromFixed(int64_t sum) { return static_cast<float>(static_cast<double>(sum) * 0x1p-32); }

void CheckArithmetic() {
  // volatile: the processor shall answer, not the compiler.
  const volatile float one_up = 1.0f + 0x1p-23f;
  const volatile float half_ulp = 0x1p-24f;
  const volatile float one = 1.0f;
  const volatile float smallest = 0x1p-149f;
  // (1 + 2^-23)^2 = 1 + 2^-22 + 2^-46, of which two roundings would keep only 1 + 2^-22.
  const float product = one_up * one_up;
  if (__builtin_fmaf(one_up, one_up, -product) != 0x1p-46f) {
    Throw(ErrorCode::kFailed, "fmaf does not round once on this machine; every result rests on it");
  }
  if (one + half_ulp != 1.0f || one_up + half_ulp != 1.0f + 0x1p-22f) {
    Throw(ErrorCode::kFailed, "floating-point rounding is not to nearest even in this thread");
  }
  if (smallest * one == 0.0f || smallest + smallest != 0x1p-148f) {
    Throw(ErrorCode::kFailed, "subnormal numbers are flushed to zero in this thread (FTZ or DAZ)");
  }
}

}  // namespace shoal::math
