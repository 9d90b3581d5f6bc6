#include "worker/engine/choice/token_history.h"

#include <algorithm>

namespace shoal::engine {

TokenHistory::Seen& TokenHistory::At(int32_t token) {
  const auto [entry, is_new] = index_.try_emplace(token, seen_.size());
  if (is_new) seen_.push_back({.token = token});
  return seen_[entry->second];
}

void TokenHistory::Follow(std::span<const int32_t> tokens, int64_t prompt_count) {
  const auto same = static_cast<size_t>(
      std::mismatch(tokens_.begin(), tokens_.end(), tokens.begin(), tokens.end()).first -
      tokens_.begin());
  size_t kept = same;
  if (prompt_count != prompt_count_ || static_cast<int64_t>(same) < prompt_count) {
    // Another sequence: a prompt's tokens are not counted, so they cannot be taken back one by one.
    tokens_.clear();
    seen_.clear();
    index_.clear();
    prompt_count_ = prompt_count;
    kept = 0;
  }
  for (size_t i = kept; i < tokens_.size(); ++i) --At(tokens_[i]).generated;
  tokens_.resize(kept);
  for (size_t i = kept; i < tokens.size(); ++i) {
    tokens_.push_back(tokens[i]);
    Seen& seen = At(tokens[i]);
    if (static_cast<int64_t>(i) < prompt_count) {
      seen.in_prompt = true;
    } else {
      ++seen.generated;
    }
  }
}

}  // namespace shoal::engine
