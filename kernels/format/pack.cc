#include "kernels/format/pack.h"

#include <cmath>
#include <cstring>

#include "kernels/format/half.h"

// A panel's group takes the file's bits in another order; no value is rounded or rescaled.

namespace shoal {
namespace {

constexpr int64_t kVectorBytes = 64;
constexpr int64_t kUnitMax = 32;

float LoadF16(const std::byte* source) {
  uint16_t bits;
  std::memcpy(&bits, source, 2);
  return F16ToF32(bits);
}

unsigned Bits(std::byte byte) { return std::to_integer<unsigned>(byte); }

// Sixteen bytes of nibbles, low ones first.
void UnpackNibbles(const std::byte* from, uint8_t* quants) {
  for (int64_t i = 0; i < 16; ++i) {
    quants[i] = static_cast<uint8_t>(Bits(from[i]) & 15u);
    quants[16 + i] = static_cast<uint8_t>(Bits(from[i]) >> 4);
  }
}

void AddFifthBits(const std::byte* from, uint8_t* quants) {
  uint32_t bits;
  std::memcpy(&bits, from, 4);
  for (int64_t i = 0; i < 32; ++i) quants[i] |= static_cast<uint8_t>((bits >> i & 1u) << 4);
}

// 32 nibbles of one half or the other of 32 bytes.
void UnpackHalfBytes(const std::byte* from, bool high, uint8_t* quants) {
  for (int64_t i = 0; i < 32; ++i) {
    quants[i] = static_cast<uint8_t>(high ? Bits(from[i]) >> 4 : Bits(from[i]) & 15u);
  }
}

// Weights that are unpacked, packed and widened at a time: a group, or 32 of a longer one.
constexpr int64_t UnitWeights(DType dtype) {
  return GroupSize(dtype) < kUnitMax ? GroupSize(dtype) : kUnitMax;
}

// Signed bytes, plus 128: their top bit flipped.
void UnpackBytes(const std::byte* from, uint8_t* quants) {
  for (int64_t i = 0; i < 32; ++i) quants[i] = static_cast<uint8_t>(Bits(from[i]) ^ 0x80u);
}

// The unsigned bits of the weights of unit `unit` of a block, as the format's formula has them
// before an offset is subtracted (8 bits: plus 128).
void UnpackQuants(DType dtype, const std::byte* block, int64_t unit, uint8_t* quants) {
  switch (dtype) {
    case DType::kQ4_0:
    case DType::kIQ4_NL:
      return UnpackNibbles(block + 2, quants);
    case DType::kQ4_1:
      return UnpackNibbles(block + 4, quants);
    case DType::kQ5_0:
      UnpackNibbles(block + 6, quants);
      return AddFifthBits(block + 2, quants);
    case DType::kQ5_1:
      UnpackNibbles(block + 8, quants);
      return AddFifthBits(block + 4, quants);
    case DType::kQ4_G128:
      return UnpackNibbles(block + 2 + 16 * unit, quants);
    case DType::kQ8_0:
    case DType::kQ8_G128:
      return UnpackBytes(block + 2 + 32 * unit, quants);
    case DType::kINT8:
      return UnpackBytes(block, quants);
    case DType::kQ4_K:
      return UnpackHalfBytes(block + 16 + unit / 2 * 32, unit % 2 != 0, quants);
    case DType::kQ5_K:
      UnpackHalfBytes(block + 48 + unit / 2 * 32, unit % 2 != 0, quants);
      for (int64_t i = 0; i < 32; ++i) {
        quants[i] |= static_cast<uint8_t>((Bits(block[16 + i]) >> unit & 1u) << 4);
      }
      return;
    case DType::kQ6_K:
      for (int64_t i = 0; i < 16; ++i) {
        quants[i] = static_cast<uint8_t>(Q6KQuant(block, 16 * unit + i));
      }
      return;
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      return;
  }
}

// Scatters output `lane`'s quants over the unit's vectors, four at a time.
void PackQuants(int64_t bits, int64_t count, const uint8_t* quants, int64_t lane, std::byte* unit) {
  uint32_t words[kUnitMax / 4];
  std::memcpy(words, quants, static_cast<size_t>(count));
  const int64_t word_count = count / 4;
  const auto store = [&](int64_t vector, uint32_t word) {
    std::memcpy(unit + kVectorBytes * vector + 4 * lane, &word, 4);
  };
  if (bits == 8) {
    for (int64_t i = 0; i < word_count; ++i) store(i, words[i]);
    return;
  }
  constexpr uint32_t kNibbles = 0x0F0F0F0Fu;
  const int64_t half = word_count / 2;
  for (int64_t i = 0; i < half; ++i) {
    store(i, (words[i] & kNibbles) | (words[half + i] & kNibbles) << 4);
  }
  if (bits == 4) return;
  uint32_t plane = 0;
  for (int64_t i = 0; i < word_count; ++i) plane |= (words[i] >> 4 & kNibbles) << ((bits - 4) * i);
  store(half, plane);
}

// Where an output's factors go: 16 of a kind beside each other.
void PackFactor(const std::byte* source, int64_t bytes, int64_t lane, std::byte* factors) {
  std::memcpy(factors + bytes * lane, source, static_cast<size_t>(bytes));
}

// The factors of group `group` of a block.
void PackGroupFactors(DType dtype, const std::byte* block, int64_t group, int64_t lane,
                      std::byte* factors) {
  switch (dtype) {
    case DType::kQ4_K:
    case DType::kQ5_K: {
      const ScaleMin pair = KScaleMin(block + 4, group);
      factors[lane] = std::byte{pair.scale};
      factors[kPanelRows + lane] = std::byte{pair.minimum};
      return;
    }
    case DType::kQ6_K:
      factors[lane] = block[192 + group];
      return;
    default:
      PackFactor(block, 2, lane, factors);
      if (FactorOffsetsOf(dtype).minimum >= 0) {
        PackFactor(block + 2, 2, lane, factors + 2 * kPanelRows);
      }
  }
}

void PackBlockFactors(DType dtype, const std::byte* block, int64_t lane, std::byte* factors) {
  const FactorOffsets offsets = FactorOffsetsOf(dtype);
  PackFactor(block + offsets.scale, 2, lane, factors);
  if (offsets.minimum >= 0) PackFactor(block + offsets.minimum, 2, lane, factors + 2 * kPanelRows);
}

// `cols` float weights of output `lane`.
template <int64_t kBytes>
void PackFloats(const std::byte* source, int64_t cols, int64_t lane, std::byte* panel) {
  for (int64_t k = 0; k < cols; ++k) {
    std::memcpy(panel + kBytes * (kPanelRows * k + lane), source + kBytes * k, kBytes);
  }
}

// Columns [col_begin, col_begin + cols) of a quantised row of the file.
void PackQuantizedRow(DType dtype, const std::byte* row, int64_t col_begin, int64_t cols,
                      int64_t lane, std::byte* panel) {
  const PackedFacts& facts = PackedFactsOf(dtype);
  const int64_t unit_weights = UnitWeights(dtype);
  const int64_t unit_bytes = kPanelRows * unit_weights * facts.bits / 8;
  const int64_t block_weights = BlockWeights(dtype);
  const int64_t first_block = col_begin / block_weights;
  const int64_t factor_bytes = kPanelRows * facts.block_factors;
  const int64_t row_factor_bytes = FactsOf(dtype).row_factor_bytes;
  if (row_factor_bytes != 0) PackFactor(row, row_factor_bytes, lane, panel);
  std::byte* packed = panel + PackedTableBytes(dtype, cols);
  for (int64_t col = col_begin; col < col_begin + cols; col += unit_weights) {
    const int64_t block_index = col / block_weights;
    const int64_t unit = col % block_weights / unit_weights;
    const std::byte* block = row + row_factor_bytes + block_index * BlockBytes(dtype);
    uint8_t quants[kUnitMax];
    UnpackQuants(dtype, block, unit, quants);
    PackQuants(facts.bits, unit_weights, quants, lane, packed);
    packed += unit_bytes;
    const bool ends_group = (col + unit_weights) % GroupSize(dtype) == 0;
    if (facts.group_factors != 0 && ends_group) {
      PackGroupFactors(dtype, block, unit, lane, packed);
      packed += kPanelRows * facts.group_factors;
    }
    if (block_weights > GroupSize(dtype) && (unit == 0 || col == col_begin)) {
      PackBlockFactors(dtype, block, lane, panel + (block_index - first_block) * factor_bytes);
    }
  }
}

// What a group's weights are multiplied by, and what is added.
struct Factors {
  float scale;
  float minimum;
};

Factors FactorsOf(DType dtype, const std::byte* row, const std::byte* block, int64_t group) {
  if (FactsOf(dtype).row_factor_bytes != 0) {
    float d;
    std::memcpy(&d, row, 4);
    return {d, 0.0f};
  }
  const FactorOffsets offsets = FactorOffsetsOf(dtype);
  const float d = LoadF16(block + offsets.scale);
  const float m = offsets.minimum < 0 ? 0.0f : LoadF16(block + offsets.minimum);
  switch (dtype) {
    case DType::kQ4_K:
    case DType::kQ5_K: {
      const ScaleMin pair = KScaleMin(block + 4, group);
      return {d * static_cast<float>(pair.scale), -(m * static_cast<float>(pair.minimum))};
    }
    case DType::kQ6_K:
      return {d * static_cast<float>(static_cast<int8_t>(block[192 + group])), 0.0f};
    default:
      return {d, m};
  }
}

// Unit `unit` of a row.
void DequantizeUnit(DType dtype, const std::byte* row, int64_t unit, float* values) {
  const int64_t block_units = BlockWeights(dtype) / UnitWeights(dtype);
  const std::byte* block =
      row + FactsOf(dtype).row_factor_bytes + unit / block_units * BlockBytes(dtype);
  uint8_t quants[kUnitMax];
  UnpackQuants(dtype, block, unit % block_units, quants);
  const Factors factors = FactorsOf(dtype, row, block, unit % block_units);
  const bool has_minimum = FactorOffsetsOf(dtype).minimum >= 0;
  for (int64_t k = 0; k < UnitWeights(dtype); ++k) {
    const int32_t q =
        dtype == DType::kIQ4_NL ? kIq4NlValues[quants[k]] : int32_t{quants[k]} - QuantOffset(dtype);
    values[k] = has_minimum ? std::fma(static_cast<float>(q), factors.scale, factors.minimum)
                            : static_cast<float>(q) * factors.scale;
  }
}

}  // namespace

void PackRows(DType dtype, const std::byte* source, int64_t source_row_bytes, int64_t rows,
              int64_t col_begin, int64_t cols, int64_t output_begin, std::byte* packed) {
  const int64_t panel_bytes = PanelBytes(dtype, cols);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t output = output_begin + row;
    const std::byte* from = source + row * source_row_bytes;
    std::byte* panel = packed + output / kPanelRows * panel_bytes;
    const int64_t lane = output % kPanelRows;
    if (IsQuantized(dtype)) {
      PackQuantizedRow(dtype, from, col_begin, cols, lane, panel);
    } else if (dtype == DType::kF32) {
      PackFloats<4>(from + 4 * col_begin, cols, lane, panel);
    } else {
      PackFloats<2>(from + 2 * col_begin, cols, lane, panel);
    }
  }
}

void DequantizeRow(DType dtype, const std::byte* row, int64_t cols, float* values) {
  switch (dtype) {
    case DType::kF32:
      std::memcpy(values, row, static_cast<size_t>(cols) * 4);
      return;
    case DType::kF16:
      for (int64_t i = 0; i < cols; ++i) values[i] = LoadF16(row + 2 * i);
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < cols; ++i) {
        uint16_t bits;
        std::memcpy(&bits, row + 2 * i, 2);
        values[i] = BF16ToF32(bits);
      }
      return;
    default:
      break;
  }
  const int64_t unit_weights = UnitWeights(dtype);
  for (int64_t unit = 0; unit < cols / unit_weights; ++unit) {
    DequantizeUnit(dtype, row, unit, values + unit * unit_weights);
  }
}

}  // namespace shoal
