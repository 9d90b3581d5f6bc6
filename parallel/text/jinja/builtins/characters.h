#pragma once

// Python's string operations on marked text: white space, case, searching.

#include <string>
#include <string_view>
#include <vector>

#include "parallel/text/jinja/evaluator.h"
#include "parallel/text/jinja/value.h"

namespace shoal::text::jinja {

enum class Side : uint8_t { kLeft, kRight, kBoth };

// Without the characters of `characters` (of white space, if null) at the sides.
Text Strip(const Text& text, Side side, const std::string* characters);

enum class Case : uint8_t { kUpper, kLower };

// Errors: kInvalidArgument for a character outside ASCII that may have two cases: it would need
// Unicode's tables, and a wrong guess would render wrongly.
Text ChangeCase(const Evaluator& evaluator, const Text& text, Case to);
// The first character upper, the rest lower.
Text Capitalize(const Evaluator& evaluator, const Text& text);

// At most `count` replacements, if it is not negative.
Text Replace(Evaluator& evaluator, const Text& text, const Text& from, const Text& to,
             int64_t count);

// str.split: at white space if `separator` is null; at most `count` cuts, if it is not negative.
std::vector<Value> Split(Evaluator& evaluator, const Text& text, const std::string* separator,
                         int64_t count);
// str.rsplit with a separator.
std::vector<Value> SplitFromRight(Evaluator& evaluator, const Text& text,
                                  const std::string& separator, int64_t count);
std::vector<Value> SplitLines(const Evaluator& evaluator, const Text& text, bool keep_ends);

}  // namespace shoal::text::jinja
