#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/format/half.h"
#include "kernels/format/pack.h"
#include "tests/kernels/cpu/linear_cases.h"

// The scalar variant, the packing and the quantiser against values computed from the file's bytes.

namespace shoal::cpu {
namespace {

constexpr DType kAllDTypes[] = {DType::kF32,     DType::kF16,     DType::kBF16, DType::kQ8_0,
                                DType::kQ4_0,    DType::kQ4_1,    DType::kQ5_0, DType::kQ5_1,
                                DType::kQ4_K,    DType::kQ5_K,    DType::kQ6_K, DType::kIQ4_NL,
                                DType::kQ4_G128, DType::kQ8_G128, DType::kINT8};

float FloatOf(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// What the kernels see of activation (row, col).
double InputAt(const ActivationRows& input, DType dtype, int64_t row, int64_t col) {
  const int64_t at = row * input.cols + col;
  const int64_t group = QuantizesWholeRows(dtype) ? input.cols : GroupSize(dtype);
  return IsQuantized(dtype) ? double{input.scales[at / group]} * input.quants[at]
                            : double{input.values[at]};
}

TEST(LinearScalar, AgreesWithDoublePrecisionOverTheFile) {
  std::mt19937 random(31);
  for (const DType dtype : kAllDTypes) {
    for (const int64_t k_count : {32, 256, 288, 1600}) {
      const int64_t cols = WholeGroups(dtype, k_count);
      const FileTensor tensor = RandomTensor(dtype, 21, cols, Values::kOrdinary, random);
      const PackedTensor weights(tensor);
      const Activations input(3, cols, RandomValues(3 * cols, Values::kOrdinary, random));
      const auto result = RunLinear(AllKernelTables().back(), weights.matrix(), input);
      for (int64_t at = 0; at < 3 * 21; ++at) {
        double expected = 0;
        double magnitude = 0;
        for (int64_t k = 0; k < cols; ++k) {
          const double product =
              WeightAt(tensor, at % 21, k) * InputAt(input.rows(dtype), dtype, at / 21, k);
          expected += product;
          magnitude += std::fabs(product);
        }
        // A term passes through at most 256 additions in its block, one for each block, and two
        // products that are rounded first; a minimum and its weights may cancel, at most 31 d to m,
        // which random groups keep within a factor of 64.
        const double roundings = 256 + static_cast<double>(cols) / 256 + 3;
        const double cancellation = FactorOffsetsOf(dtype).minimum >= 0 ? 64 : 1;
        EXPECT_NEAR(FloatOf(result[at]), expected, roundings * cancellation * magnitude * 0x1p-24)
            << ToString(dtype) << " K " << cols;
      }
    }
  }
}

// The K-quants' own scales and minimums: at most 3, so that sums stay below 2^24.
void KeepScalesSmall(DType dtype, std::byte* block) {
  if (dtype == DType::kQ4_K || dtype == DType::kQ5_K) {
    for (int64_t i = 4; i < 16; ++i) block[i] &= std::byte{3};
  }
  if (dtype == DType::kQ6_K) {
    for (int64_t i = 192; i < 208; ++i) {
      block[i] = (block[i] & std::byte{1}) == std::byte{0} ? std::byte{2} : std::byte{0xFF};
    }
  }
}

void SetRowScales(float scale, FileTensor& tensor) {
  for (int64_t row = 0; row < tensor.rows; ++row) {
    std::memcpy(tensor.bytes.data() + row * tensor.row_bytes(), &scale, sizeof(scale));
  }
}

// With factors of one and activations that quantise to themselves every product is an integer, and
// sums below 2^24 are exact: any wrong nibble, lane or offset shows.
TEST(LinearScalar, IsExactOverIntegers) {
  constexpr int64_t kCols = 384;
  constexpr uint16_t kOne = 0x3C00;
  std::mt19937 random(32);
  for (const DType dtype : kAllDTypes) {
    if (!IsQuantized(dtype)) continue;
    FileTensor tensor = RandomTensor(dtype, 35, kCols, Values::kOrdinary, random);
    if (dtype == DType::kINT8) SetRowScales(1.0f, tensor);
    const int64_t step = dtype == DType::kINT8 ? tensor.row_bytes() : BlockBytes(dtype);
    for (size_t at = 0; at < tensor.bytes.size(); at += step) {
      std::byte* block = &tensor.bytes[at];
      for (const int64_t offset : {FactorOffsetsOf(dtype).scale, FactorOffsetsOf(dtype).minimum}) {
        if (offset >= 0) std::memcpy(block + offset, &kOne, 2);
      }
      KeepScalesSmall(dtype, block);
    }
    std::vector<float> values(kCols);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = i % 16 == 5 ? 127.0f : static_cast<float>(random() % 255) - 127.0f;
    }
    const Activations input(1, kCols, values);
    const PackedTensor weights(tensor);
    const auto result = RunLinear(AllKernelTables().back(), weights.matrix(), input);
    const auto leaves = RunLeafLinear(AllKernelTables().back(), weights.matrix(), input,
                                      WholeGroups(dtype, 64), 0x1p29f);
    for (int64_t output = 0; output < 35; ++output) {
      double expected = 0;
      for (int64_t k = 0; k < kCols; ++k) expected += WeightAt(tensor, output, k) * values[k];
      EXPECT_EQ(FloatOf(result[output]), expected) << ToString(dtype);
      const int shift = QuantizesWholeRows(dtype) ? 0 : 32;
      EXPECT_EQ(leaves.sums[output], static_cast<int64_t>(expected) << shift) << ToString(dtype);
    }
  }
}

TEST(LeafLinear, SumsToTheSameIntegersWhereverKIsCut) {
  constexpr int64_t kCols = 640;
  std::mt19937 random(33);
  for (const DType dtype : kAllDTypes) {
    const int64_t leaf = WholeGroups(dtype, 64);
    const FileTensor tensor = RandomTensor(dtype, 40, kCols, Values::kOrdinary, random);
    const Activations input(2, kCols, RandomValues(2 * kCols, Values::kOrdinary, random));
    const PackedTensor whole(tensor);
    const auto expected =
        RunLeafLinear(AllKernelTables().back(), whole.matrix(), input, leaf, 1e6f);
    for (const int64_t cut : {64, 256, 320, 512, 576}) {
      if (cut % leaf != 0) continue;
      const PackedTensor left(tensor, 0, cut);
      const PackedTensor right(tensor, cut, kCols - cut);
      const Activations left_input = input.Columns(0, cut);
      const Activations right_input = input.Columns(cut, kCols - cut);
      auto sum = RunLeafLinear(AllKernelTables().back(), left.matrix(), left_input, leaf, 1e6f);
      const auto rest =
          RunLeafLinear(AllKernelTables().back(), right.matrix(), right_input, leaf, 1e6f);
      for (size_t i = 0; i < sum.sums.size(); ++i) sum.sums[i] += rest.sums[i];
      EXPECT_EQ(sum.sums, expected.sums) << ToString(dtype) << " cut at " << cut;
    }
  }
}

TEST(LeafLinear, CountsLeavesAtTheLimitAndAddsNothingForThem) {
  // Leaves of 8, 16 and -8: weights of one, activations of 1, 2 and -1 over 8 columns each.
  FileTensor tensor{.dtype = DType::kF32, .rows = 1, .cols = 24, .bytes = {}};
  const std::vector<float> ones(24, 1.0f);
  tensor.bytes.resize(24 * 4);
  std::memcpy(tensor.bytes.data(), ones.data(), tensor.bytes.size());
  std::vector<float> values(24, 1.0f);
  for (size_t i = 8; i < 24; ++i) values[i] = i < 16 ? 2.0f : -1.0f;
  const Activations input(1, 24, values);
  const PackedTensor weights(tensor);
  const auto all = RunLeafLinear(AllKernelTables().back(), weights.matrix(), input, 8, 16.5f);
  EXPECT_EQ(all.sums[0], int64_t{16} << 32);
  EXPECT_EQ(all.invalid[0], 0);
  const auto without = RunLeafLinear(AllKernelTables().back(), weights.matrix(), input, 8, 16.0f);
  EXPECT_EQ(without.sums[0], 0);
  EXPECT_EQ(without.invalid[0], 1);
}

TEST(QuantizeRow, StaysWithinHalfAStep) {
  std::mt19937 random(34);
  const std::vector<float> x = RandomValues(1024, Values::kOrdinary, random);
  const Activations input(1, 1024, x);
  for (size_t i = 0; i < x.size(); ++i) {
    const double scale = input.rows().scales[i / 32];
    // Half a step, and the roundings of the inverse, the product and the scale (127 steps at most).
    EXPECT_NEAR(scale * input.rows().quants[i], x[i], scale * (0.5 + 127 * 3 * 0x1p-24));
  }
  for (size_t group = 0; group < x.size() / 32; ++group) {
    int32_t sum = 0;
    for (size_t i = 0; i < 32; ++i) sum += input.rows().quants[group * 32 + i];
    EXPECT_EQ(input.rows().sums[group], sum);
  }
}

TEST(QuantizeRow, RoundsTiesToEven) {
  std::vector<float> x(32, 0.5f);
  x[0] = 127.0f;
  x[1] = 1.5f;
  x[2] = -2.5f;
  x[3] = -127.0f;
  const Activations input(1, 32, x);
  EXPECT_EQ(input.rows().scales[0], 1.0f);
  const std::vector<int8_t> expected = {127, 2, -2, -127, 0};
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), input.rows().quants));
}

TEST(QuantizeRow, MarksGroupsItCannotScale) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> x(160, 1.0f);
  x[3] = std::numeric_limits<float>::quiet_NaN();
  x[40] = -kInfinity;
  for (size_t i = 64; i < 128; ++i) x[i] = i < 96 ? 0x0.fp-100f : 0x1p-100f;
  const Activations input(1, 160, x);
  EXPECT_TRUE(std::isnan(input.rows().scales[0]));
  EXPECT_TRUE(std::isnan(input.rows().scales[1]));
  EXPECT_EQ(input.rows().scales[2], 0.0f);
  EXPECT_EQ(input.rows().scales[3], 0x1p-100f / 127.0f);
  EXPECT_EQ(input.rows().scales[4], 1.0f / 127.0f);
  for (size_t i = 0; i < 96; ++i) EXPECT_EQ(input.rows().quants[i], 0);
  for (size_t i = 96; i < 160; ++i) EXPECT_EQ(input.rows().quants[i], 127);
}

TEST(DequantizeRow, WidensWhatTheFileHolds) {
  std::mt19937 random(35);
  for (const DType dtype : kAllDTypes) {
    const FileTensor tensor = RandomTensor(dtype, 1, 96, Values::kExtreme, random);
    std::vector<float> values(96);
    DequantizeRow(dtype, tensor.bytes.data(), 96, values.data());
    // The double is exact (15 * 2^16 and 2^-24 lie within 53 bits), so its rounding is the fma's.
    for (int64_t i = 0; i < 96; ++i) {
      EXPECT_EQ(values[i], static_cast<float>(WeightAt(tensor, 0, i))) << ToString(dtype);
    }
  }
}

TEST(PackRows, PacksPanelsOneByOne) {
  std::mt19937 random(36);
  for (const DType dtype : kAllDTypes) {
    const int64_t cols = WholeGroups(dtype, 96);
    const FileTensor tensor = RandomTensor(dtype, 40, cols, Values::kOrdinary, random);
    const PackedTensor whole(tensor);
    const int64_t panel_bytes = PanelBytes(dtype, cols);
    std::vector<std::byte> packed(static_cast<size_t>(3 * panel_bytes));
    for (int64_t begin = 32; begin >= 0; begin -= 16) {
      PackRows(dtype, tensor.bytes.data() + begin * tensor.row_bytes(), tensor.row_bytes(),
               std::min<int64_t>(16, 40 - begin), 0, cols, begin, packed.data());
    }
    EXPECT_EQ(std::memcmp(packed.data(), whole.matrix().data, packed.size()), 0) << ToString(dtype);
  }
}

}  // namespace
}  // namespace shoal::cpu
