#pragma once

// Cuts text into the pieces that byte pairs are merged in, with the model's own expressions.

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "parallel/text/tokenizer_spec.h"

namespace shoal::text {

// Immutable, thread-safe.
class PreTokenizer {
 public:
  // Errors: kInvalidArgument for an expression with a construct whose meaning differs between
  // Oniguruma, which the files are written for, and PCRE2, or one too large for machine code;
  // kFailed if the PCRE2 library has no JIT: interpreting would be some ten times slower without a
  // word.
  explicit PreTokenizer(const std::vector<SplitRule>& rules);
  ~PreTokenizer();

  // Calls `emit` with each piece of `text`, in order. A byte that is not part of well-formed UTF-8
  // is a piece of its own. Errors: kInvalidArgument when an expression hits its match limit.
  void Split(std::string_view text, const std::function<void(std::string_view)>& emit) const;

 private:
  class Expression;

  using Pieces = std::vector<std::string_view>;
  void SplitWellFormed(std::string_view text, Pieces& pieces, Pieces& scratch) const;

  std::vector<std::unique_ptr<const Expression>> expressions_;
};

}  // namespace shoal::text
