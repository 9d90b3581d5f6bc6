#pragma once

// The grammars of running sequences: what each may choose next, as a function of its tokens so far.

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "parallel/text/grammar/matcher.h"
#include "transport/base/generation/grammar_source.h"

namespace shoal::engine {

// Compiled grammars by their source, so that equal ones are compiled once and share their masks.
// Keeps those in use, and some more. The vocabulary is made when it is first needed.
// Threading: thread-compatible.
class GrammarCache {
 public:
  using MakeVocabulary = std::function<std::shared_ptr<const text::grammar::GrammarVocabulary>()>;

  explicit GrammarCache(MakeVocabulary make_vocabulary)
      : make_vocabulary_(std::move(make_vocabulary)) {}

  // Errors: kInvalidArgument, as CompileGrammar and GrammarVocabulary::Make.
  std::shared_ptr<text::grammar::MaskedGrammar> Get(const GrammarSource& source);

 private:
  struct Entry {
    GrammarSource source;
    std::shared_ptr<text::grammar::MaskedGrammar> grammar;
  };

  void DropUnused();

  const MakeVocabulary make_vocabulary_;
  std::shared_ptr<const text::grammar::GrammarVocabulary> vocabulary_;
  std::list<Entry> entries_;  // The last used first.
};

// Where one sequence stands in its grammar.
// Threading: thread-compatible; those of several sequences may share a grammar.
class GrammarState {
 public:
  explicit GrammarState(std::shared_ptr<text::grammar::MaskedGrammar> grammar);

  // The tokens that may follow `generated`, as ChoiceRules::allowed; valid until the next call.
  // Tokens that break the grammar, as drafts of a speculation may, leave only the end.
  // Cost: that of one more token, where `generated` grew by it; going back some tokens costs
  // nothing, going back further means beginning again.
  std::span<const uint64_t> Allowed(std::span<const int32_t> generated);

 private:
  struct Point {
    text::grammar::GrammarMatcher matcher;  // After the tokens up to this one.
    bool broken = false;
  };

  void Follow(std::span<const int32_t> generated);

  const std::shared_ptr<text::grammar::MaskedGrammar> grammar_;
  std::vector<int32_t> tokens_;
  std::deque<Point> points_;  // One after each of the last tokens; the latest at the end.
  std::shared_ptr<const text::grammar::TokenMask> mask_;
};

}  // namespace shoal::engine
