// Tokens are drawn with their exact probabilities: Pearson's chi-square over many seeds and
// positions. Seeds are fixed, so the tests are deterministic; of all seeds, one in a million fails.

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/worker/engine/choice/sampler_cases.h"

namespace shoal::engine {
namespace {

constexpr double kSignificance = 1e-6;
constexpr int kDraws = 40'000;

// The regularised upper incomplete gamma function by its continued fraction (modified Lentz), or
// one minus its series where that converges faster.
double UpperGamma(double a, double x) {
  const double scale = std::exp(a * std::log(x) - x - std::lgamma(a));
  if (x < a + 1) {
    double term = 1 / a;
    double sum = term;
    for (double n = a + 1; term > sum * 1e-15; ++n) sum += term *= x / n;
    return 1 - scale * sum;
  }
  double b = x + 1 - a;
  double c = 1e300;
  double d = 1 / b;
  double fraction = d;
  for (int i = 1; i < 1000; ++i) {
    const double numerator = -i * (i - a);
    b += 2;
    d = 1 / (numerator * d + b);
    c = b + numerator / c;
    fraction *= c * d;
    if (std::fabs(c * d - 1) < 1e-15) break;
  }
  return scale * fraction;
}

// How often a chi-square variable exceeds `statistic`.
double TailProbability(double statistic, double freedom) {
  return UpperGamma(freedom / 2, statistic / 2);
}

TEST(TailProbability, HasTheTablesQuantiles) {
  EXPECT_NEAR(TailProbability(3.841, 1), 0.05, 1e-4);
  EXPECT_NEAR(TailProbability(18.307, 10), 0.05, 1e-4);
  EXPECT_NEAR(TailProbability(23.928, 1), 1e-6, 1e-9);
  EXPECT_NEAR(TailProbability(99.607, 60), 0.001, 1e-5);
}

// Exact probabilities of the tokens that are kept.
std::vector<double> Probabilities(const ReferenceCase& c) {
  const auto logits = EditedByDefinition(c);
  std::vector<double> probabilities(logits.size(), 0);
  double total = 0;
  for (const int32_t id : KeptByDefinition(logits, c.sampling)) {
    const auto index = static_cast<size_t>(id);
    total += probabilities[index] = std::exp(double{*logits[index]} / c.sampling.temperature);
  }
  for (double& probability : probabilities) probability /= total;
  return probabilities;
}

// Pearson's statistic of the counts; tokens expected fewer than 10 times share a class.
double PValue(const std::vector<double>& probabilities, const std::vector<int>& counts) {
  double statistic = 0;
  double rare_expected = 0;
  double rare_count = 0;
  int classes = 0;
  const auto add = [&](double count, double expected) {
    statistic += (count - expected) * (count - expected) / expected;
    ++classes;
  };
  for (size_t id = 0; id < counts.size(); ++id) {
    const double expected = probabilities[id] * kDraws;
    if (probabilities[id] == 0) {
      EXPECT_EQ(counts[id], 0) << "token " << id << " was not kept";
    } else if (expected < 10) {
      rare_expected += expected;
      rare_count += counts[id];
    } else {
      add(counts[id], expected);
    }
  }
  if (rare_expected > 0) add(rare_count, rare_expected);
  EXPECT_GE(classes, 4) << "too few tokens for a test";
  return TailProbability(statistic, classes - 1);
}

struct Draw {
  std::string name;
  SamplingParams sampling;
};

void PrintTo(const Draw& draw, std::ostream* out) { *out << draw.name; }

class DrawnTokens : public ::testing::TestWithParam<Draw> {};

TEST_P(DrawnTokens, HaveTheirExactProbabilities) {
  ReferenceCase c;
  c.logits = RandomLogits(60, 5, 1.5F);
  c.tokens = {1, 1, 2, 3, 3, 3, 4};
  c.prompt_count = 3;
  c.sampling = GetParam().sampling;
  const std::vector<double> probabilities = Probabilities(c);
  for (NamedSampler& row : EverySampler()) {
    std::vector<int> counts(c.logits.size());
    TokenHistory history;
    history.Follow(c.tokens, c.prompt_count);
    ChoiceRules rules = {.sampling = c.sampling};
    if (HasPenalties(c.sampling)) rules.history = &history;
    for (int draw = 0; draw < kDraws; ++draw) {
      // Seeds, positions and choices: each of them makes the noise another.
      c.sampling.seed = static_cast<uint64_t>(draw / 200) * 0x9e3779b97f4a7c15ULL;
      c.sampling.choice = static_cast<uint32_t>(draw % 2);
      rules.position = static_cast<uint32_t>(draw / 2 % 100);
      std::vector<float> logits = c.logits;
      ++counts[static_cast<size_t>(row.sampler.Choose(logits, rules)->token)];
    }
    EXPECT_GT(PValue(probabilities, counts), kSignificance) << row.isa;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Filters, DrawnTokens,
    ::testing::Values(
        Draw{"temperature_1", {.temperature = 1}}, Draw{"temperature_low", {.temperature = 0.4}},
        Draw{"temperature_high", {.temperature = 3}},
        Draw{"top_k", {.temperature = 0.8, .top_k = 12}},
        Draw{"top_p", {.temperature = 1.4, .top_p = 0.8}},
        Draw{"min_p", {.temperature = 1, .min_p = 0.15}},
        Draw{"typical_p", {.temperature = 1, .typical_p = 0.7}},
        Draw{"all_filters",
             {.temperature = 1.5, .top_k = 40, .top_p = 0.9, .min_p = 0.02, .typical_p = 0.95}},
        Draw{"penalties",
             {.temperature = 1,
              .repetition_penalty = 1.5,
              .frequency_penalty = 0.5,
              .presence_penalty = -1,
              .logit_bias = {{10, 3}, {11, -100}}}}),
    [](const auto& info) { return info.param.name; });

// Tokens of neighbouring positions, seeds and choices are independent: pairs have the products of
// their probabilities.
TEST(DrawnPairs, AreIndependentAcrossPositionsSeedsAndChoices) {
  const std::vector<float> logits = {0.3F, -0.2F, 1, 0.5F, -1};
  const SamplingParams sampling = {.temperature = 1};
  const std::vector<double> single = Probabilities({.logits = logits, .sampling = sampling});
  std::vector<double> expected;
  for (const double a : single) {
    for (const double b : single) expected.push_back(a * b);
  }
  Sampler sampler = ScalarSampler();
  const auto draw = [&](uint64_t seed, uint32_t position, uint32_t choice) {
    SamplingParams drawn = sampling;
    drawn.seed = seed;
    drawn.choice = choice;
    std::vector<float> copy = logits;
    return static_cast<size_t>(
        sampler.Choose(copy, {.sampling = drawn, .position = position})->token);
  };
  std::vector<int> positions(expected.size());
  std::vector<int> seeds(expected.size());
  std::vector<int> choices(expected.size());
  for (uint32_t i = 0; i < kDraws; ++i) {
    ++positions[draw(1, 2 * i, 0) * single.size() + draw(1, 2 * i + 1, 0)];
    ++seeds[draw(2 * i, 7, 0) * single.size() + draw(2 * i + 1, 7, 0)];
    ++choices[draw(3, i, 0) * single.size() + draw(3, i, 1)];
  }
  EXPECT_GT(PValue(expected, positions), kSignificance);
  EXPECT_GT(PValue(expected, seeds), kSignificance);
  EXPECT_GT(PValue(expected, choices), kSignificance);
}

}  // namespace
}  // namespace shoal::engine
