#pragma once

// Half-precision numbers to f32 and back, in integer operations only: the same bits on every
// machine, subnormals kept, and no instruction-set flag needed.

#include <bit>
#include <cstdint>

namespace shoal {

// Exact. NaN payloads are kept.
constexpr float F16ToF32(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000U) << 16;
  const uint32_t exponent = (half >> 10) & 0x1FU;
  const uint32_t fraction = half & 0x3FFU;
  if (exponent == 0x1F) {
    return std::bit_cast<float>(sign | 0x7F800000U | (fraction << 13));
  }
  if (exponent != 0) {
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
  }
  if (fraction == 0) {
    return std::bit_cast<float>(sign);
  }
  // A subnormal is fraction * 2^-24: its leading bit, at position `top`, stands for 2^(top - 24).
  const auto top = static_cast<uint32_t>(31 - std::countl_zero(fraction));
  return std::bit_cast<float>(sign | ((top + 103) << 23) | ((fraction << (23 - top)) & 0x7FFFFFU));
}

// Round to nearest even; values of at least 65520 become infinite, NaNs stay NaNs (quiet).
constexpr uint16_t F32ToF16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) {
    return static_cast<uint16_t>(sign | 0x7E00U | ((magnitude >> 13) & 0x3FFU));
  }
  if (magnitude >= 0x477FF000U) {  // 65520, half way between the largest f16 and 2^16.
    return static_cast<uint16_t>(sign | 0x7C00U);
  }
  if (magnitude >= 0x38800000U) {  // 2^-14, the smallest normal f16.
    const uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13) & 1U);
    return static_cast<uint16_t>(sign | ((rounded - (112U << 23)) >> 13));
  }
  if (magnitude <= 0x33000000U) {  // 2^-25, half of the smallest subnormal: to even, which is 0.
    return sign;
  }
  const uint32_t shift = 126U - (magnitude >> 23);  // 14..24: from units of the value to 2^-24.
  const uint32_t fraction = (magnitude & 0x7FFFFFU) | 0x800000U;
  const uint32_t whole = fraction >> shift;
  const uint32_t rest = fraction & ((1U << shift) - 1);
  const uint32_t half = 1U << (shift - 1);
  const uint32_t up = rest > half || (rest == half && (whole & 1U) != 0) ? 1U : 0U;
  return static_cast<uint16_t>(sign | (whole + up));
}

// Exact.
constexpr float BF16ToF32(uint16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

// Round to nearest even; NaNs stay NaNs (quiet).
constexpr uint16_t F32ToBF16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) {
    return static_cast<uint16_t>((bits >> 16) | 0x40U);
  }
  return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

// Neither infinite nor NaN.
constexpr bool IsFiniteF16(uint16_t half) { return (half & 0x7C00U) != 0x7C00U; }

}  // namespace shoal
