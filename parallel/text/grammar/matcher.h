#pragma once

// Which tokens may come next in an answer that must match a grammar.

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "parallel/text/grammar/regular/automaton.h"
#include "parallel/text/grammar/token_trie.h"

namespace shoal::text::grammar {

// One bit a token of the vocabulary.
struct TokenMask {
  std::vector<uint64_t> words;

  bool Has(int32_t token) const {
    return ((words[static_cast<size_t>(token) / 64] >> (token % 64)) & 1) != 0;
  }
  void Add(int32_t token) { words[static_cast<size_t>(token) / 64] |= uint64_t{1} << (token % 64); }
};

class GrammarMatcher;

// An expression, a vocabulary, and the masks of the states met so far. Masks are functions of
// expression, vocabulary and the text so far, whatever was asked before.
// Threading: thread-safe; GrammarMatchers of several threads may share one.
class MaskedGrammar {
 public:
  // Errors: kInvalidArgument if the vocabulary has no end token.
  MaskedGrammar(std::shared_ptr<const Expression> expression,
                std::shared_ptr<const GrammarVocabulary> vocabulary);
  ~MaskedGrammar();

  const GrammarVocabulary& vocabulary() const { return *vocabulary_; }
  // The end tokens alone.
  const std::shared_ptr<const TokenMask>& end_mask() const { return end_mask_; }
  // About how many bytes are kept. Beyond a few MiB all but the matchers' own states is dropped,
  // and made anew as needed.
  size_t memory_bytes() const;

 private:
  friend class GrammarMatcher;
  class States;  // An automaton and its masks.

  // Drops what no matcher needs, if there is much of it.
  void Collect();

  const std::shared_ptr<const Expression> expression_;
  const std::shared_ptr<const GrammarVocabulary> vocabulary_;
  const std::shared_ptr<const TokenMask> end_mask_;
  mutable std::mutex mutex_;  // Guards what follows, and the states of the matchers.
  std::unique_ptr<States> states_;
  std::unordered_set<GrammarMatcher*> matchers_;  // All matchers of this grammar.
  size_t bytes_max_;
};

// How far one answer has come in its grammar. A copy is a point to come back to.
// Threading: thread-compatible.
class GrammarMatcher {
 public:
  explicit GrammarMatcher(std::shared_ptr<MaskedGrammar> grammar);
  GrammarMatcher(const GrammarMatcher& other);
  GrammarMatcher& operator=(const GrammarMatcher& other) = delete;
  ~GrammarMatcher();

  // The tokens that may come next; at least one. End tokens are among them exactly when the text so
  // far matches; after one only end tokens are.
  // Cost: a look-up where the state was met before; else at most some thousand automaton steps,
  // for states that are neither inside a string nor particular some hundred thousand. A bound on
  // the work, some tenth of a second, may leave tokens of several bytes out; their bytes can
  // still come one by one.
  std::shared_ptr<const TokenMask> Allowed();

  // Goes on by one token. Result: false, and nothing changes, if the grammar forbids it.
  bool Accept(int32_t token);

  bool ended() const { return ended_; }  // An end token was taken.

 private:
  friend class MaskedGrammar;

  const std::shared_ptr<MaskedGrammar> grammar_;
  Automaton::State state_ = Automaton::kDead;
  bool ended_ = false;
};

}  // namespace shoal::text::grammar
