// A choice is a single maximum over logits plus noise; noise is computed only for tokens that could
// still win.

#include "worker/engine/choice/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/math/scalar.h"
#include "transport/base/check.h"
#include "worker/engine/choice/token_order.h"

namespace shoal::engine {
namespace {

// Sums of weights stay below 2^63: 2^22 tokens of at most 2^40.
constexpr size_t kVocabularyMax = size_t{1} << 22;

// Tokens whose noise is bounded together: few enough that the best so far rules out most of the
// next ones.
constexpr int64_t kNoiseChunk = 4096;

// From so many tokens on, a pass over the whole vocabulary costs less than one by one.
constexpr size_t kManyTokens = 512;

// The noise of one choice.
class Noise {
 public:
  explicit Noise(const ChoiceRules& rules) : rules_(rules) {}

  double Score(float logit, int32_t token) const {
    return Scaled(logit) + math::GumbelNoise(rules_.sampling.seed, rules_.position,
                                             static_cast<uint32_t>(token), rules_.sampling.choice);
  }
  double Scaled(float logit) const { return double{logit} / rules_.sampling.temperature; }

 private:
  const ChoiceRules& rules_;
};

Candidate PlainMaximum(std::span<const float> logits, int32_t first_token, float maximum) {
  const auto top = std::find(logits.begin(), logits.end(), maximum);
  return {double{maximum}, first_token + static_cast<int32_t>(top - logits.begin())};
}

void CheckArguments(std::span<const float> logits, const SamplingParams& sampling) {
  SHOAL_CHECK(logits.size() <= kVocabularyMax, "vocabulary of ", logits.size());
  SHOAL_CHECK(sampling.temperature == 0 || sampling.temperature >= kTemperatureMin, "temperature ",
              sampling.temperature);
}

}  // namespace

bool ChoosesByMaximum(const SamplingParams& sampling) {
  return sampling.temperature == 0 || (sampling.top_k == 0 && !FiltersByWeight(sampling));
}

Candidate Better(const Candidate& a, const Candidate& b) {
  if (std::isnan(a.score)) return a;
  if (std::isnan(b.score)) return b;
  if (a.token < 0 || b.token < 0) return a.token < 0 ? b : a;
  if (a.withheld != b.withheld) return a.withheld < b.withheld ? a : b;
  if (a.score != b.score) return a.score > b.score ? a : b;
  return a.token < b.token ? a : b;
}

Candidate Sampler::NoisyMaximum(std::span<const float> logits, int32_t first_token,
                                const ChoiceRules& rules) {
  const Noise noise(rules);
  Candidate best{-std::numeric_limits<double>::infinity(), -1};
  const auto consider = [&](size_t index) {
    const int32_t token = first_token + static_cast<int32_t>(index);
    best = Better(best, {noise.Score(logits[index], token), token});
  };
  const auto count = static_cast<int64_t>(logits.size());
  // The best logit first: its score rules out most of the others.
  const float largest = kernels_.largest(logits.data(), count).value;
  consider(static_cast<size_t>(std::find(logits.begin(), logits.end(), largest) - logits.begin()));
  indices_.resize(kNoiseChunk);
  for (int64_t begin = 0; begin < count; begin += kNoiseChunk) {
    const int64_t found = kernels_.noisy({.logits = logits.data() + begin,
                                          .count = std::min(kNoiseChunk, count - begin),
                                          .first_token = static_cast<uint32_t>(first_token + begin),
                                          .seed = rules.sampling.seed,
                                          .position = rules.position,
                                          .choice = rules.sampling.choice,
                                          .temperature = rules.sampling.temperature,
                                          .score_min = best.score},
                                         indices_.data());
    for (int64_t i = 0; i < found; ++i) consider(static_cast<size_t>(begin + indices_[i]));
  }
  return best;
}

Candidate Sampler::NoisyMaximumOf(std::span<const int32_t> tokens, std::span<const float> logits,
                                  const ChoiceRules& rules) {
  const auto logit_of = [&](int32_t token) { return logits[static_cast<size_t>(token)]; };
  if (tokens.size() > kManyTokens) {
    left_.assign(logits.size(), -std::numeric_limits<float>::infinity());
    for (const int32_t token : tokens) left_[static_cast<size_t>(token)] = logit_of(token);
    return NoisyMaximum(left_, 0, rules);
  }
  const Noise noise(rules);
  const int32_t top = *std::max_element(tokens.begin(), tokens.end(), [&](int32_t a, int32_t b) {
    return logit_of(a) < logit_of(b);
  });
  Candidate best{noise.Score(logit_of(top), top), top};
  for (const int32_t token : tokens) {
    if (noise.Scaled(logit_of(token)) + math::kNoiseMax < best.score) continue;
    best = Better(best, {noise.Score(logit_of(token), token), token});
  }
  return best;
}

Candidate Sampler::BestOfRange(std::span<float> logits, int32_t first_token,
                               const ChoiceRules& rules) {
  CheckArguments(logits, rules.sampling);
  SHOAL_CHECK(ChoosesByMaximum(rules.sampling), "the ranges' maxima do not decide");
  if (logits.empty()) return {};
  const auto count = static_cast<int64_t>(logits.size());
  math::LargestLogit largest = kernels_.largest(logits.data(), count);
  if (!largest.finite) return {std::numeric_limits<double>::quiet_NaN(), -1};
  RangeLeft left = RangeLeft::kTokens;
  if (rules.edits()) {
    left = EditLogits(logits, first_token, rules);
    if (left == RangeLeft::kNothing) return {};
    largest = kernels_.largest(logits.data(), count);
  }
  Candidate best = rules.sampling.temperature == 0
                       ? PlainMaximum(logits, first_token, largest.value)
                       : NoisyMaximum(logits, first_token, rules);
  best.withheld = left == RangeLeft::kOnlyWithheld ? 1 : 0;
  return best;
}

int32_t Sampler::ChooseLeft(std::span<const float> logits, float maximum,
                            const ChoiceRules& rules) {
  const SamplingParams& sampling = rules.sampling;
  if (sampling.temperature == 0) return PlainMaximum(logits, 0, maximum).token;
  if (!FiltersByCount(sampling, logits.size()) && !FiltersByWeight(sampling)) {
    return NoisyMaximum(logits, 0, rules).token;
  }
  return NoisyMaximumOf(filters_.Keep(logits, maximum, sampling), logits, rules).token;
}

std::optional<Chosen> Sampler::Choose(std::span<float> logits, const ChoiceRules& rules,
                                      int32_t top_count) {
  CheckArguments(logits, rules.sampling);
  SHOAL_CHECK(!logits.empty(), "no logits");
  const auto count = static_cast<int64_t>(logits.size());
  math::LargestLogit largest = kernels_.largest(logits.data(), count);
  if (!largest.finite) return std::nullopt;
  Chosen chosen;
  std::optional<Normalizer> normalizer;
  if (top_count >= 0) {
    normalizer = Normalize(logits, largest.value);
    ListBest(logits, *normalizer, top_count, chosen.logprobs);
  }
  if (!rules.edits()) {
    chosen.token = ChooseLeft(logits, largest.value, rules);
    if (normalizer) chosen.logprobs.logprob = (*normalizer)(logits[chosen.token]);
    return chosen;
  }
  if (normalizer) raw_.assign(logits.begin(), logits.end());
  if (EditLogits(logits, 0, rules) == RangeLeft::kNothing) return std::nullopt;
  largest = kernels_.largest(logits.data(), count);
  chosen.token = ChooseLeft(logits, largest.value, rules);
  if (normalizer) chosen.logprobs.logprob = (*normalizer)(raw_[chosen.token]);
  return chosen;
}

Sampler::Normalizer Sampler::Normalize(std::span<const float> logits, float maximum) const {
  const math::WeightSums sums = kernels_.weights({.logits = logits.data(),
                                                  .count = static_cast<int64_t>(logits.size()),
                                                  .maximum = maximum,
                                                  .temperature = 1,
                                                  .weights = nullptr,
                                                  .moments = false});
  return {maximum, math::Log(static_cast<double>(sums.weights) * 0x1p-40)};
}

void Sampler::ListBest(std::span<const float> logits, const Normalizer& normalizer,
                       int32_t top_count, TokenLogprobs& logprobs) {
  const size_t count = std::min(static_cast<size_t>(std::max(top_count, 0)), logits.size());
  if (count == 0) return;
  FirstTokens(logits, count, orders_);
  std::sort(orders_.begin(), orders_.end());
  for (const uint64_t order : orders_) {
    const int32_t token = TokenOf(order);
    logprobs.top.emplace_back(token, normalizer(logits[static_cast<size_t>(token)]));
  }
}

std::optional<TokenLogprobs> Sampler::ComputeLogprobs(std::span<const float> logits, int32_t token,
                                                      int32_t top_count) {
  SHOAL_CHECK(logits.size() <= kVocabularyMax, "vocabulary of ", logits.size());
  SHOAL_CHECK(token >= 0 && static_cast<size_t>(token) < logits.size(), "token ", token, " of ",
              logits.size());
  const auto count = static_cast<int64_t>(logits.size());
  const math::LargestLogit largest = kernels_.largest(logits.data(), count);
  if (!largest.finite) return std::nullopt;
  const Normalizer normalizer = Normalize(logits, largest.value);
  TokenLogprobs logprobs;
  logprobs.logprob = normalizer(logits[static_cast<size_t>(token)]);
  ListBest(logits, normalizer, top_count, logprobs);
  return logprobs;
}

}  // namespace shoal::engine
