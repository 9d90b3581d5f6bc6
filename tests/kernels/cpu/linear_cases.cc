#include "tests/kernels/cpu/linear_cases.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/format/half.h"
#include "kernels/format/pack.h"

// Makes the inputs that linear layers are tested with and runs one variant over them.

namespace shoal::cpu {
namespace {

// A finite f16 factor of a group.
uint16_t RandomFactor(Values values, std::mt19937& random) {
  const auto bits = static_cast<uint16_t>(random());
  const auto ordinary = static_cast<uint16_t>((bits & 0x83FFU) | 0x2C00U);  // +-2^-4 .. 2^-3.
  if (values == Values::kOrdinary) return ordinary;
  switch (random() % 6) {
    case 0:
      return 0;
    case 1:
      return 0x8000U;  // -0
    case 2:
      return bits & 0x83FFU;  // Subnormal.
    case 3:
      return (bits & 0x8000U) | 0x7BFFU;  // +-65504
    default:
      return ordinary;
  }
}

void FillBlock(DType dtype, Values values, std::mt19937& random, std::byte* block) {
  const int64_t size = BlockBytes(dtype);
  // Every fourth block of an extreme tensor holds only the quants of largest magnitude.
  const bool largest = values == Values::kExtreme && random() % 4 == 0;
  for (int64_t i = 0; i < size; ++i) {
    const bool bytes = PackedFactsOf(dtype).bits == 8;
    const uint8_t extreme = bytes ? 0x80 : dtype == DType::kIQ4_NL ? 0x00 : 0xFF;
    block[i] = static_cast<std::byte>(largest ? extreme : random() & 0xFF);
  }
  const FactorOffsets offsets = FactorOffsetsOf(dtype);
  for (const int64_t offset : {offsets.scale, offsets.minimum}) {
    if (offset < 0) continue;
    const uint16_t factor = RandomFactor(values, random);
    std::memcpy(block + offset, &factor, 2);
  }
}

void FillElement(DType dtype, Values values, std::mt19937& random, std::byte* element) {
  const float value = RandomValues(1, Values::kOrdinary, random)[0];
  const uint16_t half = values == Values::kExtreme ? RandomFactor(values, random) : F32ToF16(value);
  const uint16_t brain = F32ToBF16(value);
  if (dtype == DType::kF32) std::memcpy(element, &value, 4);
  if (dtype == DType::kF16) std::memcpy(element, &half, 2);
  if (dtype == DType::kBF16) std::memcpy(element, &brain, 2);
}

template <typename T>
T LoadAs(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

}  // namespace

FileTensor RandomTensor(DType dtype, int64_t rows, int64_t cols, Values values,
                        std::mt19937& random) {
  FileTensor tensor{.dtype = dtype, .rows = rows, .cols = cols, .bytes = {}};
  tensor.bytes.resize(static_cast<size_t>(rows * tensor.row_bytes()));
  const int64_t row_factor_bytes = FactsOf(dtype).row_factor_bytes;
  for (int64_t row = 0; row < rows; ++row) {
    std::byte* bytes = tensor.bytes.data() + row * tensor.row_bytes();
    if (row_factor_bytes != 0) {
      const float factor = F16ToF32(RandomFactor(values, random));
      std::memcpy(bytes, &factor, sizeof(factor));
    }
    for (int64_t at = row_factor_bytes; at < tensor.row_bytes(); at += BlockBytes(dtype)) {
      if (IsQuantized(dtype)) {
        FillBlock(dtype, values, random, bytes + at);
      } else {
        FillElement(dtype, values, random, bytes + at);
      }
    }
  }
  return tensor;
}

double WeightAt(const FileTensor& tensor, int64_t row, int64_t col) {
  const int64_t i = col % BlockWeights(tensor.dtype);
  const std::byte* whole_row = tensor.bytes.data() + row * tensor.row_bytes();
  const std::byte* block = whole_row + FactsOf(tensor.dtype).row_factor_bytes +
                           col / BlockWeights(tensor.dtype) * BlockBytes(tensor.dtype);
  const auto byte = [&](int64_t at) { return std::to_integer<int>(block[at]); };
  const auto half = [&](int64_t at) { return double{F16ToF32(LoadAs<uint16_t>(block + at))}; };
  const auto nibble = [&](int64_t header) {
    return i < 16 ? byte(header + i) % 16 : byte(header + i - 16) / 16;
  };
  const auto fifth = [&](int64_t at) { return (byte(at + i / 8) >> (i % 8) & 1) * 16; };
  // K-quants: groups of 32; two of them share 32 bytes of nibbles.
  const auto k_nibble = [&](int64_t header) {
    const int both = byte(header + i / 64 * 32 + i % 32);
    return i % 64 < 32 ? both % 16 : both / 16;
  };
  const auto k_weight = [&](int q) {
    const ScaleMin pair = KScaleMin(block + 4, i / 32);
    return half(0) * pair.scale * q - half(2) * pair.minimum;
  };
  switch (tensor.dtype) {
    case DType::kF32:
      return LoadAs<float>(block);
    case DType::kF16:
      return half(0);
    case DType::kBF16:
      return BF16ToF32(LoadAs<uint16_t>(block));
    case DType::kQ8_0:
      return LoadAs<int8_t>(block + 2 + i) * half(0);
    case DType::kQ4_0:
      return (nibble(2) - 8) * half(0);
    case DType::kQ4_1:
      return nibble(4) * half(0) + half(2);
    case DType::kQ5_0:
      return (nibble(6) + fifth(2) - 16) * half(0);
    case DType::kQ5_1:
      return (nibble(8) + fifth(4)) * half(0) + half(2);
    case DType::kIQ4_NL:
      return kIq4NlValues[nibble(2)] * half(0);
    case DType::kQ4_K:
      return k_weight(k_nibble(16));
    case DType::kQ5_K:
      return k_weight(k_nibble(48) + (byte(16 + i % 32) >> (i / 32) & 1) * 16);
    case DType::kQ4_G128: {
      const int both = byte(2 + i / 32 * 16 + i % 16);
      return ((i % 32 < 16 ? both % 16 : both / 16) - 8) * half(0);
    }
    case DType::kQ8_G128:
      return LoadAs<int8_t>(block + 2 + i) * half(0);
    case DType::kINT8:
      return LoadAs<int8_t>(block + i) * double{LoadAs<float>(whole_row)};
    case DType::kQ6_K:
      return half(208) * LoadAs<int8_t>(block + 192 + i / 16) *
             (static_cast<int>(Q6KQuant(block, i)) - 32);
  }
  return 0;
}

PackedTensor::PackedTensor(const FileTensor& tensor, int64_t col_begin, int64_t cols)
    : lines_(static_cast<size_t>(PanelCount(tensor.rows) * PanelBytes(tensor.dtype, cols) / 64)) {
  auto* packed = reinterpret_cast<std::byte*>(lines_.data());
  PackRows(tensor.dtype, tensor.bytes.data(), tensor.row_bytes(), tensor.rows, col_begin, cols, 0,
           packed);
  matrix_ = {.dtype = tensor.dtype,
             .rows = tensor.rows,
             .cols = cols,
             .data = packed,
             .block_offset = col_begin % BlockWeights(tensor.dtype)};
}

Activations::Activations(int64_t rows, int64_t cols, std::vector<float> values)
    : row_count_(rows), cols_(cols), values_(std::move(values)) {
  for (int64_t row = 0; row < rows; ++row) {
    largest_bits_.push_back(
        AllKernelTables().back().quantize.largest_bits(values_.data() + row * cols, cols));
  }
}

const ActivationRows& Activations::rows(DType dtype) const {
  const int64_t group = QuantizesWholeRows(dtype) ? cols_ : GroupSize(dtype);
  Quantized& to = by_group_[QuantizesWholeRows(dtype) ? 0 : group];
  if (to.rows.values != nullptr) return to.rows;
  to.rows = {.values = values_.data(), .rows = row_count_, .cols = cols_};
  if (group == 1) return to.rows;
  const int64_t groups = (cols_ + group - 1) / group;
  to.quants.resize(values_.size());
  to.scales.resize(static_cast<size_t>(row_count_ * groups));
  to.sums.resize(to.scales.size());
  for (int64_t row = 0; row < row_count_; ++row) {
    const float* values = values_.data() + row * cols_;
    int8_t* quants = to.quants.data() + row * cols_;
    float* scales = to.scales.data() + row * groups;
    int32_t* sums = to.sums.data() + row * groups;
    if (QuantizesWholeRows(dtype)) {
      AllKernelTables().back().quantize.group(values, cols_, largest_bits_[row], quants, scales,
                                              sums);
    } else {
      AllKernelTables().back().quantize.groups(values, cols_, group, quants, scales, sums);
    }
  }
  to.rows.quants = to.quants.data();
  to.rows.scales = to.scales.data();
  to.rows.sums = to.sums.data();
  return to.rows;
}

Activations Activations::Columns(int64_t begin, int64_t cols) const {
  std::vector<float> part;
  for (int64_t row = 0; row < row_count_; ++row) {
    const auto from = values_.begin() + row * cols_ + begin;
    part.insert(part.end(), from, from + cols);
  }
  Activations result(row_count_, cols, std::move(part));
  result.largest_bits_ = largest_bits_;
  return result;
}

int64_t WholeGroups(DType dtype, int64_t cols) {
  const int64_t group = GroupSize(dtype);
  return (cols + group - 1) / group * group;
}

std::vector<float> RandomValues(int64_t count, Values values, std::mt19937& random) {
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  constexpr std::array<float, 6> kFactors = {0.0f, 1e-38f, 1e-31f, 1e-3f, 1.0f, 1e6f};
  std::vector<float> result(static_cast<size_t>(count));
  float factor = 1.0f;
  for (size_t i = 0; i < result.size(); ++i) {
    if (values == Values::kExtreme && i % 32 == 0) {
      // Overflow and NaNs are rare, so that some rows stay finite.
      factor = random() % 64 == 0 ? 3e38f : kFactors[random() % kFactors.size()];
    }
    result[i] = uniform(random) * factor;
    if (values == Values::kExtreme && random() % 1999 == 0) {
      result[i] = random() % 2 == 0 ? std::numeric_limits<float>::quiet_NaN()
                                    : -std::numeric_limits<float>::infinity();
    }
  }
  return result;
}

uint32_t BitsOf(float value) {
  return std::isnan(value) ? 0x7FC00000U : std::bit_cast<uint32_t>(value);
}

std::vector<uint32_t> RunLinear(const KernelTable& variant, const PackedMatrix& weights,
                                const Activations& activations) {
  const ActivationRows& input = activations.rows(weights.dtype);
  std::vector<float> output(static_cast<size_t>(input.rows * weights.rows));
  variant.linear.whole[static_cast<size_t>(weights.dtype)]({.weights = &weights,
                                                            .input = &input,
                                                            .row_begin = 0,
                                                            .row_end = input.rows,
                                                            .panel_begin = 0,
                                                            .panel_end = PanelCount(weights.rows),
                                                            .output = output.data(),
                                                            .output_stride = weights.rows});
  std::vector<uint32_t> bits;
  bits.reserve(output.size());
  for (const float value : output) bits.push_back(BitsOf(value));
  return bits;
}

LeafResult RunLeafLinear(const KernelTable& variant, const PackedMatrix& weights,
                         const Activations& activations, int64_t leaf_cols, float limit) {
  const ActivationRows& input = activations.rows(weights.dtype);
  LeafResult result;
  result.sums.resize(static_cast<size_t>(input.rows * weights.rows));
  result.invalid.resize(static_cast<size_t>(input.rows));
  variant.linear.leaves[static_cast<size_t>(weights.dtype)]({.weights = &weights,
                                                             .input = &input,
                                                             .row_begin = 0,
                                                             .row_end = input.rows,
                                                             .panel_begin = 0,
                                                             .panel_end = PanelCount(weights.rows),
                                                             .leaf_cols = leaf_cols,
                                                             .limit = limit,
                                                             .output = result.sums.data(),
                                                             .output_stride = weights.rows,
                                                             .invalid = result.invalid.data()});
  return result;
}

}  // namespace shoal::cpu
