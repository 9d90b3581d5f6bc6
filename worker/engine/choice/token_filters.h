#pragma once

// top_k, typical_p, top_p and min_p: which tokens of a whole vocabulary are left to choose from.

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/math/choice.h"
#include "transport/base/generation/generation.h"

namespace shoal::engine {

bool FiltersByCount(const SamplingParams& sampling, size_t vocab_size);
bool FiltersByWeight(const SamplingParams& sampling);

// Threading: one thread per object; it keeps its memory from call to call.
class TokenFilters {
 public:
  explicit TokenFilters(const math::ChoiceKernels& kernels) : kernels_(kernels) {}

  // A filter must be on, the temperature above 0. `maximum` is the largest logit; removed tokens
  // are -infinity. Result: at least one token, in no particular order, valid until the next
  // call.
  // Cost: one vector pass over the vocabulary and work in the number of tokens that may be left;
  // nothing sorts more than a few.
  std::span<const int32_t> Keep(std::span<const float> logits, float maximum,
                                const SamplingParams& sampling);

  // The most memory that it keeps.
  static constexpr int64_t MemoryBytes(int64_t vocab_size) {
    constexpr int64_t kOfToken =
        sizeof(int32_t) + sizeof(float) + 2 * sizeof(uint64_t) + sizeof(Ranked);
    return vocab_size * kOfToken;
  }

 private:
  // `order` sorts; its low half is the token.
  struct Ranked {
    uint64_t order;
    uint64_t weight;
  };

  void TakeTopK(std::span<const float> logits, size_t keep);
  uint64_t TakeLikely(std::span<const float> logits, float maximum, const SamplingParams& sampling);
  math::WeightSums Weigh(float maximum, const SamplingParams& sampling);
  void KeepByWeight(std::span<const float> logits, uint64_t total, float maximum,
                    const SamplingParams& sampling);
  void RankByDistance(const math::WeightSums& sums, float maximum, double temperature);
  // Keeps the fewest of ranked_, by order, whose weights reach `goal`.
  void KeepShortestPrefix(double goal);

  const math::ChoiceKernels kernels_;
  // The tokens that are left, with their logits and weights.
  std::vector<int32_t> tokens_;
  std::vector<float> logits_;
  std::vector<uint64_t> weights_;
  std::vector<Ranked> ranked_;
  std::vector<uint64_t> orders_;
};

}  // namespace shoal::engine
