#include "kernels/cpu/pack.h"

#include <cmath>
#include <cstring>

#include "kernels/format/half.h"

// A panel's group takes the file's bytes in another order; no value is rounded or rescaled. In
// particular 16 bytes of file nibbles are already four packed words: byte 4 * v + j of the file
// holds weights 4 * v + j and 16 + 4 * v + j.

namespace shoal::cpu {
namespace {

constexpr int64_t kVectorBytes = 64;

// `words` 4-byte words of one output, one for each vector of the group. Adding 128 to a signed byte
// flips its top bit.
void ScatterWords(const std::byte* source, int64_t words, uint32_t flip, std::byte* lane) {
  for (int64_t v = 0; v < words; ++v) {
    uint32_t word;
    std::memcpy(&word, source + 4 * v, 4);
    word ^= flip;
    std::memcpy(lane + kVectorBytes * v, &word, 4);
  }
}

// One group of output `lane` (0..15 in its panel).
void PackGroup(DType dtype, const std::byte* source, int64_t lane, std::byte* group) {
  switch (dtype) {
    case DType::kQ4_0:
    case DType::kQ4_1: {
      std::byte* factors = group + 4 * kVectorBytes;
      std::memcpy(factors + 2 * lane, source, 2);
      const bool has_minimum = dtype == DType::kQ4_1;
      if (has_minimum) std::memcpy(factors + 32 + 2 * lane, source + 2, 2);
      ScatterWords(source + (has_minimum ? 4 : 2), 4, 0, group + 4 * lane);
      break;
    }
    case DType::kQ8_0:
      std::memcpy(group + 8 * kVectorBytes + 2 * lane, source, 2);
      ScatterWords(source + 2, 8, 0x80808080u, group + 4 * lane);
      break;
    case DType::kF32:
      std::memcpy(group + 4 * lane, source, 4);
      break;
    case DType::kF16:
    case DType::kBF16:
      std::memcpy(group + 2 * lane, source, 2);
      break;
  }
}

float LoadF16(const std::byte* source) {
  uint16_t bits;
  std::memcpy(&bits, source, 2);
  return F16ToF32(bits);
}

void DequantizeGroup(DType dtype, const std::byte* group, float* values) {
  const float d = LoadF16(group);
  if (dtype == DType::kQ8_0) {
    for (int64_t k = 0; k < 32; ++k) {
      values[k] = static_cast<float>(static_cast<int8_t>(group[2 + k])) * d;
    }
    return;
  }
  const std::byte* nibbles = group + (dtype == DType::kQ4_1 ? 4 : 2);
  const float m = dtype == DType::kQ4_1 ? LoadF16(group + 2) : 0.0f;
  for (int64_t k = 0; k < 32; ++k) {
    const auto byte = std::to_integer<int32_t>(nibbles[k % 16]);
    const int32_t q = k < 16 ? byte & 15 : byte >> 4;
    values[k] = dtype == DType::kQ4_1 ? std::fma(static_cast<float>(q), d, m)
                                      : static_cast<float>(q - 8) * d;
  }
}

}  // namespace

void PackRows(DType dtype, const std::byte* source, int64_t source_row_bytes, int64_t rows,
              int64_t col_begin, int64_t cols, int64_t output_begin, std::byte* packed) {
  const int64_t source_group_bytes = GroupBytes(dtype);
  const int64_t packed_group_bytes = PackedGroupBytes(dtype);
  const int64_t panel_bytes = PanelBytes(dtype, cols);
  const int64_t group_begin = col_begin / GroupSize(dtype);
  const int64_t group_count = cols / GroupSize(dtype);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t output = output_begin + row;
    const std::byte* from = source + row * source_row_bytes + group_begin * source_group_bytes;
    std::byte* to = packed + output / kPanelRows * panel_bytes;
    for (int64_t group = 0; group < group_count; ++group) {
      PackGroup(dtype, from + group * source_group_bytes, output % kPanelRows,
                to + group * packed_group_bytes);
    }
  }
}

void DequantizeRow(DType dtype, const std::byte* row, int64_t cols, float* values) {
  switch (dtype) {
    case DType::kF32:
      std::memcpy(values, row, static_cast<size_t>(cols) * 4);
      break;
    case DType::kF16:
      for (int64_t i = 0; i < cols; ++i) values[i] = LoadF16(row + 2 * i);
      break;
    case DType::kBF16:
      for (int64_t i = 0; i < cols; ++i) {
        uint16_t bits;
        std::memcpy(&bits, row + 2 * i, 2);
        values[i] = BF16ToF32(bits);
      }
      break;
    case DType::kQ8_0:
    case DType::kQ4_0:
    case DType::kQ4_1:
      for (int64_t group = 0; group < cols / GroupSize(dtype); ++group) {
        DequantizeGroup(dtype, row + group * GroupBytes(dtype), values + group * GroupSize(dtype));
      }
      break;
  }
}

}  // namespace shoal::cpu
