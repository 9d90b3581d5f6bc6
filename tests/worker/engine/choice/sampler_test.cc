// Tokens against exact probabilities, log-probabilities against double precision.

#include "worker/engine/choice/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/worker/engine/choice/sampler_cases.h"

namespace shoal::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::optional<int32_t> ChooseToken(std::vector<float> logits, const SamplingParams& sampling,
                                   uint32_t position) {
  Sampler sampler = ScalarSampler();
  const auto chosen = sampler.Choose(logits, {.sampling = sampling, .position = position});
  if (!chosen) return std::nullopt;
  return chosen->token;
}

std::optional<TokenLogprobs> ComputeLogprobs(const std::vector<float>& logits, int32_t token,
                                             int32_t top_count) {
  return ScalarSampler().ComputeLogprobs(logits, token, top_count);
}

Candidate BestOfRange(std::vector<float> logits, int32_t first_token,
                      const SamplingParams& sampling, uint32_t position) {
  return ScalarSampler().BestOfRange(logits, first_token,
                                     {.sampling = sampling, .position = position});
}

ReferenceCase Plain(const std::vector<float>& logits, const SamplingParams& sampling,
                    uint32_t position) {
  return {.logits = logits, .sampling = sampling, .tokens = std::vector<int32_t>(position, 0)};
}

const std::vector<SamplingParams>& Combinations() {
  static const std::vector<SamplingParams> combinations = [] {
    std::vector<SamplingParams> all;
    for (const double temperature : {0.00001, 0.3, 1.0, 2.5}) {
      for (const int32_t top_k : {0, 1, 5, 300, 100000}) {
        for (const double top_p : {1e-9, 0.5, 0.95, 1.0}) {
          for (const double min_p : {0.0, 0.02, 1.0}) {
            for (const double typical_p : {1.0, 0.4}) {
              all.push_back({.temperature = temperature,
                             .top_k = top_k,
                             .top_p = top_p,
                             .min_p = min_p,
                             .typical_p = typical_p});
            }
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
      const int32_t expected = ChosenByDefinition(Plain(logits, sampling, position));
      for (NamedSampler& row : EverySampler()) {
        std::vector<float> edited = logits;
        const auto chosen =
            row.sampler.Choose(edited, {.sampling = sampling, .position = position});
        ASSERT_EQ(chosen->token, expected)
            << row.isa << " temperature " << sampling.temperature << " top_k " << sampling.top_k
            << " typical_p " << sampling.typical_p << " top_p " << sampling.top_p << " min_p "
            << sampling.min_p << " spread " << spread;
      }
    }
  }
}

TEST(ChooseToken, HandlesAWholeVocabulary) {
  const std::vector<float> logits = RandomLogits(49152, 3, 3);
  for (const SamplingParams& sampling :
       {SamplingParams{.temperature = 1, .seed = 4},
        SamplingParams{.temperature = 3, .top_p = 0.99, .seed = 5},
        SamplingParams{.temperature = 0.7, .top_k = 50, .top_p = 0.9, .min_p = 0.01, .seed = 5},
        SamplingParams{.temperature = 1.3, .top_k = 5000, .top_p = 0.5, .seed = 6},
        SamplingParams{.temperature = 1.3, .seed = 7, .typical_p = 0.9}}) {
    const int32_t expected = ChosenByDefinition(Plain(logits, sampling, 11));
    for (NamedSampler& row : EverySampler()) {
      std::vector<float> edited = logits;
      EXPECT_EQ(row.sampler.Choose(edited, {.sampling = sampling, .position = 11})->token, expected)
          << row.isa;
    }
  }
}

TEST(ChooseToken, FollowsTheDefinitionForEveryCombinationOfRules) {
  std::mt19937 random(8);
  std::vector<NamedSampler> rows = EverySampler();
  for (uint32_t features = 0; features < kFeatureSets; ++features) {
    const ReferenceCase c = RandomCase(random, 203, features);
    const int32_t expected = ChosenByDefinition(c);
    ASSERT_GE(expected, 0);
    for (NamedSampler& row : rows) {
      ASSERT_EQ(Choose(row.sampler, c), expected) << row.isa << " features " << features;
    }
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

// The best of a vocabulary that is cut at random places, as ranks of the named instruction sets
// find it.
int32_t ChooseInParts(std::vector<NamedSampler>& rows, const ReferenceCase& c,
                      std::mt19937& random) {
  const CaseRules rules(c);
  std::vector<float> logits = c.logits;
  Candidate joined;
  for (size_t begin = 0; begin < logits.size();) {
    const size_t count = std::min<size_t>(1 + random() % 300, logits.size() - begin);
    const Candidate part = rows[random() % rows.size()].sampler.BestOfRange(
        std::span(logits).subspan(begin, count), static_cast<int32_t>(begin), rules.get());
    joined = random() % 2 == 0 ? Better(joined, part) : Better(part, joined);
    begin += count;
  }
  return joined.token;
}

TEST(BestOfRange, IsTheSameForEveryPartitionUnderEveryRule) {
  std::mt19937 random(4);
  std::vector<NamedSampler> rows = EverySampler();
  for (uint32_t round = 0; round < 640; ++round) {
    const ReferenceCase c = RandomCase(random, 777, round % 64);  // No filters.
    const int32_t expected = ChosenByDefinition(c);
    ASSERT_EQ(ChooseInParts(rows, c, random), expected) << "round " << round;
    ASSERT_EQ(Choose(rows[0].sampler, c), expected) << "round " << round;
  }
}

// A stop id is chosen before min_tokens only if a grammar leaves nothing else, in whichever part of
// the vocabulary that is.
TEST(BestOfRange, WithholdsStopIdsWhileAnythingElseIsLeft) {
  std::mt19937 random(6);
  std::vector<NamedSampler> rows = EverySampler();
  ReferenceCase c = RandomCase(random, 777, 0);
  c.stop_ids = {5, 600};
  c.logits[5] = 50;
  c.logits[600] = 40;
  c.sampling.min_tokens = 61;  // The next token is the 61st, or earlier.
  c.prompt_count = 0;
  EXPECT_NE(Choose(rows[0].sampler, c), 5);
  EXPECT_NE(ChooseInParts(rows, c, random), 5);
  c.allowed.assign(777, false);
  c.allowed[5] = c.allowed[600] = true;
  for (int round = 0; round < 50; ++round) {
    EXPECT_EQ(ChooseInParts(rows, c, random), 5);
    c.allowed[300] = true;
    EXPECT_EQ(ChooseInParts(rows, c, random), 300);
    c.allowed[300] = false;
  }
  EXPECT_EQ(Choose(rows[0].sampler, c), 5);
  c.allowed.clear();
  c.sampling.min_tokens = 60;
  EXPECT_EQ(Choose(rows[0].sampler, c), 5);
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
  EXPECT_EQ(Better({9, 1, 1}, {2, 5, 0}).token, 5) << "one that is not withheld comes first";
  EXPECT_EQ(Better({}, {2, 5, 1}).token, 5);
}

TEST(ChoosesByMaximum, IsTrueWithoutFiltersAndWithoutTemperature) {
  EXPECT_TRUE(ChoosesByMaximum({.temperature = 1}));
  EXPECT_TRUE(ChoosesByMaximum({.temperature = 0, .top_k = 4, .top_p = 0.5, .min_p = 0.1}));
  EXPECT_FALSE(ChoosesByMaximum({.temperature = 1, .top_k = 4}));
  EXPECT_FALSE(ChoosesByMaximum({.temperature = 1, .top_p = 0.5}));
  EXPECT_FALSE(ChoosesByMaximum({.temperature = 1, .min_p = 0.1}));
  EXPECT_FALSE(ChoosesByMaximum({.temperature = 1, .typical_p = 0.9}));
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

TEST(ComputeLogprobs, AreOfTheLogitsBeforeAnyRule) {
  std::mt19937 random(3);
  for (NamedSampler& row : EverySampler()) {
    for (uint32_t features = 0; features < kFeatureSets; features += 7) {
      const ReferenceCase c = RandomCase(random, 150, features);
      const CaseRules rules(c);
      std::vector<float> logits = c.logits;
      const auto chosen = row.sampler.Choose(logits, rules.get(), 3);
      ASSERT_TRUE(chosen);
      EXPECT_EQ(chosen->token, ChosenByDefinition(c));
      EXPECT_EQ(chosen->logprobs, *ComputeLogprobs(c.logits, chosen->token, 3)) << row.isa;
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
