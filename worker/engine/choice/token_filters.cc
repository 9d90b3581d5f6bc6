// top_p and min_p can keep only tokens whose logit is not far below the largest, so the tokens that
// are looked at one by one are few; a bound on their logits decides which, and leaves room for
// every rounding. The prefix that a filter keeps is found by halving, never by sorting everything.

#include "worker/engine/choice/token_filters.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/math/scalar.h"
#include "transport/base/check.h"
#include "worker/engine/choice/token_order.h"

namespace shoal::engine {
namespace {

// Weights are RNE(exp(x) * 2^40).
constexpr double kLogOfOne = 40 * 0.6931471805599453;

// An exponent x such that the tokens below it weigh, together, at most half of what top_p leaves
// out. A token below ln(t * 2^-40) weighs less than 2 t after rounding, or nothing.
double TopPFloor(double top_p, uint64_t total, size_t count) {
  const double left_out = 1 - top_p;
  if (left_out < 0x1p-40) return math::kNoWeight;  // Half of it could be less than a rounding.
  const double t = left_out * static_cast<double>(total) / (4 * static_cast<double>(count));
  return std::max<double>(math::kNoWeight, math::Log(t) - kLogOfOne);
}

double MinPFloor(double min_p) {
  return std::max<double>(math::kNoWeight, math::Log(min_p) - 1e-3);
}

// Every token whose exponent is at least `floor` has at least this logit, which is finite.
float LeastLogit(double floor, float maximum, double temperature) {
  const double distance = floor * temperature;
  const double least = double{maximum} + distance;
  const double slack = (std::abs(double{maximum}) - distance) * 0x1p-20;
  return static_cast<float>(std::max<double>(least - slack, std::numeric_limits<float>::lowest()));
}

}  // namespace

bool FiltersByCount(const SamplingParams& sampling, size_t vocab_size) {
  return sampling.top_k > 0 && static_cast<size_t>(sampling.top_k) < vocab_size;
}

bool FiltersByWeight(const SamplingParams& sampling) {
  return sampling.typical_p < 1 || sampling.top_p < 1 || sampling.min_p > 0;
}

void TokenFilters::TakeTopK(std::span<const float> logits, size_t keep) {
  FirstTokens(logits, keep, orders_);
  for (const uint64_t order : orders_) {
    const int32_t token = TokenOf(order);
    const float logit = logits[static_cast<size_t>(token)];
    if (logit < std::numeric_limits<float>::lowest()) continue;
    tokens_.push_back(token);
    logits_.push_back(logit);
  }
}

math::WeightSums TokenFilters::Weigh(float maximum, const SamplingParams& sampling) {
  weights_.resize(tokens_.size());
  return kernels_.weights({.logits = logits_.data(),
                           .count = static_cast<int64_t>(logits_.size()),
                           .maximum = maximum,
                           .temperature = sampling.temperature,
                           .weights = weights_.data(),
                           .moments = sampling.typical_p < 1});
}

// Tokens by the distance of their exponent from the mean, then by id.
void TokenFilters::RankByDistance(const math::WeightSums& sums, float maximum, double temperature) {
  const double mean =  // The mean of -x.
      static_cast<double>(sums.moments) / static_cast<double>(sums.weights);
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (weights_[i] == 0) continue;
    const double x = math::WeightExponent(logits_[i], maximum, temperature);
    const auto distance = static_cast<float>(std::abs(x + mean));
    ranked_.push_back(
        {(uint64_t{std::bit_cast<uint32_t>(distance)} << 32) | static_cast<uint32_t>(tokens_[i]),
         weights_[i]});
  }
}

// Halves the range in which the prefix ends. nth_element may order equal elements in any way: the
// sums are of integers, so the result is the same.
void TokenFilters::KeepShortestPrefix(double goal) {
  const auto before = [](const Ranked& a, const Ranked& b) { return a.order < b.order; };
  const auto at = [&](size_t i) { return ranked_.begin() + static_cast<ptrdiff_t>(i); };
  uint64_t sum = 0;  // The weights of what lies before `begin`.
  size_t begin = 0;
  size_t end = ranked_.size();
  while (end - begin > 1) {
    const size_t middle = begin + (end - begin) / 2;
    std::nth_element(at(begin), at(middle), at(end), before);
    uint64_t half = 0;
    for (size_t i = begin; i < middle; ++i) half += ranked_[i].weight;
    if (static_cast<double>(sum + half) >= goal) {
      end = middle;
    } else {
      sum += half;
      begin = middle;
    }
  }
  ranked_.resize(end);
}

void TokenFilters::KeepByWeight(std::span<const float> logits, uint64_t total, float maximum,
                                const SamplingParams& sampling) {
  const math::WeightSums sums = Weigh(maximum, sampling);
  ranked_.clear();
  if (sampling.typical_p < 1) {
    RankByDistance(sums, maximum, sampling.temperature);
    KeepShortestPrefix(sampling.typical_p * static_cast<double>(sums.weights));
    total = 0;
    for (Ranked& entry : ranked_) {
      const int32_t token = TokenOf(entry.order);
      entry.order = OrderOf(logits[static_cast<size_t>(token)], token);
      total += entry.weight;
    }
  } else {
    for (size_t i = 0; i < tokens_.size(); ++i) {
      ranked_.push_back({OrderOf(logits_[i], tokens_[i]), weights_[i]});
    }
    if (total == 0) total = sums.weights;
  }
  if (sampling.top_p < 1) KeepShortestPrefix(sampling.top_p * static_cast<double>(total));
  uint64_t heaviest = 0;
  for (const Ranked& entry : ranked_) heaviest = std::max(heaviest, entry.weight);
  const double least = sampling.min_p * static_cast<double>(heaviest);
  tokens_.clear();
  for (const Ranked& entry : ranked_) {
    if (static_cast<double>(entry.weight) >= least) tokens_.push_back(TokenOf(entry.order));
  }
}

// Result: the sum of all tokens' weights if top_p needs it, else 0.
uint64_t TokenFilters::TakeLikely(std::span<const float> logits, float maximum,
                                  const SamplingParams& sampling) {
  uint64_t total = 0;
  double floor = math::kNoWeight;
  if (sampling.typical_p == 1 && sampling.top_p < 1) {
    total = kernels_
                .weights({.logits = logits.data(),
                          .count = static_cast<int64_t>(logits.size()),
                          .maximum = maximum,
                          .temperature = sampling.temperature,
                          .weights = nullptr,
                          .moments = false})
                .weights;
    floor = TopPFloor(sampling.top_p, total, logits.size());
  } else if (sampling.typical_p == 1) {
    floor = MinPFloor(sampling.min_p);
  }
  const float least = LeastLogit(floor, maximum, sampling.temperature);
  for (size_t token = 0; token < logits.size(); ++token) {
    if (logits[token] < least) continue;
    tokens_.push_back(static_cast<int32_t>(token));
    logits_.push_back(logits[token]);
  }
  return total;
}

std::span<const int32_t> TokenFilters::Keep(std::span<const float> logits, float maximum,
                                            const SamplingParams& sampling) {
  tokens_.clear();
  logits_.clear();
  // Once, instead of growing to twice as much; what is not used is never touched.
  tokens_.reserve(logits.size());
  logits_.reserve(logits.size());
  weights_.reserve(logits.size());
  ranked_.reserve(logits.size());
  const bool by_count = FiltersByCount(sampling, logits.size());
  const bool by_weight = FiltersByWeight(sampling);
  SHOAL_CHECK(by_count || by_weight, "no filter is on");
  uint64_t total = 0;
  if (by_count) {
    TakeTopK(logits, static_cast<size_t>(sampling.top_k));
  } else {
    total = TakeLikely(logits, maximum, sampling);
  }
  if (by_weight) KeepByWeight(logits, total, maximum, sampling);
  SHOAL_CHECK(!tokens_.empty(), "the filters left no token");
  return tokens_;
}

}  // namespace shoal::engine
