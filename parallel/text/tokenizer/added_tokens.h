#pragma once

// Finds the tokens that are cut out of a text before it is pre-tokenized.

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "parallel/text/tokenizer/tokenizer.h"
#include "parallel/text/tokenizer/tokenizer_spec.h"

namespace shoal::text {

// Immutable, thread-safe.
class AddedTokenFinder {
 public:
  // Takes those of `tokens` whose `normalized` flag is as given.
  AddedTokenFinder(const std::vector<AddedToken>& tokens, bool normalized);

  struct Segment {
    ByteRange range;
    int32_t id = -1;  // -1: text between tokens.
  };

  // Cuts text[range] into segments, in order: at each position the longest token that is allowed
  // there. A special token is allowed where it shares no byte with `plain` (ordered, disjoint).
  // Cost: O(n * the longest token).
  void Find(std::string_view text, ByteRange range, std::span<const ByteRange> plain,
            const std::function<void(const Segment&)>& emit) const;

  bool empty() const { return tokens_.empty(); }

 private:
  const AddedToken* LongestAt(std::string_view text, size_t at, size_t end,
                              size_t plain_begin) const;

  std::vector<AddedToken> tokens_;
  // A tree of the tokens' bytes: (node, byte) -> node. Node 0 is the root.
  std::unordered_map<uint64_t, uint32_t> edges_;
  std::vector<int32_t> token_of_node_;  // Index into tokens_, or -1.
  std::array<bool, 256> first_bytes_{};
};

}  // namespace shoal::text
