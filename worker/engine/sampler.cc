// Choosing a token. top_k, top_p and min_p all keep a prefix of one order (logit descending, then
// token ascending), so each is a bar that a token's key must reach; the arg max over what is left
// is then a single pass that computes noise only for tokens which could still win.

#include "worker/engine/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "kernels/math/scalar.h"
#include "transport/base/check.h"

namespace shoal::engine {
namespace {

constexpr double kOne = 0x1p40;  // Weights are RNE(exp(x) * 2^40).

// Below this, exp(x) * 2^40 rounds to 0: ln(2^-41) = -28.42.
constexpr float kNoWeight = -29;

// Above every value of the noise: -ln(2^-33) = 22.88.
constexpr double kNoiseMax = 22.9;

// Sums of weights stay below 2^63: 2^22 tokens of at most 2^40.
constexpr size_t kVocabularyMax = size_t{1} << 22;

// Buckets of the top_p histogram: equal steps of x over (kNoWeight, 0].
constexpr int kBucketsPerUnit = 32;
constexpr int kBucketCount = 29 * kBucketsPerUnit + 1;

// Orders tokens: a higher logit first, of equal ones the lower id. -0 and +0 are equal.
uint64_t Key(float logit, size_t token) {
  const auto bits = std::bit_cast<uint32_t>(logit + 0.0F);
  const uint32_t ordered = (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
  return (uint64_t{ordered} << 32) | static_cast<uint32_t>(~token);
}

size_t TokenOf(uint64_t key) { return static_cast<uint32_t>(~key); }

// The largest logit, or NaN if one is not finite. There must be at least one.
float MaximumOf(std::span<const float> logits) {
  uint32_t invalid = 0;
  float maximum = logits[0];
  for (const float logit : logits) {
    invalid |= (std::bit_cast<uint32_t>(logit) & 0x7f800000U) == 0x7f800000U ? 1U : 0U;
    maximum = logit > maximum ? logit : maximum;
  }
  return invalid != 0 ? std::numeric_limits<float>::quiet_NaN() : maximum;
}

// The exponent of a token's weight once logits are divided by the temperature. Far below kNoWeight
// it stops, because a quotient beyond the range of float has no defined conversion.
float Scaled(float logit, float maximum, double temperature) {
  const double x = (double{logit} - double{maximum}) / temperature;
  return x < -1000 ? -1000.0F : static_cast<float>(x);
}

// TODO(perf): sums over the vocabulary compute the exponential one by one; a vector row of it, as
// attention has, would make top_p and log-probabilities several times cheaper.
uint64_t Weight(float x) {
  if (x < kNoWeight) return 0;
  // Adding 1.5 * 2^52 rounds a double below 2^51 to an integer, to nearest even.
  constexpr double kRound = 0x1.8p52;
  return static_cast<uint64_t>((double{math::Exp(x)} * kOne + kRound) - kRound);
}

// The key of the `keep`-th best token.
uint64_t TopKBar(std::span<const float> logits, size_t keep) {
  std::vector<uint64_t> keys;
  if (keep <= 256) {
    // A heap of the best so far, the worst of them in front: one pass that rarely touches the heap.
    keys.reserve(keep + 1);
    for (size_t token = 0; token < logits.size(); ++token) {
      const uint64_t key = Key(logits[token], token);
      if (keys.size() == keep && key < keys.front()) continue;
      keys.push_back(key);
      std::push_heap(keys.begin(), keys.end(), std::greater<>());
      if (keys.size() > keep) {
        std::pop_heap(keys.begin(), keys.end(), std::greater<>());
        keys.pop_back();
      }
    }
    return keys.front();
  }
  keys.resize(logits.size());
  for (size_t token = 0; token < logits.size(); ++token) keys[token] = Key(logits[token], token);
  const auto nth = keys.begin() + static_cast<ptrdiff_t>(keep - 1);
  std::nth_element(keys.begin(), nth, keys.end(), std::greater<>());
  return *nth;
}

int BucketOf(float x) { return static_cast<int>(-x * static_cast<float>(kBucketsPerUnit)); }

// The key of the last token of the shortest prefix of those at or above `bar` whose weights reach
// top_p of their sum. Sorts one bucket of a histogram, not the vocabulary.
uint64_t TopPBar(std::span<const float> logits, float maximum, const SamplingParams& sampling,
                 uint64_t bar) {
  std::array<uint64_t, kBucketCount> sums{};
  uint64_t total = 0;
  for (size_t token = 0; token < logits.size(); ++token) {
    const float x = Scaled(logits[token], maximum, sampling.temperature);
    if (x < kNoWeight || Key(logits[token], token) < bar) continue;
    const uint64_t weight = Weight(x);
    sums[static_cast<size_t>(BucketOf(x))] += weight;
    total += weight;
  }
  const double goal = sampling.top_p * static_cast<double>(total);
  const auto reached = [goal](uint64_t sum) { return static_cast<double>(sum) >= goal; };

  uint64_t sum = 0;
  int bucket = 0;
  while (bucket + 1 < kBucketCount && !reached(sum + sums[static_cast<size_t>(bucket)])) {
    sum += sums[static_cast<size_t>(bucket)];
    ++bucket;
  }
  std::vector<uint64_t> keys;
  for (size_t token = 0; token < logits.size(); ++token) {
    const float x = Scaled(logits[token], maximum, sampling.temperature);
    if (x < kNoWeight || BucketOf(x) != bucket) continue;
    const uint64_t key = Key(logits[token], token);
    if (key >= bar) keys.push_back(key);
  }
  std::sort(keys.begin(), keys.end(), std::greater<>());
  for (const uint64_t key : keys) {
    sum += Weight(Scaled(logits[TokenOf(key)], maximum, sampling.temperature));
    if (reached(sum)) return key;
  }
  SHOAL_CHECK(!keys.empty(), "no token reaches top_p ", sampling.top_p);
  return keys.back();
}

// What is left after the filters.
struct Filter {
  uint64_t bar = 0;  // Keys at or above it.
  float maximum = 0;
  double temperature = 1;
  double weight_min = 0;  // min_p of the best token's weight, which is kOne.

  bool Keeps(float logit, size_t token) const {
    if (bar != 0 && Key(logit, token) < bar) return false;
    if (weight_min == 0) return true;
    return static_cast<double>(Weight(Scaled(logit, maximum, temperature))) >= weight_min;
  }
};

// At least the noise whose random word is `word`: 1 - u = (~word + 0.5) * 2^-32, and -ln(u) >= 1 -
// u.
double NoiseBound(uint32_t word) {
  constexpr double kLn2 = 0.6931471805599454;  // Rounded up.
  const uint32_t rest = ~word;
  const int exponent = rest == 0 ? -1 : 31 - std::countl_zero(rest);
  return kLn2 * (32 - exponent) + 1e-6;
}

// Pruning is by upper bounds alone, so the result is the arg max over everything kept.
Candidate NoisyMaximum(std::span<const float> logits, int32_t first_token, const Filter& filter,
                       const SamplingParams& sampling, uint32_t position) {
  Candidate best{-std::numeric_limits<double>::infinity(), -1};
  const std::array<uint32_t, 2> key{static_cast<uint32_t>(sampling.seed),
                                    static_cast<uint32_t>(sampling.seed >> 32)};
  uint32_t quad = std::numeric_limits<uint32_t>::max();
  std::array<uint32_t, 4> words{};
  const auto consider = [&](size_t index) {
    const double scaled = double{logits[index]} / sampling.temperature;
    if (scaled + kNoiseMax < best.score) return;
    const auto token = static_cast<uint32_t>(first_token) + static_cast<uint32_t>(index);
    if (quad != token / 4) {
      quad = token / 4;
      words = math::Philox4x32({position, quad, sampling.choice, 0}, key);
    }
    if (scaled + NoiseBound(words[token % 4]) < best.score) return;
    if (!filter.Keeps(logits[index], index)) return;
    const double score =
        scaled + math::GumbelNoise(sampling.seed, position, token, sampling.choice);
    best = Better(best, Candidate{score, static_cast<int32_t>(token)});
  };
  // The best logit first: its score rules out most of the others.
  const auto top = std::max_element(logits.begin(), logits.end());
  consider(static_cast<size_t>(top - logits.begin()));
  for (size_t index = 0; index < logits.size(); ++index) consider(index);
  return best;
}

Candidate PlainMaximum(std::span<const float> logits, int32_t first_token, float maximum) {
  const auto top = std::find(logits.begin(), logits.end(), maximum);
  return {double{maximum}, first_token + static_cast<int32_t>(top - logits.begin())};
}

void CheckParams(std::span<const float> logits, const SamplingParams& sampling) {
  SHOAL_CHECK(logits.size() <= kVocabularyMax, "vocabulary of ", logits.size());
  SHOAL_CHECK(sampling.temperature == 0 || sampling.temperature >= 1e-5, "temperature ",
              sampling.temperature);
}

}  // namespace

bool ChoosesByMaximum(const SamplingParams& sampling) {
  if (sampling.temperature == 0) return true;  // The filters never remove the best token.
  return sampling.top_k == 0 && sampling.top_p >= 1 && sampling.min_p == 0;
}

Candidate Better(const Candidate& a, const Candidate& b) {
  if (std::isnan(a.score)) return a;
  if (std::isnan(b.score)) return b;
  if (a.token < 0 || b.token < 0) return a.token < 0 ? b : a;
  if (a.score != b.score) return a.score > b.score ? a : b;
  return a.token < b.token ? a : b;
}

Candidate BestOfRange(std::span<const float> logits, int32_t first_token,
                      const SamplingParams& sampling, uint32_t position) {
  CheckParams(logits, sampling);
  if (logits.empty()) return {};
  const float maximum = MaximumOf(logits);
  if (std::isnan(maximum)) return {std::numeric_limits<double>::quiet_NaN(), -1};
  if (sampling.temperature == 0) return PlainMaximum(logits, first_token, maximum);
  return NoisyMaximum(logits, first_token, Filter{}, sampling, position);
}

std::optional<int32_t> ChooseToken(std::span<const float> logits, const SamplingParams& sampling,
                                   uint32_t position) {
  CheckParams(logits, sampling);
  SHOAL_CHECK(!logits.empty(), "no logits");
  const float maximum = MaximumOf(logits);
  if (std::isnan(maximum)) return std::nullopt;
  if (sampling.temperature == 0) return PlainMaximum(logits, 0, maximum).token;

  Filter filter{.bar = 0,
                .maximum = maximum,
                .temperature = sampling.temperature,
                .weight_min = sampling.min_p * kOne};
  const auto keep = static_cast<size_t>(std::max(sampling.top_k, 0));
  if (keep > 0 && keep < logits.size()) filter.bar = TopKBar(logits, keep);
  if (sampling.top_p < 1) filter.bar = TopPBar(logits, maximum, sampling, filter.bar);
  return NoisyMaximum(logits, 0, filter, sampling, position).token;
}

std::optional<TokenLogprobs> ComputeLogprobs(std::span<const float> logits, int32_t token,
                                             int32_t top_count) {
  SHOAL_CHECK(logits.size() <= kVocabularyMax, "vocabulary of ", logits.size());
  SHOAL_CHECK(token >= 0 && static_cast<size_t>(token) < logits.size(), "token ", token, " of ",
              logits.size());
  const float maximum = MaximumOf(logits);
  if (std::isnan(maximum)) return std::nullopt;

  uint64_t sum = 0;
  for (const float logit : logits) sum += Weight(logit - maximum);
  const double log_sum = math::Log(static_cast<double>(sum) * 0x1p-40);
  const auto logprob = [&](size_t id) {
    return static_cast<float>(double{logits[id] - maximum} - log_sum);
  };

  TokenLogprobs result;
  result.logprob = logprob(static_cast<size_t>(token));
  const size_t count = std::min(static_cast<size_t>(std::max(top_count, 0)), logits.size());
  if (count == 0) return result;
  const uint64_t bar = TopKBar(logits, count);
  std::vector<uint64_t> keys;
  for (size_t id = 0; id < logits.size(); ++id) {
    const uint64_t key = Key(logits[id], id);
    if (key >= bar) keys.push_back(key);
  }
  std::sort(keys.begin(), keys.end(), std::greater<>());
  for (const uint64_t key : keys) {
    const size_t id = TokenOf(key);
    result.top.emplace_back(static_cast<int32_t>(id), logprob(id));
  }
  return result;
}

}  // namespace shoal::engine
