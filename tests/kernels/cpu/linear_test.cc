#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "tests/kernels/cpu/every_variant.h"
#include "tests/kernels/cpu/linear_cases.h"

// Every vector variant's linear layers and quantisers against the scalar ones, bit by bit.

namespace shoal::cpu {

namespace {

constexpr DType kAllDTypes[] = {DType::kF32,     DType::kF16,     DType::kBF16, DType::kQ8_0,
                                DType::kQ4_0,    DType::kQ4_1,    DType::kQ5_0, DType::kQ5_1,
                                DType::kQ4_K,    DType::kQ5_K,    DType::kQ6_K, DType::kIQ4_NL,
                                DType::kQ4_G128, DType::kQ8_G128, DType::kINT8};

class LinearVariants : public EveryVariant {
 protected:
  void ExpectScalarQuants(const std::vector<float>& x) {
    const size_t groups = x.size() / 32;
    std::vector<int8_t> quants[2];
    std::vector<float> scales[2];
    std::vector<int32_t> sums[2];
    for (int i = 0; i < 2; ++i) {
      quants[i].assign(x.size(), 99);
      scales[i].assign(groups, 99.0f);
      sums[i].assign(groups, 99);
      const KernelTable& table = i == 0 ? scalar() : GetParam();
      table.quantize.row(x.data(), static_cast<int64_t>(x.size()), quants[i].data(),
                         scales[i].data(), sums[i].data());
    }
    EXPECT_EQ(quants[0], quants[1]);
    EXPECT_EQ(sums[0], sums[1]);
    EXPECT_TRUE(std::ranges::equal(scales[0], scales[1], {}, BitsOf, BitsOf));
  }

  void ExpectScalarBits(DType dtype, int64_t outputs, int64_t k, int64_t rows, Values values) {
    const int64_t cols = WholeGroups(dtype, k);
    SCOPED_TRACE(testing::Message() << ToString(dtype) << " " << outputs << " outputs, K " << cols
                                    << ", " << rows << " rows");
    const PackedTensor weights(RandomTensor(dtype, outputs, cols, values, random_));
    const Activations input(rows, cols, RandomValues(rows * cols, values, random_));
    EXPECT_TRUE(RunLinear(GetParam(), weights.matrix(), input) ==
                RunLinear(scalar(), weights.matrix(), input));
  }

  void ExpectScalarLeaves(DType dtype, int64_t k, int64_t leaf_k, float limit, Values values,
                          int64_t outputs = 37) {
    const int64_t cols = WholeGroups(dtype, k);
    const int64_t leaf = WholeGroups(dtype, leaf_k);
    const int64_t rows = std::array{5, 11, 21}[random_() % 3];
    SCOPED_TRACE(testing::Message()
                 << ToString(dtype) << " " << outputs << " outputs, K " << cols << ", leaf " << leaf
                 << ", limit " << limit << ", " << rows << " rows");
    const PackedTensor weights(RandomTensor(dtype, outputs, cols, values, random_));
    const Activations input(rows, cols, RandomValues(rows * cols, values, random_));
    EXPECT_TRUE(RunLeafLinear(GetParam(), weights.matrix(), input, leaf, limit) ==
                RunLeafLinear(scalar(), weights.matrix(), input, leaf, limit));
  }

  std::mt19937 random_{20};
};

TEST_P(LinearVariants, GiveTheScalarBitsForEveryRowCount) {
  for (const DType dtype : kAllDTypes) {
    for (int64_t rows = 1; rows <= 17; ++rows) {
      ExpectScalarBits(dtype, 37, 288, rows, Values::kOrdinary);
    }
    ExpectScalarBits(dtype, 16, 64, 50, Values::kOrdinary);
  }
}

TEST_P(LinearVariants, GiveTheScalarBitsForEveryShape) {
  for (const DType dtype : kAllDTypes) {
    for (const int64_t cols : {32, 64, 224, 256, 288, 512, 576, 1600}) {
      for (const int64_t outputs : {1, 16, 17, 64, 79, 150}) {
        ExpectScalarBits(dtype, outputs, cols, 1, Values::kOrdinary);
        ExpectScalarBits(dtype, outputs, cols, 3, Values::kOrdinary);
      }
    }
    if (IsQuantized(dtype)) continue;
    for (const int64_t cols : {1, 72, 255, 257, 600}) {
      ExpectScalarBits(dtype, 33, cols, 7, Values::kOrdinary);
    }
  }
}

// More panels than a tile has, an odd number of them, and more k than a tile holds of its rows.
TEST_P(LinearVariants, GiveTheScalarBitsOfWideAndDeepMatrices) {
  for (const DType dtype : kAllDTypes) {
    for (const int64_t rows : {2, 6, 15}) {
      ExpectScalarBits(dtype, 299, 288, rows, Values::kOrdinary);
      ExpectScalarBits(dtype, 59, 4384, rows, Values::kOrdinary);
    }
    ExpectScalarLeaves(dtype, 4384, 160, 0x1p26f, Values::kOrdinary);
  }
}

// Rows that meet many panels are made ready once: all of them, some at a time, or, where K is so
// long that not even one tile's can be kept, for every few panels.
TEST_P(LinearVariants, GiveTheScalarBitsWhetherRowsAreKeptOrNot) {
  for (const DType dtype : {DType::kQ8_0, DType::kQ4_0, DType::kQ4_1, DType::kQ4_K, DType::kQ6_K}) {
    ExpectScalarBits(dtype, 210, 544, 30, Values::kOrdinary);
    ExpectScalarBits(dtype, 210, 6176, 41, Values::kOrdinary);
    ExpectScalarBits(dtype, 210, 19200, 14, Values::kOrdinary);
    for (const int64_t leaf : {32, 96, 160, 288, 1024}) {
      ExpectScalarLeaves(dtype, 544, leaf, 0x1p26f, Values::kOrdinary, 210);
      ExpectScalarLeaves(dtype, 9632, leaf, 0x1p26f, Values::kOrdinary, 210);
      ExpectScalarLeaves(dtype, 9632, leaf, 1.0f, Values::kOrdinary, 210);
    }
    ExpectScalarLeaves(dtype, 19200, 192, 0x1p26f, Values::kOrdinary, 210);
  }
}

// INT8's tiles become smaller where a full one does not fit, down to rows that are not kept.
TEST_P(LinearVariants, GiveTheScalarBitsHoweverManyInt8RowsAreKept) {
  struct {
    int64_t cols;
    int64_t rows;
  } const cases[] = {{544, 30}, {6176, 43}, {17664, 14}, {43712, 13}, {139296, 3}, {262176, 2}};
  for (const auto [cols, rows] : cases) {
    SCOPED_TRACE(cols);
    ExpectScalarBits(DType::kINT8, 37, cols, rows, Values::kOrdinary);
    ExpectScalarLeaves(DType::kINT8, cols, cols, 0x1p26f, Values::kOrdinary);
  }
}

TEST_P(LinearVariants, GiveTheScalarBitsForExtremeNumbers) {
  for (const DType dtype : kAllDTypes) {
    for (const int64_t rows : {1, 2, 5, 16}) {
      ExpectScalarBits(dtype, 65, 640, rows, Values::kExtreme);
      ExpectScalarBits(dtype, 33, 32, rows, Values::kExtreme);
    }
  }
}

TEST_P(LinearVariants, GiveTheScalarSumsOfLeaves) {
  for (const DType dtype : kAllDTypes) {
    for (const int64_t leaf : {32, 64, 128, 160, 256, 320, 512}) {
      ExpectScalarLeaves(dtype, 576, leaf, 0x1p26f, Values::kOrdinary);
      ExpectScalarLeaves(dtype, 1600, leaf, 0x1p26f, Values::kOrdinary);
    }
    if (IsQuantized(dtype)) continue;
    ExpectScalarLeaves(dtype, 720, 72, 0x1p26f, Values::kOrdinary);
    ExpectScalarLeaves(dtype, 700, 72, 0x1p26f, Values::kOrdinary);
    ExpectScalarLeaves(dtype, 700, 333, 0x1p26f, Values::kOrdinary);
  }
}

TEST_P(LinearVariants, CountTheSameInvalidLeaves) {
  for (const DType dtype : kAllDTypes) {
    for (const float limit : {0.5f, 2.0f, 0x1p29f}) {
      ExpectScalarLeaves(dtype, 576, 64, limit, Values::kOrdinary);
      ExpectScalarLeaves(dtype, 576, 320, limit, Values::kExtreme);
      ExpectScalarLeaves(dtype, 1600, 64, limit, Values::kExtreme);
    }
  }
}

// A leaf of one weight of 1 is its activation: numbers beside ties, and beside the limit.
TEST_P(LinearVariants, RoundLeavesToTheNearestEvenInteger) {
  std::vector<float> values;
  const auto add_beside = [&values](float middle) {
    float below = middle;
    float above = middle;
    for (int step = 0; step < 5; ++step) {
      values.insert(values.end(), {below, -below, above, -above});
      below = std::nextafter(below, 0.0f);
      above = std::nextafter(above, 0x1p31f);
    }
  };
  for (int half = 0; half < 40; ++half) add_beside(static_cast<float>(half) * 0x1p-33f);
  for (int exponent = -40; exponent <= 30; ++exponent) {
    add_beside(std::ldexp(1.0f, exponent));
    add_beside(std::ldexp(1.5f, exponent) - 0x1p-33f);
  }
  const float one = 1;
  FileTensor tensor{DType::kF32, 1, 1, std::vector<std::byte>(sizeof(one))};
  std::memcpy(tensor.bytes.data(), &one, sizeof(one));
  const PackedTensor weights(tensor);
  const auto rows = static_cast<int64_t>(values.size());
  const Activations input(rows, 1, values);
  const LeafResult found = RunLeafLinear(GetParam(), weights.matrix(), input, 1, /*limit=*/0x1p30f);
  EXPECT_TRUE(found == RunLeafLinear(scalar(), weights.matrix(), input, 1, 0x1p30f));
  for (int64_t row = 0; row < rows; ++row) {
    const float y = values[row];
    const bool valid = std::fabs(y) < 0x1p30f;
    const double rounded = std::nearbyint(static_cast<double>(y) * 0x1p32);
    EXPECT_EQ(found.sums[row], valid ? static_cast<int64_t>(rounded) : 0) << std::hexfloat << y;
    EXPECT_EQ(found.invalid[row], valid ? 0 : 1) << std::hexfloat << y;
  }
}

TEST_P(LinearVariants, WriteOnlyTheRangesTheyAreGiven) {
  constexpr float kUntouched = 12345.0f;
  constexpr int64_t kOutputs = 107;
  constexpr int64_t kStride = 120;
  constexpr int64_t kRows = 20;
  for (const DType dtype : kAllDTypes) {
    const int64_t cols = WholeGroups(dtype, 96);
    const PackedTensor weights(RandomTensor(dtype, kOutputs, cols, Values::kOrdinary, random_));
    const Activations input(kRows, cols, RandomValues(kRows * cols, Values::kOrdinary, random_));
    const auto whole = RunLinear(scalar(), weights.matrix(), input);
    std::vector<float> output(kRows * kStride, kUntouched);
    GetParam().linear.whole[static_cast<size_t>(dtype)]({.weights = &weights.matrix(),
                                                         .input = &input.rows(dtype),
                                                         .row_begin = 2,
                                                         .row_end = 19,
                                                         .panel_begin = 1,
                                                         .panel_end = 7,
                                                         .output = output.data(),
                                                         .output_stride = kStride});
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t column = 0; column < kStride; ++column) {
        const bool inside = row >= 2 && row < 19 && column >= 16 && column < kOutputs;
        const uint32_t expected = inside ? whole[row * kOutputs + column] : BitsOf(kUntouched);
        ASSERT_EQ(BitsOf(output[row * kStride + column]), expected)
            << ToString(dtype) << " row " << row << " column " << column;
      }
    }
  }
}

TEST_P(LinearVariants, WriteOnlyTheLeafRangesTheyAreGiven) {
  constexpr int64_t kUntouched = 12345;
  constexpr int64_t kOutputs = 43;
  constexpr int64_t kStride = 50;
  constexpr int64_t kRows = 20;
  for (const DType dtype : kAllDTypes) {
    const int64_t cols = WholeGroups(dtype, 96);
    const int64_t leaf = WholeGroups(dtype, 64);
    const PackedTensor weights(RandomTensor(dtype, kOutputs, cols, Values::kOrdinary, random_));
    const Activations input(kRows, cols, RandomValues(kRows * cols, Values::kOrdinary, random_));
    const auto whole = RunLeafLinear(scalar(), weights.matrix(), input, leaf, 1e6f);
    std::vector<int64_t> output(kRows * kStride, kUntouched);
    std::vector<int64_t> invalid(kRows, 7);
    GetParam().linear.leaves[static_cast<size_t>(dtype)]({.weights = &weights.matrix(),
                                                          .input = &input.rows(dtype),
                                                          .row_begin = 2,
                                                          .row_end = 19,
                                                          .panel_begin = 1,
                                                          .panel_end = 3,
                                                          .leaf_cols = leaf,
                                                          .limit = 1e6f,
                                                          .output = output.data(),
                                                          .output_stride = kStride,
                                                          .invalid = invalid.data()});
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t column = 0; column < kStride; ++column) {
        const bool inside = row >= 2 && row < 19 && column >= 16 && column < kOutputs;
        ASSERT_EQ(output[row * kStride + column],
                  inside ? whole.sums[row * kOutputs + column] : kUntouched)
            << ToString(dtype) << " row " << row << " column " << column;
      }
    }
    EXPECT_EQ(invalid, std::vector<int64_t>(kRows, 7));
  }
}

// Cuts inside the K-quants' blocks of 256, at any group; leaves as narrow as a group.
TEST_P(LinearVariants, GiveTheScalarBitsWhereverABlockIsCut) {
  for (const DType dtype : {DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
    const int64_t group = GroupSize(dtype);
    const FileTensor tensor = RandomTensor(dtype, 21, 1024, Values::kOrdinary, random_);
    for (const int64_t begin : {group, 3 * group, int64_t{256} - group, int64_t{352}}) {
      for (const int64_t cols : {group, 5 * group, int64_t{256}, int64_t{608}}) {
        SCOPED_TRACE(testing::Message() << ToString(dtype) << " from " << begin << ", K " << cols);
        const PackedTensor weights(tensor, begin, cols);
        const Activations input(3, cols, RandomValues(3 * cols, Values::kOrdinary, random_));
        EXPECT_TRUE(RunLinear(GetParam(), weights.matrix(), input) ==
                    RunLinear(scalar(), weights.matrix(), input));
        EXPECT_TRUE(RunLeafLinear(GetParam(), weights.matrix(), input, group, 1e6f) ==
                    RunLeafLinear(scalar(), weights.matrix(), input, group, 1e6f));
      }
    }
  }
}

TEST_P(LinearVariants, QuantizeGroupsOfAnySizeToTheScalarBits) {
  for (const Values values : {Values::kOrdinary, Values::kExtreme}) {
    for (const int64_t group : {16, 32, 48, 128, 1600}) {
      const int64_t cols = 2 * group + 16;  // The last is shorter but for 16.
      const std::vector<float> x = RandomValues(cols, values, random_);
      std::vector<int8_t> quants[2];
      std::vector<float> scales[2];
      std::vector<int32_t> sums[2];
      for (int i = 0; i < 2; ++i) {
        quants[i].assign(cols, 99);
        scales[i].assign(3, 99.0f);
        sums[i].assign(3, 99);
        const KernelTable& variant = i == 0 ? scalar() : GetParam();
        variant.quantize.groups(x.data(), cols, group, quants[i].data(), scales[i].data(),
                                sums[i].data());
      }
      EXPECT_EQ(quants[0], quants[1]);
      EXPECT_EQ(sums[0], sums[1]);
      EXPECT_TRUE(std::ranges::equal(scales[0], scales[1], {}, BitsOf, BitsOf));
    }
  }
}

TEST_P(LinearVariants, QuantizePartsOfAGroupToTheScalarBits) {
  for (const Values values : {Values::kOrdinary, Values::kExtreme}) {
    for (const int64_t cols : {16, 64, 208, 1600}) {
      const std::vector<float> x = RandomValues(cols, values, random_);
      const uint32_t own = scalar().quantize.largest_bits(x.data(), cols);
      EXPECT_EQ(GetParam().quantize.largest_bits(x.data(), cols), own);
      // The largest may be another part's.
      for (const uint32_t largest : {own, own + 0x00800000, 0x7F800000U}) {
        if (largest < own) continue;
        std::vector<int8_t> quants[2];
        float scales[2];
        int32_t sums[2];
        for (int i = 0; i < 2; ++i) {
          quants[i].assign(cols, 99);
          const KernelTable& variant = i == 0 ? scalar() : GetParam();
          variant.quantize.group(x.data(), cols, largest, quants[i].data(), &scales[i], &sums[i]);
        }
        EXPECT_EQ(quants[0], quants[1]);
        EXPECT_EQ(sums[0], sums[1]);
        EXPECT_EQ(BitsOf(scales[0]), BitsOf(scales[1]));
      }
    }
  }
}

TEST_P(LinearVariants, AddDotsToTheScalarBits) {
  for (const int64_t outputs : {1, 7, 8, 16, 17, 37, 64, 79}) {
    const PackedTensor weights(RandomTensor(DType::kINT8, outputs, 64, Values::kOrdinary, random_));
    for (const float scale : {0.0f, 1e-3f, 1e9f, 1e38f, std::nanf("")}) {
      std::vector<int64_t> dots(static_cast<size_t>(outputs));
      for (int64_t& dot : dots) dot = static_cast<int32_t>(random_()) >> (random_() % 32);
      std::vector<float> expected = RandomValues(outputs, Values::kOrdinary, random_);
      std::vector<float> found = expected;
      const int64_t invalid =
          scalar().rows.add_dots(dots.data(), weights.matrix(), scale, expected.data());
      EXPECT_EQ(GetParam().rows.add_dots(dots.data(), weights.matrix(), scale, found.data()),
                invalid);
      EXPECT_TRUE(std::ranges::equal(expected, found, {}, BitsOf, BitsOf))
          << outputs << " outputs, scale " << scale;
      if (std::isnan(scale)) {
        EXPECT_EQ(invalid, outputs);
      }
    }
  }
}

// What crosses a cut and is scaled then is what a layer that is not cut gives.
TEST_P(LinearVariants, AddDotsFinishesALinearLayer) {
  constexpr int64_t kOutputs = 53;
  constexpr int64_t kRows = 9;
  const PackedTensor weights(RandomTensor(DType::kINT8, kOutputs, 96, Values::kOrdinary, random_));
  const Activations input(kRows, 96, RandomValues(kRows * 96, Values::kOrdinary, random_));
  const std::vector<uint32_t> expected = RunLinear(GetParam(), weights.matrix(), input);
  const LeafResult dots = RunLeafLinear(GetParam(), weights.matrix(), input, 32, 1.0f);
  for (int64_t row = 0; row < kRows; ++row) {
    std::vector<float> found(kOutputs, 0.0f);
    const float scale = input.rows(DType::kINT8).scales[row];
    EXPECT_EQ(
        GetParam().rows.add_dots(&dots.sums[row * kOutputs], weights.matrix(), scale, found.data()),
        0);
    for (int64_t o = 0; o < kOutputs; ++o) {
      EXPECT_EQ(BitsOf(found[o]), expected[row * kOutputs + o]);
    }
  }
}

TEST_P(LinearVariants, QuantizeToTheScalarBits) {
  for (const Values values : {Values::kOrdinary, Values::kExtreme}) {
    for (const int64_t cols : {32, 64, 96, 160, 4096}) {
      ExpectScalarQuants(RandomValues(cols, values, random_));
    }
  }
}

// Of groups that a variant takes together, one may be unlike the others.
TEST_P(LinearVariants, QuantizeAnUnusualGroupAmongOthersToTheScalarBits) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float unusual[] = {std::numeric_limits<float>::quiet_NaN(),
                           kInfinity,
                           -kInfinity,
                           0.0f,
                           0x1p-100f,
                           0x1.fffffep-101f,
                           std::numeric_limits<float>::max()};
  for (const float value : unusual) {
    for (int64_t group = 0; group < 6; ++group) {
      std::vector<float> x = RandomValues(6 * 32, Values::kOrdinary, random_);
      std::fill_n(x.begin() + group * 32, 32, 0.0f);
      x[group * 32 + random_() % 32] = value;
      ExpectScalarQuants(x);
    }
  }
}

// The scalar variant clamps; a variant that does not must never have to.
TEST_P(LinearVariants, QuantizeTheLargestMagnitudesToTheScalarBits) {
  std::vector<float> x(1024 * 32);
  for (size_t begin = 0; begin < x.size(); begin += 32) {
    const auto bits = static_cast<uint32_t>(0x0d800000u + random_() % (0x7f800000u - 0x0d800000u));
    const float largest = std::bit_cast<float>(bits);
    for (size_t i = begin; i < begin + 32; ++i) x[i] = random_() % 2 == 0 ? largest : -largest;
  }
  ExpectScalarQuants(x);
}

INSTANTIATE_TEST_SUITE_P(All, LinearVariants,
                         testing::ValuesIn(AllKernelTables().first(AllKernelTables().size() - 1)),
                         VariantName);

}  // namespace
}  // namespace shoal::cpu
