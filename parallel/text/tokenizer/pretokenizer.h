#pragma once

// Cuts text into the pieces that byte pairs are merged in, with the model's own expressions.

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "parallel/text/tokenizer/tokenizer_spec.h"

namespace shoal::text {

// Immutable, thread-safe.
class PreTokenizer {
 public:
  // Errors: kInvalidArgument for an expression with a construct whose meaning differs between
  // Oniguruma, which the files are written for, and PCRE2, or one too large for machine code;
  // kFailed if the PCRE2 library has no JIT: without it matching would silently be ten times
  // slower.
  explicit PreTokenizer(const std::vector<SplitRule>& rules);
  ~PreTokenizer();

  // What matching works in: PCRE2's match data and machine stack, which cost more to make than a
  // match does, and lists of pieces. Used by one thread at a time.
  class Scratch {
   public:
    Scratch();
    ~Scratch();

   private:
    friend class PreTokenizer;
    struct Parts;
    const std::unique_ptr<Parts> parts_;
  };

  // Calls `emit` with each piece of `text`, in order. A byte that is not part of well-formed UTF-8
  // is a piece of its own. Errors: kInvalidArgument when an expression hits its match limit.
  void Split(std::string_view text, Scratch& scratch,
             const std::function<void(std::string_view)>& emit) const;

 private:
  class Expression;

  void SplitWellFormed(std::string_view text, Scratch::Parts& scratch) const;

  std::vector<std::unique_ptr<const Expression>> expressions_;
};

}  // namespace shoal::text
