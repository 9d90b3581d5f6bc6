#include "tests/worker/engine/choice/sampler_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/math/scalar.h"

namespace shoal::engine {
namespace {

struct Token {
  int32_t id;
  float logit;
  double x;         // Exponent.
  uint64_t weight;  // 2^40 for x = 0.
};

float Rounded(double x) {
  const double highest = std::numeric_limits<float>::max();
  return static_cast<float>(std::min(std::max(x, -highest), highest));
}

uint64_t Total(const std::vector<Token>& tokens) {
  uint64_t total = 0;
  for (const Token& token : tokens) total += token.weight;
  return total;
}

// The shortest beginning whose weights reach p of all.
void KeepPrefix(std::vector<Token>& tokens, double p, uint64_t total) {
  uint64_t sum = 0;
  size_t count = 0;
  while (count < tokens.size() && static_cast<double>(sum) < p * static_cast<double>(total)) {
    sum += tokens[count++].weight;
  }
  tokens.resize(count);
}

void SortByLogit(std::vector<Token>& tokens) {
  std::sort(tokens.begin(), tokens.end(), [](const Token& a, const Token& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  });
}

void KeepTypical(std::vector<Token>& tokens, double typical_p) {
  std::erase_if(tokens, [](const Token& token) { return token.weight == 0; });
  uint64_t moments = 0;
  for (const Token& token : tokens) {
    const double e = math::Exp(static_cast<float>(token.x));
    moments += static_cast<uint64_t>(std::llrint(e * -token.x * 0x1p40));
  }
  const double mean = static_cast<double>(moments) / static_cast<double>(Total(tokens));
  const auto distance = [&](const Token& token) {
    return static_cast<float>(std::fabs(token.x + mean));
  };
  std::sort(tokens.begin(), tokens.end(), [&](const Token& a, const Token& b) {
    return distance(a) != distance(b) ? distance(a) < distance(b) : a.id < b.id;
  });
  KeepPrefix(tokens, typical_p, Total(tokens));
  SortByLogit(tokens);
}

}  // namespace

std::vector<std::optional<float>> EditedByDefinition(const ReferenceCase& c) {
  const SamplingParams& s = c.sampling;
  std::vector<float> values;
  for (int32_t id = 0; id < static_cast<int32_t>(c.logits.size()); ++id) {
    const auto end_of_prompt = c.tokens.begin() + c.prompt_count;
    const auto all = std::count(c.tokens.begin(), c.tokens.end(), id);
    const auto generated = std::count(end_of_prompt, c.tokens.end(), id);
    float value = c.logits[static_cast<size_t>(id)];
    if (all > 0) {
      double x = value;
      x = x > 0 ? x / s.repetition_penalty : x * s.repetition_penalty;
      x -= static_cast<double>(generated) * s.frequency_penalty;
      if (generated > 0) x -= s.presence_penalty;
      value = Rounded(x);
    }
    for (const LogitBias& entry : s.logit_bias) {
      if (entry.token == id) value = Rounded(double{value} + double{entry.bias});
    }
    values.push_back(value);
  }
  const bool too_early = static_cast<int64_t>(c.tokens.size()) - c.prompt_count < s.min_tokens;
  std::vector<std::optional<float>> left(values.size());
  // Without stop ids first; with them if nothing is left.
  for (const bool with_stops : {!too_early, true}) {
    for (size_t id = 0; id < values.size(); ++id) {
      const bool stops = std::count(c.stop_ids.begin(), c.stop_ids.end(), id) > 0;
      if ((with_stops || !stops) && (c.allowed.empty() || c.allowed[id])) left[id] = values[id];
    }
    if (std::any_of(left.begin(), left.end(), [](const auto& x) { return x.has_value(); })) break;
  }
  return left;
}

std::vector<int32_t> KeptByDefinition(const std::vector<std::optional<float>>& logits,
                                      const SamplingParams& sampling) {
  std::vector<Token> tokens;
  float maximum = std::numeric_limits<float>::lowest();
  for (const auto& logit : logits) maximum = std::max(maximum, logit.value_or(maximum));
  for (size_t id = 0; id < logits.size(); ++id) {
    if (!logits[id]) continue;
    Token token{static_cast<int32_t>(id), *logits[id], 0, 0};
    const double x = (double{token.logit} - double{maximum}) / sampling.temperature;
    token.x = x < -1000 ? -1000 : static_cast<float>(x);
    if (token.x >= -29) {
      token.weight = static_cast<uint64_t>(
          std::llrint(double{math::Exp(static_cast<float>(token.x))} * 0x1p40));
    }
    tokens.push_back(token);
  }
  SortByLogit(tokens);
  if (sampling.top_k > 0 && static_cast<size_t>(sampling.top_k) < tokens.size()) {
    tokens.resize(static_cast<size_t>(sampling.top_k));
  }
  if (sampling.typical_p < 1) KeepTypical(tokens, sampling.typical_p);
  if (sampling.top_p < 1) KeepPrefix(tokens, sampling.top_p, Total(tokens));
  uint64_t heaviest = 0;
  for (const Token& token : tokens) heaviest = std::max(heaviest, token.weight);
  if (sampling.min_p > 0) {
    std::erase_if(tokens, [&](const Token& token) {
      return static_cast<double>(token.weight) < sampling.min_p * static_cast<double>(heaviest);
    });
  }
  std::vector<int32_t> kept;
  for (const Token& token : tokens) kept.push_back(token.id);
  std::sort(kept.begin(), kept.end());
  return kept;
}

int32_t ChosenByDefinition(const ReferenceCase& c) {
  const std::vector<std::optional<float>> logits = EditedByDefinition(c);
  std::vector<int32_t> kept;
  if (c.sampling.temperature == 0) {
    for (size_t id = 0; id < logits.size(); ++id) {
      if (logits[id]) kept.push_back(static_cast<int32_t>(id));
    }
  } else {
    kept = KeptByDefinition(logits, c.sampling);
  }
  double best = -std::numeric_limits<double>::infinity();
  int32_t chosen = -1;
  for (const int32_t id : kept) {
    double score = *logits[static_cast<size_t>(id)];
    if (c.sampling.temperature > 0) {
      score = score / c.sampling.temperature + math::GumbelNoise(c.sampling.seed, c.position(),
                                                                 static_cast<uint32_t>(id),
                                                                 c.sampling.choice);
    }
    if (score > best) {
      best = score;
      chosen = id;
    }
  }
  return chosen;
}

}  // namespace shoal::engine
