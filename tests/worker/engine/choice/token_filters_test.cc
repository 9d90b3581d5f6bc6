// The sets of tokens that the filters keep, against the definition's.

#include "worker/engine/choice/token_filters.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "tests/worker/engine/choice/sampler_cases.h"

namespace shoal::engine {
namespace {

// Of logits that may hold -infinity for what was removed; scalar kernels.
std::vector<int32_t> Kept(const std::vector<float>& logits, const SamplingParams& sampling) {
  TokenFilters filters(math::kScalarChoice);
  const auto tokens =
      filters.Keep(logits, *std::max_element(logits.begin(), logits.end()), sampling);
  std::vector<int32_t> kept(tokens.begin(), tokens.end());
  std::sort(kept.begin(), kept.end());
  return kept;
}

std::vector<std::optional<float>> Finite(const std::vector<float>& logits) {
  std::vector<std::optional<float>> finite(logits.begin(), logits.end());
  for (auto& logit : finite) {
    if (*logit < std::numeric_limits<float>::lowest()) logit.reset();
  }
  return finite;
}

TEST(TokenFilters, KeepTheDefinitionsSets) {
  std::mt19937 random(5);
  for (int round = 0; round < 8; ++round) {
    for (uint32_t filters = 1; filters < 16; ++filters) {
      ReferenceCase c = RandomCase(random, 400, filters << 6);
      c.sampling.temperature = 0.4 + 0.7 * (round % 3);
      if (round % 2 == 0) c.logits[random() % 400] = -std::numeric_limits<float>::infinity();
      EXPECT_EQ(Kept(c.logits, c.sampling), KeptByDefinition(Finite(c.logits), c.sampling))
          << "filters " << filters << " round " << round;
    }
  }
}

// Where the prefix ends among very many tokens that weigh next to nothing each, none of them may be
// dropped beforehand.
TEST(TokenFilters, EndAPrefixAmongVeryManyUnlikelyTokens) {
  std::vector<float> logits = RandomLogits(6000, 4, 1);
  for (float& logit : logits) logit -= 11;
  logits[77] = 0;
  for (const double top_p : {0.95, 0.97, 0.999, 1 - 1e-9, 1 - 0x1p-45, 1 - 0x1p-53}) {
    const SamplingParams sampling = {.top_p = top_p};
    const std::vector<int32_t> kept = Kept(logits, sampling);
    EXPECT_GT(kept.size(), 100U);
    EXPECT_EQ(kept, KeptByDefinition(Finite(logits), sampling)) << top_p;
  }
}

// What a gateway makes of top_p = 0.
TEST(TokenFilters, LeaveTheFirstTokenToTheLeastTopP) {
  constexpr double kLeast = std::numeric_limits<double>::min();
  std::vector<float> logits = RandomLogits(6000, 4, 1);
  logits[700] = logits[70] = *std::max_element(logits.begin(), logits.end()) + 1e-3F;
  for (const double temperature : {1e-5, 1.0, 1e5}) {
    EXPECT_EQ(Kept(logits, {.temperature = temperature, .top_p = kLeast}), std::vector{70});
    EXPECT_EQ(Kept(logits, {.temperature = temperature, .top_k = 5, .top_p = kLeast, .min_p = 1}),
              std::vector{70});
  }
  EXPECT_EQ(Kept({-0.0F, 0.0F, -1.0F}, {.top_p = kLeast}), std::vector{0}) << "-0 and +0 are equal";
}

TEST(TokenFilters, TypicalMayRemoveTheBestToken) {
  // A token of probability 0.4 in a distribution of otherwise many: its surprise is far below the
  // mean.
  std::vector<float> logits(600, 0);
  logits[3] = 6;
  const std::vector<int32_t> kept = Kept(logits, {.typical_p = 0.5});
  EXPECT_FALSE(std::binary_search(kept.begin(), kept.end(), 3));
  EXPECT_EQ(kept, KeptByDefinition(Finite(logits), {.typical_p = 0.5}));
  // Of equal distances the lower ids.
  EXPECT_EQ(kept.front(), 0);
  EXPECT_EQ(kept.back(), static_cast<int32_t>(kept.size()));
}

TEST(TokenFilters, KeepTheLowerIdAtEveryThreshold) {
  const std::vector<float> logits = {0, 1, 1, 1, 1, 0};
  EXPECT_EQ(Kept(logits, {.top_k = 2}), (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(Kept(logits, {.top_p = 0.3}), (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(Kept(logits, {.typical_p = 0.3}), (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(Kept(logits, {.min_p = 1}), (std::vector<int32_t>{1, 2, 3, 4}));
}

}  // namespace
}  // namespace shoal::engine
