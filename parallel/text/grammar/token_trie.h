#pragma once

// A vocabulary's bytes, arranged so that an automaton can try all tokens at once.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "parallel/text/grammar/regular/byte_set.h"

namespace shoal::model {
class Model;
}  // namespace shoal::model

namespace shoal::text {
class Tokenizer;
}  // namespace shoal::text

namespace shoal::text::grammar {

// Tokens with a common beginning share its nodes. Immutable.
class TokenTrie {
 public:
  struct Node {
    uint32_t end = 0;  // One past the nodes below this one, which follow it.
    uint32_t tokens_begin = 0;
    uint32_t tokens_end = 0;  // The tokens that end here; several ids may have the same bytes.
    uint16_t depth = 0;       // Bytes before this one.
    uint8_t byte = 0;
  };

  TokenTrie() = default;
  // Texts must not be empty; those longer than 2^15 bytes are left out, as no answer needs them.
  explicit TokenTrie(std::vector<std::pair<std::string, int32_t>> tokens);

  std::span<const Node> nodes() const { return nodes_; }  // Each before the nodes below it.
  std::span<const int32_t> tokens(const Node& node) const {
    return std::span(tokens_).subspan(node.tokens_begin, node.tokens_end - node.tokens_begin);
  }
  size_t depth_max() const { return depth_max_; }

 private:
  std::vector<Node> nodes_;
  std::vector<int32_t> tokens_;
  size_t depth_max_ = 0;
};

// What a model's tokens write. Immutable, thread-safe.
//
// "Plain" characters are those that JSON strings hold as they are: U+0020 and up but for " and \.
// Most tokens are made of nothing else, and inside a string they need not be tried one by one.
class GrammarVocabulary {
 public:
  // `tokens`: the bytes of each token that may be part of an answer, nothing for all others
  // (special tokens, ids that stand for nothing). `end_ids`: tokens that end an answer; their bytes
  // do not matter.
  GrammarVocabulary(std::vector<std::string> tokens, std::vector<int32_t> end_ids);

  // That of a model. Errors: kInvalidArgument if it brings no tokenizer, or one that cannot be
  // read.
  static std::shared_ptr<const GrammarVocabulary> Make(const model::Model& model);

  int32_t size() const { return static_cast<int32_t>(bytes_.size()); }
  const std::vector<int32_t>& end_ids() const { return end_ids_; }
  bool IsEnd(int32_t token) const;
  // The bytes of a token that may be part of an answer; empty for all others.
  const std::string& bytes(int32_t token) const { return bytes_[static_cast<size_t>(token)]; }
  // The bytes that have a token of their own.
  const ByteSet& single_bytes() const { return single_bytes_; }

  // Tokens of plain characters only, each of whose bytes is a token too, by their number of
  // characters (index 0 holds none).
  const std::vector<std::vector<int32_t>>& plain_tokens() const { return plain_tokens_; }
  // All of those, one bit a token.
  const std::vector<uint64_t>& plain_mask() const { return plain_mask_; }
  const TokenTrie& plain_trie() const { return plain_trie_; }
  const TokenTrie& other_trie() const { return other_trie_; }

 private:
  std::vector<std::string> bytes_;
  const std::vector<int32_t> end_ids_;
  ByteSet single_bytes_;
  std::vector<std::vector<int32_t>> plain_tokens_;
  std::vector<uint64_t> plain_mask_;
  TokenTrie plain_trie_;
  TokenTrie other_trie_;
};

// GrammarVocabulary::single_bytes of the tokenizer's model, which has `vocab_size` tokens.
ByteSet SingleBytes(const Tokenizer& tokenizer, int32_t vocab_size);

}  // namespace shoal::text::grammar
