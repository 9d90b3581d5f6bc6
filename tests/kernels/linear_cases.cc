#include "tests/kernels/linear_cases.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/linear_variants.h"
#include "kernels/cpu/pack.h"
#include "kernels/format/half.h"

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

void FillGroup(DType dtype, Values values, std::mt19937& random, std::byte* group) {
  const int64_t size = GroupBytes(dtype);
  const int64_t factors = dtype == DType::kQ4_1 ? 2 : 1;
  // Every fourth group of an extreme tensor holds only the quants of largest magnitude.
  const bool largest = values == Values::kExtreme && random() % 4 == 0;
  for (int64_t i = 0; i < size; ++i) {
    const uint8_t extreme = dtype == DType::kQ8_0 ? 0x80 : 0xFF;
    group[i] = static_cast<std::byte>(largest ? extreme : random() & 0xFF);
  }
  for (int64_t i = 0; i < factors; ++i) {
    const uint16_t factor = RandomFactor(values, random);
    std::memcpy(group + 2 * i, &factor, 2);
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
  tensor.bytes.resize(static_cast<size_t>(rows * RowBytes(dtype, cols)));
  const auto step = static_cast<size_t>(GroupBytes(dtype));
  for (size_t at = 0; at < tensor.bytes.size(); at += step) {
    if (IsQuantized(dtype)) {
      FillGroup(dtype, values, random, tensor.bytes.data() + at);
    } else {
      FillElement(dtype, values, random, tensor.bytes.data() + at);
    }
  }
  return tensor;
}

double WeightAt(const FileTensor& tensor, int64_t row, int64_t col) {
  const int64_t in_group = col % GroupSize(tensor.dtype);
  const std::byte* group = tensor.bytes.data() + row * RowBytes(tensor.dtype, tensor.cols) +
                           col / GroupSize(tensor.dtype) * GroupBytes(tensor.dtype);
  const auto nibble = [&](int64_t header) {
    const auto byte = std::to_integer<int>(group[header + in_group % 16]);
    return in_group < 16 ? byte % 16 : byte / 16;
  };
  switch (tensor.dtype) {
    case DType::kF32:
      return LoadAs<float>(group);
    case DType::kF16:
      return F16ToF32(LoadAs<uint16_t>(group));
    case DType::kBF16:
      return BF16ToF32(LoadAs<uint16_t>(group));
    case DType::kQ8_0:
      return LoadAs<int8_t>(group + 2 + in_group) * double{F16ToF32(LoadAs<uint16_t>(group))};
    case DType::kQ4_0:
      return (nibble(2) - 8) * double{F16ToF32(LoadAs<uint16_t>(group))};
    case DType::kQ4_1:
      return nibble(4) * double{F16ToF32(LoadAs<uint16_t>(group))} +
             F16ToF32(LoadAs<uint16_t>(group + 2));
  }
  return 0;
}

PackedTensor::PackedTensor(const FileTensor& tensor, int64_t col_begin, int64_t cols)
    : lines_(static_cast<size_t>(PanelCount(tensor.rows) * PanelBytes(tensor.dtype, cols) / 64)) {
  auto* packed = reinterpret_cast<std::byte*>(lines_.data());
  PackRows(tensor.dtype, tensor.bytes.data(), RowBytes(tensor.dtype, tensor.cols), tensor.rows,
           col_begin, cols, 0, packed);
  matrix_ = {.dtype = tensor.dtype, .rows = tensor.rows, .cols = cols, .data = packed};
}

Activations::Activations(int64_t rows, int64_t cols, std::vector<float> values)
    : values_(std::move(values)) {
  rows_ = {.values = values_.data(), .rows = rows, .cols = cols};
  if (cols % 32 != 0) return;
  quants_.resize(static_cast<size_t>(rows * cols));
  scales_.resize(static_cast<size_t>(rows * cols / 32));
  sums_.resize(scales_.size());
  QuantizeRowScalar(values_.data(), rows * cols, quants_.data(), scales_.data(), sums_.data());
  rows_.quants = quants_.data();
  rows_.scales = scales_.data();
  rows_.sums = sums_.data();
}

Activations Activations::Columns(int64_t begin, int64_t cols) const {
  std::vector<float> part;
  for (int64_t row = 0; row < rows_.rows; ++row) {
    const auto from = values_.begin() + row * rows_.cols + begin;
    part.insert(part.end(), from, from + cols);
  }
  return {rows_.rows, cols, std::move(part)};
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

const LinearVariant& ScalarVariant() {
  static const LinearVariant variant = {
      .name = "scalar",
      .required_features = kBaseline,
      .linear = {LinearF32Scalar, LinearF16Scalar, LinearBF16Scalar, LinearQ8_0Scalar,
                 LinearQ4_0Scalar, LinearQ4_1Scalar},
      .leaf_linear = {LeafLinearF32Scalar, LeafLinearF16Scalar, LeafLinearBF16Scalar,
                      LeafLinearQ8_0Scalar, LeafLinearQ4_0Scalar, LeafLinearQ4_1Scalar},
      .quantize_row = QuantizeRowScalar};
  return variant;
}

const std::vector<LinearVariant>& VectorVariants() {
  static const std::vector<LinearVariant> variants = {
      {.name = "avx2",
       .required_features = kAvx2,
       .linear = {LinearF32Avx2, LinearF16Avx2, LinearBF16Avx2, LinearQ8_0Avx2, LinearQ4_0Avx2,
                  LinearQ4_1Avx2},
       .leaf_linear = {LeafLinearF32Avx2, LeafLinearF16Avx2, LeafLinearBF16Avx2, LeafLinearQ8_0Avx2,
                       LeafLinearQ4_0Avx2, LeafLinearQ4_1Avx2},
       .quantize_row = QuantizeRowAvx2},
      {.name = "avx512",
       .required_features = kAvx512Vnni,
       .linear = {LinearF32Avx512, LinearF16Avx512, LinearBF16Avx512, LinearQ8_0Avx512,
                  LinearQ4_0Avx512, LinearQ4_1Avx512},
       .leaf_linear = {LeafLinearF32Avx512, LeafLinearF16Avx512, LeafLinearBF16Avx512,
                       LeafLinearQ8_0Avx512, LeafLinearQ4_0Avx512, LeafLinearQ4_1Avx512},
       .quantize_row = QuantizeRowAvx512}};
  return variants;
}

uint32_t BitsOf(float value) {
  return std::isnan(value) ? 0x7FC00000U : std::bit_cast<uint32_t>(value);
}

std::vector<uint32_t> RunLinear(const LinearVariant& variant, const PackedMatrix& weights,
                                const ActivationRows& input) {
  std::vector<float> output(static_cast<size_t>(input.rows * weights.rows));
  variant.linear[static_cast<size_t>(weights.dtype)]({.weights = &weights,
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

LeafResult RunLeafLinear(const LinearVariant& variant, const PackedMatrix& weights,
                         const ActivationRows& input, int64_t leaf_cols, float limit) {
  LeafResult result;
  result.sums.resize(static_cast<size_t>(input.rows * weights.rows));
  result.invalid.resize(static_cast<size_t>(input.rows));
  variant.leaf_linear[static_cast<size_t>(weights.dtype)]({.weights = &weights,
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
