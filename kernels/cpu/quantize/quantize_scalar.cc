#include <algorithm>
#include <bit>
#include <limits>

#include "kernels/cpu/quantize/quantize.h"

// The quantiser as the contract spells it out ("Linear layers", item 2 of kernels/ARITHMETIC.md).

namespace shoal::cpu {
namespace {

constexpr int64_t kRowGroup = 32;
constexpr uint32_t kInfinityBits = 0x7f800000u;
constexpr float kSmallestMaximum = 0x1p-100f;

// Round to nearest even for |x| < 2^22: at 1.5 * 2^23 a float's last bit is worth one.
float RoundNearestEven(float x) {
  constexpr float kMagic = 0x1.8p23f;
  return (x + kMagic) - kMagic;
}

uint32_t LargestBits(const float* x, int64_t cols) {
  // As unsigned bits, magnitudes order like floats and every NaN lies above infinity.
  uint32_t largest = 0;
  for (int64_t i = 0; i < cols; ++i) {
    largest = std::max(largest, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  }
  return largest;
}

void QuantizeGroup(const float* x, int64_t count, uint32_t max_bits, int8_t* quants, float* scale,
                   int32_t* sum) {
  const float amax = std::bit_cast<float>(max_bits);
  *sum = 0;
  if (max_bits >= kInfinityBits || amax < kSmallestMaximum) {
    *scale = max_bits >= kInfinityBits ? std::numeric_limits<float>::quiet_NaN() : 0.0f;
    std::fill_n(quants, count, int8_t{0});
    return;
  }
  *scale = amax / 127.0f;
  const float inverse = 127.0f / amax;
  for (int64_t i = 0; i < count; ++i) {
    const float q = std::clamp(RoundNearestEven(x[i] * inverse), -127.0f, 127.0f);
    quants[i] = static_cast<int8_t>(q);
    *sum += quants[i];
  }
}

void QuantizeGroups(const float* x, int64_t cols, int64_t group, int8_t* quants, float* scales,
                    int32_t* sums) {
  for (int64_t k = 0, g = 0; k < cols; k += group, ++g) {
    const int64_t count = std::min(group, cols - k);
    QuantizeGroup(x + k, count, LargestBits(x + k, count), quants + k, scales + g, sums + g);
  }
}

void QuantizeRow(const float* x, int64_t cols, int8_t* quants, float* scales, int32_t* sums) {
  QuantizeGroups(x, cols, kRowGroup, quants, scales, sums);
}

}  // namespace

constinit const QuantizeKernels kQuantizeScalar = {.row = QuantizeRow,
                                                   .groups = QuantizeGroups,
                                                   .largest_bits = LargestBits,
                                                   .group = QuantizeGroup};

}  // namespace shoal::cpu
