#pragma once

// What the tests of choosing a token share: logits, every instruction set's sampler, and cases.

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/table.h"
#include "tests/worker/engine/choice/sampler_reference.h"
#include "worker/engine/choice/sampler.h"

namespace shoal::engine {

inline std::vector<float> RandomLogits(size_t count, uint32_t seed, float spread) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

struct NamedSampler {
  std::string isa;
  Sampler sampler;
};

// One for each instruction set that runs here.
inline std::vector<NamedSampler> EverySampler() {
  std::vector<NamedSampler> samplers;
  const uint32_t features = cpu::DetectCpuFeatures();
  for (const cpu::KernelTable& table : cpu::AllKernelTables()) {
    if ((table.required_features & ~features) != 0) continue;
    samplers.push_back({std::string(table.name), Sampler(table.choice)});
  }
  return samplers;
}

inline Sampler ScalarSampler() { return Sampler(math::kScalarChoice); }

// The case's rules, for as long as it lives.
class CaseRules {
 public:
  explicit CaseRules(const ReferenceCase& c) : rules_{.sampling = c.sampling} {
    rules_.position = c.position();
    if (HasPenalties(c.sampling)) {
      history_.Follow(c.tokens, c.prompt_count);
      rules_.history = &history_;
    }
    const auto generated = static_cast<int64_t>(c.tokens.size()) - c.prompt_count;
    if (generated < c.sampling.min_tokens) rules_.withheld = c.stop_ids;
    if (c.allowed.empty()) return;
    mask_.resize((c.allowed.size() + 63) / 64);
    for (size_t id = 0; id < c.allowed.size(); ++id) {
      if (c.allowed[id]) mask_[id / 64] |= uint64_t{1} << (id % 64);
    }
    rules_.allowed = mask_;
  }
  CaseRules(const CaseRules&) = delete;
  CaseRules& operator=(const CaseRules&) = delete;

  const ChoiceRules& get() const { return rules_; }

 private:
  TokenHistory history_;
  std::vector<uint64_t> mask_;
  ChoiceRules rules_;
};

inline int32_t Choose(Sampler& sampler, const ReferenceCase& c) {
  const CaseRules rules(c);
  std::vector<float> logits = c.logits;
  const auto chosen = sampler.Choose(logits, rules.get());
  return chosen ? chosen->token : -1;
}

// A case with some of the rules: which ones depends on the bits of `features`.
inline ReferenceCase RandomCase(std::mt19937& random, size_t vocab_size, uint32_t features) {
  ReferenceCase c;
  c.logits = RandomLogits(vocab_size, static_cast<uint32_t>(random()), 3);
  for (float& logit : c.logits) logit = std::nearbyint(logit * 8) / 8;  // Many ties.
  for (int i = 0; i < 60; ++i) {
    c.tokens.push_back(static_cast<int32_t>(random() % std::min<size_t>(vocab_size, 50)));
  }
  c.prompt_count = static_cast<int64_t>(random() % 60);
  SamplingParams& s = c.sampling;
  s.seed = random();
  s.choice = static_cast<uint32_t>(random() % 3);
  const auto one_of = [&](auto... values) {
    const double all[] = {static_cast<double>(values)...};
    return all[random() % sizeof...(values)];
  };
  s.temperature = one_of(0, 0.3, 1, 2.5);
  const auto has = [&](int bit) { return (features >> bit & 1) != 0; };
  if (has(0)) s.repetition_penalty = one_of(0.5, 1.3, 40);
  if (has(1)) s.frequency_penalty = one_of(-2, 0.7, 2);
  if (has(2)) s.presence_penalty = one_of(-1, 1.5);
  if (has(3)) s.logit_bias = {{3, -100}, {7, 2.5F}, {static_cast<int32_t>(vocab_size) - 1, 9}};
  if (has(4)) {
    s.min_tokens = 100;
    c.stop_ids = {0, 7, 7, 12};
  }
  if (has(5)) {
    for (size_t id = 0; id < vocab_size; ++id) c.allowed.push_back(random() % 4 != 0);
    c.allowed[7] = true;
  }
  if (has(6)) s.top_k = static_cast<int32_t>(one_of(1, 5, 300));
  if (has(7)) s.typical_p = one_of(0.1, 0.6, 0.97);
  if (has(8)) s.top_p = one_of(1e-9, 0.5, 0.95, 1 - 0x1p-50);
  if (has(9)) s.min_p = one_of(1e-12, 0.02, 1);
  return c;
}

constexpr uint32_t kFeatureSets = 1U << 10;

}  // namespace shoal::engine
