#pragma once

// Choosing a token by the words of kernels/ARITHMETIC.md, section 6, without a shortcut: every
// token is looked at, everything is sorted, every kept token gets its noise.

#include <cstdint>
#include <optional>
#include <vector>

#include "transport/base/generation/generation.h"

namespace shoal::engine {

struct ReferenceCase {
  std::vector<float> logits{};
  SamplingParams sampling{};
  std::vector<int32_t> tokens{};  // The sequence so far; the next token's position is its length.
  int64_t prompt_count = 0;
  std::vector<int32_t> stop_ids{};
  std::vector<bool> allowed{};  // By token; empty: all.

  uint32_t position() const { return static_cast<uint32_t>(tokens.size()); }
};

// The logits after penalties and bias; nothing for tokens that must not be chosen.
std::vector<std::optional<float>> EditedByDefinition(const ReferenceCase& c);

// The ids that top_k, typical_p, top_p and min_p keep of them, ascending.
std::vector<int32_t> KeptByDefinition(const std::vector<std::optional<float>>& logits,
                                      const SamplingParams& sampling);

int32_t ChosenByDefinition(const ReferenceCase& c);

}  // namespace shoal::engine
