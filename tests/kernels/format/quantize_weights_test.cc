#include "kernels/format/quantize_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "kernels/format/pack.h"

// What rounding weights to a format loses, measured by reading them back.

namespace shoal::cpu {
namespace {

constexpr int64_t kCols = 4096;

std::vector<float> NormalWeights(uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 0.05f);
  std::vector<float> weights(kCols);
  for (float& weight : weights) weight = normal(random);
  return weights;
}

std::vector<float> RoundTrip(DType dtype, const std::vector<float>& weights) {
  const auto cols = static_cast<int64_t>(weights.size());
  std::vector<std::byte> row(static_cast<size_t>(RowBytes(dtype, cols)));
  QuantizeWeights(dtype, weights.data(), cols, row.data());
  std::vector<float> back(weights.size());
  DequantizeRow(dtype, row.data(), cols, back.data());
  return back;
}

double SquaredError(DType dtype, const std::vector<float>& weights) {
  const std::vector<float> back = RoundTrip(dtype, weights);
  double sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const double error = double{weights[i]} - back[i];
    sum += error * error;
  }
  return sum;
}

// Of the plainest rule: the largest weight becomes the outermost quant.
double PlainSquaredError(const std::vector<float>& weights, float steps) {
  double sum = 0;
  for (size_t begin = 0; begin < weights.size(); begin += 32) {
    float largest = 0;
    for (size_t i = begin; i < begin + 32; ++i) {
      if (std::fabs(weights[i]) > std::fabs(largest)) largest = weights[i];
    }
    const float scale = largest / -steps;
    for (size_t i = begin; i < begin + 32; ++i) {
      const float q = std::clamp(std::nearbyintf(weights[i] / scale), -steps, steps - 1);
      sum += std::pow(double{weights[i]} - double{scale} * q, 2);
    }
  }
  return sum;
}

TEST(QuantizeWeights, LosesNoMoreThanThePlainestRule) {
  // A scale rounded to f16 is off by 2^-11 at most, a weight by as much of itself.
  const std::vector<float> weights = NormalWeights(51);
  double rounding = 0;
  for (const float weight : weights) rounding += std::pow(double{weight} * 0x1p-11, 2);
  EXPECT_LE(std::sqrt(SquaredError(DType::kQ4_0, weights)),
            std::sqrt(PlainSquaredError(weights, 8)) + std::sqrt(rounding));
  EXPECT_LE(std::sqrt(SquaredError(DType::kQ5_0, weights)),
            std::sqrt(PlainSquaredError(weights, 16)) + std::sqrt(rounding));
}

TEST(QuantizeWeights, LosesLessTheMoreBitsThereAre) {
  const std::vector<float> weights = NormalWeights(52);
  const DType by_loss[] = {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
                           DType::kQ5_1, DType::kQ6_K, DType::kQ8_0};
  for (size_t i = 1; i < std::size(by_loss); ++i) {
    EXPECT_LT(SquaredError(by_loss[i], weights), SquaredError(by_loss[i - 1], weights))
        << ToString(by_loss[i - 1]) << ", " << ToString(by_loss[i]);
  }
  EXPECT_LT(SquaredError(DType::kIQ4_NL, weights), SquaredError(DType::kQ4_0, weights));
  EXPECT_LT(SquaredError(DType::kQ4_K, weights), SquaredError(DType::kQ4_0, weights));
  EXPECT_LT(SquaredError(DType::kQ8_0, weights), SquaredError(DType::kQ8_G128, weights));
  EXPECT_LT(SquaredError(DType::kQ8_G128, weights), SquaredError(DType::kINT8, weights));
  EXPECT_LT(SquaredError(DType::kINT8, weights), SquaredError(DType::kQ5_1, weights));
  EXPECT_LT(SquaredError(DType::kQ4_0, weights), SquaredError(DType::kQ4_G128, weights));
  EXPECT_LT(SquaredError(DType::kQ5_K, weights), SquaredError(DType::kQ4_K, weights));
}

TEST(QuantizeWeights, StaysWithinHalfAStepOfEightBits) {
  const std::vector<float> weights = NormalWeights(53);
  const std::vector<float> back = RoundTrip(DType::kQ8_0, weights);
  for (size_t begin = 0; begin < weights.size(); begin += 32) {
    float largest = 0;
    for (size_t i = begin; i < begin + 32; ++i) largest = std::max(largest, std::fabs(weights[i]));
    // Half a step of largest / 127, and the scale's own rounding, 2^-11 of the weight at most.
    for (size_t i = begin; i < begin + 32; ++i) {
      EXPECT_NEAR(back[i], weights[i], largest * (0.5 / 127 + 0x1p-10));
    }
  }
}

TEST(QuantizeWeights, KeepsWhatEveryFormatCanHold) {
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    if (!IsQuantized(dtype)) continue;
    const std::vector<float> zeros(512, 0.0f);
    EXPECT_EQ(RoundTrip(dtype, zeros), zeros) << ToString(dtype);
    // One value throughout needs one quant; formats with an own minimum have no scale then.
    const std::vector<float> ones(512, 1.0f);
    for (const float back : RoundTrip(dtype, ones)) {
      EXPECT_NEAR(back, 1.0f, 0x1p-5) << ToString(dtype);
    }
  }
}

TEST(QuantizeWeights, TakesTheLargestAndTheSmallestNumbers) {
  for (const float size : {0x1.fp14f, 1e-12f, 1e-40f}) {
    std::vector<float> weights = NormalWeights(55);
    for (float& weight : weights) weight = std::clamp(weight, -0.2f, 0.2f) / 0.2f * size;
    for (int i = 0; i < kDTypeCount; ++i) {
      const auto dtype = static_cast<DType>(i);
      if (!IsQuantized(dtype)) continue;
      for (const float back : RoundTrip(dtype, weights)) {
        ASSERT_LE(std::fabs(back), 1.2f * size + 1e-7f) << ToString(dtype) << " of " << size;
      }
    }
  }
}

}  // namespace
}  // namespace shoal::cpu
