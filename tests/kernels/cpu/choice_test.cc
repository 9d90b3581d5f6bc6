// What choosing a token computes over a vocabulary: every variant against the scalar one, and the
// scalar one against the contract's words.

#include "kernels/math/choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/math/scalar.h"
#include "tests/kernels/cpu/every_variant.h"

namespace shoal::cpu {
namespace {

using math::NoiseCall;
using math::WeightsCall;
using math::WeightSums;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kSizes[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000, 4097};

class Choice : public EveryVariant {};

std::vector<float> Logits(int64_t count, float spread, std::mt19937& random) {
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(static_cast<size_t>(count));
  for (float& logit : logits) logit = normal(random);
  return logits;
}

TEST_P(Choice, LargestLogitIsFoundAtEveryPlaceAndSize) {
  std::mt19937 random(1);
  for (const int64_t size : kSizes) {
    std::vector<float> logits = Logits(size, 2, random);
    for (int64_t at = 0; at < size; at += 1 + size / 100) {
      std::vector<float> changed = logits;
      changed[static_cast<size_t>(at)] = 1000;
      math::LargestLogit found = variant().choice.largest(changed.data(), size);
      EXPECT_EQ(found.value, 1000);
      EXPECT_TRUE(found.finite);
      for (const float bad : {kInfinity, -kInfinity, std::nanf("")}) {
        changed[static_cast<size_t>(at)] = bad;
        found = variant().choice.largest(changed.data(), size);
        EXPECT_FALSE(found.finite) << bad << " at " << at << " of " << size;
        if (bad == -kInfinity && size > 1) {
          EXPECT_EQ(found.value, *std::max_element(changed.begin(), changed.end()));
        }
      }
    }
  }
  const float highest = std::numeric_limits<float>::max();
  const std::vector<float> extremes = {-highest, highest, -highest};
  EXPECT_EQ(variant().choice.largest(extremes.data(), 3).value, highest);
  EXPECT_TRUE(variant().choice.largest(extremes.data(), 3).finite);
}

// The contract's words, with the library's rounding.
WeightSums SumByDefinition(const WeightsCall& call, std::vector<uint64_t>& weights) {
  WeightSums sums;
  for (int64_t i = 0; i < call.count; ++i) {
    const double quotient = (double{call.logits[i]} - double{call.maximum}) / call.temperature;
    weights.push_back(0);
    if (quotient < -100) continue;
    const auto x = static_cast<float>(quotient);
    if (x < -29) continue;
    const double e = math::Exp(x);
    weights.back() = static_cast<uint64_t>(std::llrint(e * 0x1p40));
    sums.weights += weights.back();
    sums.moments += static_cast<uint64_t>(std::llrint(e * -double{x} * 0x1p40));
  }
  return sums;
}

TEST_P(Choice, WeightsAndTheirSumsAreTheDefinitions) {
  std::mt19937 random(2);
  for (const int64_t size : kSizes) {
    for (const float spread : {0.0F, 2.0F, 12.0F, 1e6F, 1e38F}) {
      std::vector<float> logits = Logits(size, spread, random);
      for (float& logit : logits) logit = std::clamp(logit, -3e38F, 3e38F);
      const float maximum = *std::max_element(logits.begin(), logits.end());
      if (size > 8) logits[3] = -kInfinity;
      for (const double temperature : {1.0, 1e-5, 0.7, 3.0, 1e5}) {
        WeightsCall call = {logits.data(), size, maximum, temperature, nullptr, true};
        std::vector<uint64_t> expected;
        const WeightSums sums = SumByDefinition(call, expected);
        EXPECT_EQ(variant().choice.weights(call), sums) << size << " spread " << spread;
        std::vector<uint64_t> found(logits.size() + 1, 77);
        call.weights = found.data();
        EXPECT_EQ(variant().choice.weights(call), sums);
        call.moments = false;
        EXPECT_EQ(variant().choice.weights(call), (WeightSums{sums.weights, 0}));
        EXPECT_EQ(found.back(), 77U) << "written past the end";
        found.pop_back();
        EXPECT_EQ(found, expected) << size << " spread " << spread << " T " << temperature;
      }
    }
  }
}

TEST_P(Choice, WeightsEndWhereTheyRoundToZero) {
  std::vector<float> logits;
  for (float x = -28.3F; x > -29.2F; x = std::nextafter(x, -100.0F) - 1e-5F) logits.push_back(x);
  logits.insert(logits.end(), {-29, std::nextafter(-29.0F, -30.0F), std::nextafter(-29.0F, 0.0F)});
  const WeightsCall call = {logits.data(), static_cast<int64_t>(logits.size()), 0, 1, nullptr,
                            true};
  std::vector<uint64_t> weights;
  EXPECT_EQ(variant().choice.weights(call), SumByDefinition(call, weights));
  EXPECT_GT(variant().choice.weights(call).weights, 0U);
}

// All that may win are listed, ascending; and the list is short.
TEST_P(Choice, ListsEveryTokenThatTheNoiseMayLift) {
  std::mt19937 random(3);
  int64_t listed = 0;
  int64_t reached = 0;
  for (int round = 0; round < 300; ++round) {
    const int64_t size = 1 + static_cast<int64_t>(random() % 700);
    std::vector<float> logits = Logits(size, round % 3 == 0 ? 0.5F : 4.0F, random);
    if (round % 5 == 0) logits[random() % logits.size()] = -kInfinity;
    NoiseCall call = {.logits = logits.data(),
                      .count = size,
                      .first_token = static_cast<uint32_t>(random() % 5000),
                      .seed = random() | uint64_t{random()} << 32,
                      .position = static_cast<uint32_t>(random()),
                      .choice = static_cast<uint32_t>(random() % 3),
                      .temperature = round % 2 == 0 ? 1.0 : 0.35,
                      .score_min = 0};
    call.score_min = 4 / call.temperature + static_cast<double>(round % 7) - 1;
    std::vector<int32_t> found(logits.size() + 1, -7);
    const int64_t count = variant().choice.noisy(call, found.data());
    ASSERT_LE(count, size);
    ASSERT_EQ(found.back(), -7);
    found.resize(static_cast<size_t>(count));
    EXPECT_TRUE(std::is_sorted(found.begin(), found.end()));
    listed += count;
    for (int64_t i = 0; i < size; ++i) {
      const double noise = math::GumbelNoise(
          call.seed, call.position, call.first_token + static_cast<uint32_t>(i), call.choice);
      if (double{logits[static_cast<size_t>(i)]} / call.temperature + noise < call.score_min) {
        continue;
      }
      ++reached;
      ASSERT_TRUE(std::binary_search(found.begin(), found.end(), static_cast<int32_t>(i)))
          << "round " << round << " index " << i;
    }
  }
  // The bound is at most ln(2) above the noise, and e^0.7 is about 2.
  EXPECT_GT(reached, 1000);
  EXPECT_LT(listed, 3 * reached);
}

TEST_P(Choice, ListsTheLargestLogitsThereAre) {
  const float highest = std::numeric_limits<float>::max();
  std::vector<float> logits(100, highest);
  const NoiseCall call = {.logits = logits.data(),
                          .count = 100,
                          .first_token = 64,
                          .seed = 1,
                          .position = 2,
                          .choice = 0,
                          .temperature = 1e-5,
                          .score_min = double{highest} / 1e-5};
  std::vector<int32_t> found(100);
  EXPECT_EQ(variant().choice.noisy(call, found.data()), 100);
}

TEST(NoiseBound, IsAboveTheNoiseAndNotFar) {
  std::mt19937 random(4);
  for (int i = 0; i < 200'000; ++i) {
    const uint32_t word =
        i < 40 ? ~0U - static_cast<uint32_t>(i) : random() | (~0U << random() % 32);
    ASSERT_GE(math::NoiseBound(word), math::GumbelOf(word)) << word;
  }
  EXPECT_GT(math::kNoiseMax, math::GumbelOf(~0U));
}

INSTANTIATE_TEST_SUITE_P(Table, Choice, ::testing::ValuesIn(AllKernelTables()), VariantName);

}  // namespace
}  // namespace shoal::cpu
