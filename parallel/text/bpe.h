#pragma once

// Byte pair encoding of one piece of text.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "parallel/text/tokenizer_spec.h"

namespace shoal::text {

// Immutable, thread-safe.
class Bpe {
 public:
  explicit Bpe(const TokenizerSpec& spec);

  // Appends the ids of `piece`. Bytes without a token are dropped and their neighbours meet.
  // Order: the pair with the earliest merge first; among equal ones the leftmost.
  // Cost: O(n log n).
  void Encode(std::string_view piece, std::vector<int32_t>& ids) const;

 private:
  struct Result {
    int32_t rank;
    int32_t merged;
  };

  const Result* Find(int32_t left, int32_t right) const;
  void MergeAll(std::string_view piece, std::vector<int32_t>& ids) const;

  std::array<int32_t, 256> byte_ids_;  // -1: no token.
  std::unordered_map<uint64_t, Result> merges_;
  std::unordered_map<std::string, int32_t> whole_pieces_;  // Only if merges may be ignored.
};

}  // namespace shoal::text
