// Tokens against exact probabilities, log-probabilities against double precision.

#include "worker/engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/math/scalar.h"

namespace shoal::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> RandomLogits(size_t count, uint32_t seed, float spread) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

// The contract, word for word, without shortcuts: sorts everything and gives all kept tokens noise.
std::vector<size_t> KeptByDefinition(const std::vector<float>& logits,
                                     const SamplingParams& sampling) {
  std::vector<size_t> kept(logits.size());
  std::iota(kept.begin(), kept.end(), 0);
  std::stable_sort(kept.begin(), kept.end(),
                   [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  if (sampling.top_k > 0 && static_cast<size_t>(sampling.top_k) < kept.size()) {
    kept.resize(static_cast<size_t>(sampling.top_k));
  }
  const double maximum = logits[kept[0]];
  const auto weight = [&](size_t token) {
    const auto x = static_cast<float>((logits[token] - maximum) / sampling.temperature);
    return static_cast<uint64_t>(std::llrint(double{math::Exp(x)} * 0x1p40));
  };
  if (sampling.top_p < 1) {
    uint64_t total = 0;
    for (const size_t token : kept) total += weight(token);
    uint64_t sum = 0;
    size_t count = 0;
    while (static_cast<double>(sum) < sampling.top_p * static_cast<double>(total)) {
      sum += weight(kept[count++]);
    }
    kept.resize(count);
  }
  std::erase_if(kept, [&](size_t token) {
    return static_cast<double>(weight(token)) < sampling.min_p * 0x1p40;
  });
  return kept;
}

int32_t ChosenByDefinition(const std::vector<float>& logits, const SamplingParams& sampling,
                           uint32_t position) {
  double best = -std::numeric_limits<double>::infinity();
  int32_t chosen = -1;
  std::vector<size_t> kept = KeptByDefinition(logits, sampling);
  std::sort(kept.begin(), kept.end());
  for (const size_t token : kept) {
    const double score =
        double{logits[token]} / sampling.temperature +
        math::GumbelNoise(sampling.seed, position, static_cast<uint32_t>(token), sampling.choice);
    if (score > best) {
      best = score;
      chosen = static_cast<int32_t>(token);
    }
  }
  return chosen;
}

const std::vector<SamplingParams>& Combinations() {
  static const std::vector<SamplingParams> combinations = [] {
    std::vector<SamplingParams> all;
    for (const double temperature : {0.00001, 0.3, 1.0, 2.5}) {
      for (const int32_t top_k : {0, 1, 5, 300, 100000}) {
        for (const double top_p : {1e-9, 0.5, 0.95, 1.0}) {
          for (const double min_p : {0.0, 0.02, 1.0}) {
            all.push_back(
                {.temperature = temperature, .top_k = top_k, .top_p = top_p, .min_p = min_p});
          }
        }
      }
    }
    return all;
  }();
  return combinations;
}

TEST(ChooseToken, FollowsTheDefinitionForEveryCombinationOfFilters) {
  for (const float spread : {0.0F, 1.0F, 8.0F}) {
    std::vector<float> logits = RandomLogits(1003, 7, spread);
    // Many ties, and both zeros.
    for (float& logit : logits) logit = std::nearbyint(logit * 8) / 8;
    uint64_t seed = 0;
    for (SamplingParams sampling : Combinations()) {
      sampling.seed = ++seed * 0x9e3779b97f4a7c15ULL;
      sampling.choice = static_cast<uint32_t>(seed % 3);
      const auto position = static_cast<uint32_t>(seed);
      ASSERT_EQ(ChooseToken(logits, sampling, position),
                ChosenByDefinition(logits, sampling, position))
          << "temperature " << sampling.temperature << " top_k " << sampling.top_k << " top_p "
          << sampling.top_p << " min_p " << sampling.min_p << " spread " << spread;
    }
  }
}

TEST(ChooseToken, HandlesAWholeVocabulary) {
  const std::vector<float> logits = RandomLogits(49152, 3, 3);
  for (const SamplingParams& sampling :
       {SamplingParams{.temperature = 1, .seed = 4},
        SamplingParams{.temperature = 0.7, .top_k = 50, .top_p = 0.9, .min_p = 0.01, .seed = 5},
        SamplingParams{.temperature = 1.3, .top_k = 5000, .top_p = 0.5, .seed = 6}}) {
    EXPECT_EQ(ChooseToken(logits, sampling, 11), ChosenByDefinition(logits, sampling, 11));
  }
}

// Pearson's statistic over the tokens' exact probabilities; 99.99 % of all runs stay below the
// bound (Wilson and Hilferty's approximation of the chi-square quantile).
TEST(ChooseToken, DrawsTokensWithTheirProbabilities) {
  const std::vector<float> logits = RandomLogits(40, 5, 1.5F);
  for (SamplingParams sampling :
       {SamplingParams{.temperature = 1}, SamplingParams{.temperature = 0.6, .top_k = 12},
        SamplingParams{.temperature = 1.4, .top_p = 0.8},
        SamplingParams{.temperature = 1, .min_p = 0.2}}) {
    const std::vector<size_t> kept = KeptByDefinition(logits, sampling);
    ASSERT_GE(kept.size(), 3U);
    std::map<int32_t, double> expected;
    double total = 0;
    for (const size_t token : kept) total += std::exp(logits[token] / sampling.temperature);
    constexpr int kDraws = 20000;
    for (const size_t token : kept) {
      expected[static_cast<int32_t>(token)] =
          kDraws * std::exp(logits[token] / sampling.temperature) / total;
    }
    std::map<int32_t, int> seen;
    for (int draw = 0; draw < kDraws; ++draw) {
      sampling.seed = static_cast<uint64_t>(draw) / 100;
      ++seen[*ChooseToken(logits, sampling, static_cast<uint32_t>(draw % 100))];
    }
    double statistic = 0;
    for (const auto& [token, count] : expected) {
      statistic += (seen[token] - count) * (seen[token] - count) / count;
    }
    for (const auto& [token, count] : seen) EXPECT_TRUE(expected.contains(token)) << token;
    const double freedom = static_cast<double>(kept.size()) - 1;
    const double bound =
        freedom * std::pow(1 - 2 / (9 * freedom) + 3.719 * std::sqrt(2 / (9 * freedom)), 3);
    EXPECT_LT(statistic, bound) << "temperature " << sampling.temperature << " freedom " << freedom;
  }
}

TEST(ChooseToken, TakesTheLowerIdOfEqualLogitsWithoutTemperature) {
  EXPECT_EQ(ChooseToken(std::vector<float>{1, 3, 3, 2}, {.temperature = 0}, 0), 1);
  EXPECT_EQ(ChooseToken(std::vector<float>{-0.0F, 0.0F}, {.temperature = 0}, 0), 0);
  EXPECT_EQ(ChooseToken(std::vector<float>{0.0F, -0.0F}, {.temperature = 0}, 0), 0);
}

TEST(ChooseToken, KeepsTheLowerIdAtTheThresholdOfTopK) {
  const std::vector<float> logits{0, 2, 1, 1, 1};
  for (uint32_t position = 0; position < 200; ++position) {
    const auto token = ChooseToken(logits, {.temperature = 1, .top_k = 2}, position);
    EXPECT_TRUE(token == 1 || token == 2) << *token;
  }
}

TEST(ChooseToken, IgnoresTheSeedWhenOnlyOneTokenIsLeft) {
  const std::vector<float> logits = RandomLogits(100, 2, 2);
  const auto best = ChooseToken(logits, {.temperature = 0}, 0);
  for (uint64_t seed = 0; seed < 50; ++seed) {
    EXPECT_EQ(ChooseToken(logits, {.temperature = 2, .top_k = 1, .seed = seed}, 3), best);
    EXPECT_EQ(ChooseToken(logits, {.temperature = 2, .top_p = 1e-9, .seed = seed}, 3), best);
    EXPECT_EQ(ChooseToken(logits, {.temperature = 2, .min_p = 1, .seed = seed}, 3), best);
  }
}

TEST(ChooseToken, SaysNothingIfALogitIsNotFinite) {
  for (const float bad : {kInfinity, -kInfinity, std::nanf("")}) {
    for (size_t at = 0; at < 3; ++at) {
      std::vector<float> logits{1, 2, 3};
      logits[at] = bad;
      EXPECT_FALSE(ChooseToken(logits, {.temperature = 0}, 0));
      EXPECT_FALSE(ChooseToken(logits, {.temperature = 1, .top_k = 1}, 0));
      EXPECT_FALSE(ComputeLogprobs(logits, 0, 1));
      const Candidate candidate = BestOfRange(logits, 0, {.temperature = 1}, 0);
      EXPECT_EQ(candidate.token, -1);
      EXPECT_TRUE(std::isnan(candidate.score));
    }
  }
}

TEST(ChooseToken, SurvivesTheLargestAndSmallestFiniteLogits) {
  const float huge = std::numeric_limits<float>::max();
  const std::vector<float> logits{-huge, huge, 0, -huge};
  EXPECT_EQ(ChooseToken(logits, {.temperature = 1e-5, .top_p = 0.5}, 0), 1);
  EXPECT_EQ(ChooseToken(logits, {.temperature = 1e-5, .min_p = 0.5}, 0), 1);
}

TEST(BestOfRange, IsTheSameForEveryPartition) {
  const std::vector<float> logits = RandomLogits(777, 9, 1);
  std::mt19937 random(4);
  for (uint32_t position = 0; position < 300; ++position) {
    const SamplingParams sampling{.temperature = position % 5 == 0 ? 0 : 0.4 * (position % 5),
                                  .seed = position * 77ULL};
    const Candidate whole = BestOfRange(logits, 0, sampling, position);
    Candidate joined;
    for (size_t begin = 0; begin < logits.size();) {
      const size_t count = std::min<size_t>(1 + random() % 300, logits.size() - begin);
      const Candidate part = BestOfRange(std::span(logits).subspan(begin, count),
                                         static_cast<int32_t>(begin), sampling, position);
      joined = position % 2 == 0 ? Better(joined, part) : Better(part, joined);
      begin += count;
    }
    EXPECT_EQ(joined.token, whole.token);
    EXPECT_EQ(joined.score, whole.score);
    EXPECT_EQ(ChooseToken(logits, sampling, position), whole.token);
  }
}

TEST(Better, PrefersScoreThenLowerIdThenAnythingToNothing) {
  EXPECT_EQ(Better({1, 5}, {2, 9}).token, 9);
  EXPECT_EQ(Better({2, 9}, {2, 5}).token, 5);
  EXPECT_EQ(Better({2, 5}, {2, 9}).token, 5);
  EXPECT_EQ(Better({}, {-7, 3}).token, 3);
  EXPECT_EQ(Better({-7, 3}, {}).token, 3);
  const Candidate invalid{std::nan(""), -1};
  EXPECT_TRUE(std::isnan(Better(invalid, {1, 1}).score));
  EXPECT_TRUE(std::isnan(Better({1, 1}, invalid).score));
  EXPECT_TRUE(std::isnan(Better({}, invalid).score));
}

TEST(ChoosesByMaximum, IsTrueWithoutFiltersAndWithoutTemperature) {
  EXPECT_TRUE(ChoosesByMaximum({.temperature = 1}));
  EXPECT_TRUE(ChoosesByMaximum({.temperature = 0, .top_k = 4, .top_p = 0.5, .min_p = 0.1}));
  EXPECT_FALSE(ChoosesByMaximum({.temperature = 1, .top_k = 4}));
  EXPECT_FALSE(ChoosesByMaximum({.temperature = 1, .top_p = 0.5}));
  EXPECT_FALSE(ChoosesByMaximum({.temperature = 1, .min_p = 0.1}));
}

// Each of n weights is off by 2 ulp of float (2^-22 relative) and half a unit of 2^-40, so the
// logarithm of the sum by 2^-22 + n * 2^-41; storing the difference and the result as float adds
// half an ulp each.
TEST(ComputeLogprobs, AgreesWithDoublePrecision) {
  for (const size_t count : {1U, 2U, 33U, 4097U, 49152U}) {
    const std::vector<float> logits = RandomLogits(count, 12, 4);
    double sum = 0;
    for (const float logit : logits) sum += std::exp(double{logit});
    for (size_t token = 0; token < count; token += 1 + count / 50) {
      const auto result = ComputeLogprobs(logits, static_cast<int32_t>(token), 0);
      ASSERT_TRUE(result);
      EXPECT_TRUE(result->top.empty());
      const double exact = double{logits[token]} - std::log(sum);
      const double bound =
          0x1p-22 + static_cast<double>(count) * 0x1p-41 + std::abs(exact) * 0x1p-22 + 0x1p-20;
      EXPECT_NEAR(result->logprob, exact, bound) << count << " token " << token;
    }
  }
}

TEST(ComputeLogprobs, ListsTheBestDescendingWithTiesToTheLowerId) {
  const auto result = ComputeLogprobs(std::vector<float>{1, 4, 2, 4, 2, 2}, 0, 4);
  ASSERT_TRUE(result);
  ASSERT_EQ(result->top.size(), 4U);
  const std::vector<int32_t> ids{result->top[0].first, result->top[1].first, result->top[2].first,
                                 result->top[3].first};
  EXPECT_EQ(ids, (std::vector<int32_t>{1, 3, 2, 4}));
  EXPECT_EQ(result->top[0].second, result->top[1].second);
  EXPECT_LT(result->logprob, result->top[3].second);
}

TEST(ComputeLogprobs, ListsNoMoreThanTheVocabulary) {
  EXPECT_EQ(ComputeLogprobs(std::vector<float>{1, 4}, 0, 20)->top.size(), 2U);
}

}  // namespace
}  // namespace shoal::engine
