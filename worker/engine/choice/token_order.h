#pragma once

// The order of tokens by logit: a higher one first, of equal ones the lower id. -0 and +0 are
// equal.

#include <cstdint>
#include <span>
#include <vector>

namespace shoal::engine {

// Ascending numbers are tokens in order; the low half is the token.
uint64_t OrderOf(float logit, int32_t token);
inline int32_t TokenOf(uint64_t order) {
  return static_cast<int32_t>(static_cast<uint32_t>(order));
}

// The first `keep` tokens, 0 < keep <= logits.size(), as their order, in no particular order
// themselves. logits[i] belongs to token i; -infinity comes last.
void FirstTokens(std::span<const float> logits, size_t keep, std::vector<uint64_t>& orders);

}  // namespace shoal::engine
