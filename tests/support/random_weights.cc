#include "tests/support/random_weights.h"

#include <cstring>

#include "kernels/format/half.h"
#include "transport/base/check.h"

// Quantised weights are drawn as their quants and scales, never by quantising: that is fast and
// reaches every quant.

namespace shoal::test {
namespace {

// FNV-1a.
uint64_t HashName(std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325U;
  for (const char c : name) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
  }
  return hash;
}

void Append(std::string& bytes, DType dtype, float value) {
  char data[4];
  size_t count = 2;
  if (dtype == DType::kF32) {
    std::memcpy(data, &value, 4);
    count = 4;
  } else {
    const uint16_t half = dtype == DType::kF16 ? F32ToF16(value) : F32ToBF16(value);
    std::memcpy(data, &half, 2);
  }
  bytes.append(data, count);
}

// Exact in f32: 12 bits of fraction.
float Uniform(uint64_t bits) { return static_cast<float>(bits & 0xFFFU) * 0x1p-12F; }

}  // namespace

uint64_t RandomBits::Next() {
  state_ += 0x9E3779B97F4A7C15U;
  uint64_t mixed = (state_ ^ (state_ >> 30)) * 0xBF58476D1CE4E5B9U;
  mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBU;
  return mixed ^ (mixed >> 31);
}

RandomWeights::RandomWeights(uint64_t seed, std::string_view tensor_name)
    : bits_(seed * 0x9E3779B97F4A7C15U ^ HashName(tensor_name)) {}

std::string RandomWeights::Matrix(DType dtype, int64_t rows, int64_t cols, double deviation) {
  return IsQuantized(dtype) ? QuantizedMatrix(dtype, rows * cols / GroupSize(dtype), deviation)
                            : FloatMatrix(dtype, rows * cols, deviation);
}

std::string RandomWeights::Norm(DType dtype, int64_t cols) {
  SHOAL_CHECK(!IsQuantized(dtype), "norms are floats");
  std::string bytes;
  for (int64_t i = 0; i < cols; ++i) {
    Append(bytes, dtype, 0.75F + 0.5F * Uniform(bits_.Next()));
  }
  return bytes;
}

std::string RandomWeights::FloatMatrix(DType dtype, int64_t count, double deviation) {
  std::string bytes;
  bytes.reserve(static_cast<size_t>(count * GroupBytes(dtype)));
  // The sum of four uniform 16-bit numbers is nearly normal; its deviation is 2^16 / sqrt(3).
  const auto scale = static_cast<float>(deviation / (65536 * 0.57735026918962576));
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t bits = bits_.Next();
    const auto sum = static_cast<int32_t>((bits & 0xFFFFU) + ((bits >> 16) & 0xFFFFU) +
                                          ((bits >> 32) & 0xFFFFU) + (bits >> 48));
    Append(bytes, dtype, static_cast<float>(sum - 131070) * scale);
  }
  return bytes;
}

std::string RandomWeights::QuantizedMatrix(DType dtype, int64_t group_count, double deviation) {
  std::string bytes;
  bytes.reserve(static_cast<size_t>(group_count * GroupBytes(dtype)));
  // Uniform quants: 0..15 deviate by 4.61, -128..127 by 73.9.
  const auto scale = static_cast<float>(deviation / (dtype == DType::kQ8_0 ? 73.9 : 4.61));
  for (int64_t i = 0; i < group_count; ++i) {
    const uint64_t bits = bits_.Next();
    float d = scale * (0.75F + 0.5F * Uniform(bits));
    if (dtype == DType::kQ4_1) {
      Append(bytes, DType::kF16, d);
      Append(bytes, DType::kF16, -d * (7.25F + 0.5F * Uniform(bits >> 12)));
    } else {
      // Quants without minimum have a mean of -1/2: scales of both signs make up for it.
      d = (bits >> 63) != 0 ? -d : d;
      Append(bytes, DType::kF16, d);
    }
    const int word_count = dtype == DType::kQ8_0 ? 4 : 2;
    for (int word = 0; word < word_count; ++word) {
      const uint64_t quants = bits_.Next();
      char data[8];
      std::memcpy(data, &quants, 8);
      bytes.append(data, 8);
    }
  }
  return bytes;
}

}  // namespace shoal::test
