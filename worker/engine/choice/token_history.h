#pragma once

// How often each token occurs in a sequence, for penalties.

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace shoal::engine {

class TokenHistory {
 public:
  struct Seen {
    int32_t token = 0;
    bool in_prompt = false;
    uint32_t generated = 0;  // How often.
  };

  // Becomes the history of `tokens`, of which the first prompt_count are the prompt.
  // Cost: a comparison with the tokens of the last call, then work for those that differ; one more
  // token of the same sequence is one count.
  void Follow(std::span<const int32_t> tokens, int64_t prompt_count);

  // Each token at most once, in no particular order. Tokens that left again stay listed, as neither
  // in the prompt nor generated.
  std::span<const Seen> seen() const { return seen_; }

 private:
  Seen& At(int32_t token);

  std::vector<int32_t> tokens_;
  int64_t prompt_count_ = 0;
  std::vector<Seen> seen_;
  std::unordered_map<int32_t, size_t> index_;  // Into seen_.
};

}  // namespace shoal::engine
