#include "tests/support/model/random_weights.h"

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

// Of uniform quants, before the scale.
double QuantDeviation(DType dtype) {
  switch (dtype) {
    case DType::kQ8_0:  // -128..127
    case DType::kQ8_G128:
    case DType::kINT8:
      return 73.9;
    case DType::kIQ4_NL:  // kIq4NlValues
      return 67.4;
    case DType::kQ6_K:  // 0..63
      return 18.5;
    case DType::kQ5_0:  // 0..31
    case DType::kQ5_1:
    case DType::kQ5_K:
      return 9.23;
    default:  // 0..15
      return 4.61;
  }
}

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
  if (!IsQuantized(dtype)) return FloatMatrix(dtype, rows * cols, deviation);
  if (dtype == DType::kINT8) return Int8Matrix(rows, cols, deviation);
  const int64_t block_count = rows * cols / BlockWeights(dtype);
  return BlockWeights(dtype) == 256 ? KQuantMatrix(dtype, block_count, deviation)
                                    : QuantizedMatrix(dtype, block_count, deviation);
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
  bytes.reserve(static_cast<size_t>(count * BlockBytes(dtype)));
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

std::string RandomWeights::QuantizedMatrix(DType dtype, int64_t block_count, double deviation) {
  std::string bytes;
  bytes.reserve(static_cast<size_t>(block_count * BlockBytes(dtype)));
  const auto scale = static_cast<float>(deviation / QuantDeviation(dtype));
  const bool has_minimum = FactorOffsetsOf(dtype).minimum >= 0;
  const float middle = dtype == DType::kQ5_1 ? 15.25F : 7.25F;
  for (int64_t i = 0; i < block_count; ++i) {
    const uint64_t bits = bits_.Next();
    float d = scale * (0.75F + 0.5F * Uniform(bits));
    if (has_minimum) {
      Append(bytes, DType::kF16, d);
      Append(bytes, DType::kF16, -d * (middle + 0.5F * Uniform(bits >> 12)));
    } else {
      // Quants without minimum have a mean of -1/2: scales of both signs make up for it.
      d = (bits >> 63) != 0 ? -d : d;
      Append(bytes, DType::kF16, d);
    }
    AppendBytes(bytes, BlockBytes(dtype) - (has_minimum ? 4 : 2));
  }
  return bytes;
}

std::string RandomWeights::Int8Matrix(int64_t rows, int64_t cols, double deviation) {
  std::string bytes;
  const auto scale = static_cast<float>(deviation / QuantDeviation(DType::kINT8));
  for (int64_t row = 0; row < rows; ++row) {
    const uint64_t bits = bits_.Next();
    const float d = scale * (0.75F + 0.5F * Uniform(bits));
    Append(bytes, DType::kF32, (bits >> 63) != 0 ? -d : d);
    AppendBytes(bytes, cols);
  }
  return bytes;
}

std::string RandomWeights::KQuantMatrix(DType dtype, int64_t block_count, double deviation) {
  std::string bytes;
  bytes.reserve(static_cast<size_t>(block_count * BlockBytes(dtype)));
  for (int64_t i = 0; i < block_count; ++i) {
    const float varied = 0.75F + 0.5F * Uniform(bits_.Next());
    if (dtype == DType::kQ6_K) {
      AppendBytes(bytes, 128 + 64);
      // Scales of 64 to 127 and both signs.
      for (uint64_t group = 0, bits = bits_.Next(); group < 16; ++group, bits >>= 4) {
        const auto magnitude = static_cast<int>(64 + (bits & 7U) * 9);
        bytes.push_back(static_cast<char>((bits & 8U) != 0 ? -magnitude : magnitude));
      }
      const auto scale = static_cast<float>(deviation / (QuantDeviation(dtype) * 95));
      Append(bytes, DType::kF16, scale * varied);
      continue;
    }
    // Scales of 32 to 63, and minimums that are the same: dmin is the middle of the quants.
    const auto d = static_cast<float>(deviation / (QuantDeviation(dtype) * 47)) * varied;
    Append(bytes, DType::kF16, d);
    Append(bytes, DType::kF16, d * (dtype == DType::kQ5_K ? 15.5F : 7.5F));
    ScaleMin pairs[8];
    for (ScaleMin& pair : pairs) {
      pair.scale = pair.minimum = static_cast<uint8_t>(32 + bits_.Below(32));
    }
    std::byte packed[12];
    PackKScaleMins(pairs, packed);
    bytes.append(reinterpret_cast<const char*>(packed), sizeof(packed));
    AppendBytes(bytes, BlockBytes(dtype) - 16);
  }
  return bytes;
}

void RandomWeights::AppendBytes(std::string& bytes, int64_t count) {
  for (; count > 0; count -= 8) {
    const uint64_t word = bits_.Next();
    char data[8];
    std::memcpy(data, &word, 8);
    bytes.append(data, static_cast<size_t>(count < 8 ? count : 8));
  }
}

}  // namespace shoal::test
