#pragma once

// The contents of JSON strings as machines, for what expressions cannot say: several patterns at
// once, a pattern and a length, names that are none of some others.
//
// Each character is spelled in one way only (Spelling::kJsonString), so a text that is kept out
// cannot come in under another spelling.

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "parallel/text/grammar/regular/expression.h"
#include "parallel/text/grammar/regular/machine.h"
#include "parallel/text/grammar/regular/regex.h"

namespace shoal::text::grammar {

// Refers to the expression, whose budget it uses.
class StringMachines {
 public:
  explicit StringMachines(Expression& expression) : expression_(expression) {}

  // Errors of all: kInvalidArgument beyond the budget.
  const Machine& Any();
  // Errors: also those of ParseRegex; where nothing matches; where so many derivations have to be
  // followed that some would be left out.
  const Machine& OfPattern(const std::string& pattern, RegexMatch match);
  Machine OfTexts(std::span<const std::string> texts);

  Machine Intersect(const Machine& a, const Machine& b) {
    return Machine::Intersect(a, b, expression_.machine_budget());
  }
  Machine Subtract(const Machine& a, const Machine& b) {
    return Machine::Subtract(a, b, expression_.machine_budget());
  }
  Machine WithLengths(const Machine& machine, uint32_t min, uint32_t max) {
    return machine.WithLengths(min, max, expression_.machine_budget());
  }

 private:
  Expression& expression_;
  std::map<std::pair<std::string, RegexMatch>, Machine> of_pattern_;
};

// How a JSON string spells the text, without the quotes.
std::string SpelledText(std::string_view text);

}  // namespace shoal::text::grammar
