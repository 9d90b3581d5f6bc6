#pragma once

// Log-probabilities of a run of positions, in few allocations however many they are.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "transport/base/generation/generation.h"

namespace shoal::gateway {

class LogprobRun {
 public:
  using Entry = std::pair<int32_t, float>;

  void Add(const TokenLogprobs& position) { Add(position.logprob, position.top); }
  // A position that has none: nothing comes before a prompt's first token.
  void AddNone() { Add(std::nullopt, {}); }
  void Append(const LogprobRun& next) {
    for (size_t i = 0; i < next.size(); ++i) Add(next.logprob(i), next.top(i));
  }

  size_t size() const { return own_.size(); }
  bool empty() const { return own_.empty(); }
  // Numbers in it, all positions together.
  size_t entry_count() const { return own_.size() + top_.size(); }

  // Of the token itself.
  std::optional<float> logprob(size_t i) const { return own_[i]; }
  // Descending.
  std::span<const Entry> top(size_t i) const {
    const size_t begin = i == 0 ? 0 : top_ends_[i - 1];
    return std::span(top_).subspan(begin, top_ends_[i] - begin);
  }

 private:
  void Add(std::optional<float> logprob, std::span<const Entry> top) {
    own_.push_back(logprob);
    top_.insert(top_.end(), top.begin(), top.end());
    top_ends_.push_back(top_.size());
  }

  std::vector<std::optional<float>> own_;
  std::vector<Entry> top_;
  std::vector<size_t> top_ends_;  // By position.
};

}  // namespace shoal::gateway
