#pragma once

// Byte pair encoding of one piece of text.

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "parallel/text/tokenizer/merge_queue.h"
#include "parallel/text/tokenizer/tokenizer_spec.h"

namespace shoal::text {

// Immutable, thread-safe.
class Bpe {
 public:
  // A symbol of a piece: what it is, and what it and the next one merge to.
  struct Symbol {
    int32_t id;
    int32_t rank;  // Of the merge with the next; kNoMerge: there is none.
    int32_t merged;
  };

  struct LinkedSymbol {
    int32_t id;  // -1: merged into the one before.
    int32_t previous;
    int32_t next;
  };

  // Memory that the pieces of a text are merged in, one after the other. Used by one thread at a
  // time.
  struct Scratch {
    std::vector<int32_t> parts;  // What is merged: the piece's bytes or characters, as tokens.
    std::vector<Symbol> symbols;
    std::vector<LinkedSymbol> linked_symbols;
    MergeQueue queue;
  };

  explicit Bpe(const TokenizerSpec& spec);

  // Appends the ids of `piece`. Bytes without a token are dropped and their neighbours meet; of
  // characters without one CharacterVocabulary says what becomes.
  // Order: the pair with the lowest rank first; among equal ones the leftmost.
  // Cost: O(n log n), and no allocation once `scratch` has seen a piece as long.
  void Encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const;

 private:
  struct Entry {
    uint64_t pair;
    int32_t rank;
    int32_t merged;
  };
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };

  void AppendCharacters(std::string_view piece, std::vector<int32_t>& parts) const;
  void AppendCharacter(std::string_view bytes, char32_t code_point, bool& unknown_due,
                       std::vector<int32_t>& parts) const;
  size_t EntryOf(uint64_t pair) const;
  const Entry* Find(int32_t left, int32_t right) const;
  Symbol MakeSymbol(int32_t id, int32_t next) const;
  void MergeFew(Scratch& scratch, std::vector<int32_t>& ids) const;
  void MergeMany(Scratch& scratch, std::vector<int32_t>& ids) const;

  std::array<int32_t, 256> byte_ids_;  // -1: no token.
  // A hash table of the merges, at most half full: a pair is in the first entry that was free, from
  // the one of its hash on.
  std::vector<Entry> entries_;
  int hash_shift_ = 0;  // From a hash to its top bits.
  size_t rank_count_ = 0;
  std::optional<CharacterVocabulary> characters_;
  // Only if merges may be ignored.
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> whole_pieces_;
};

}  // namespace shoal::text
