#pragma once

// Regular expressions: the part that is regular, over Unicode characters.
//
// Understood: literals, ., classes [a-z], [^...] and \d \w \s (of ASCII) with their negations,
// groups (...), (?:...) and named ones, |, the quantifiers * + ? {m} {m,} {m,n} (a lazy ? after
// them changes nothing here), ^ and $ at the ends of the whole expression's alternatives, escapes
// \n \t \r \f \v \0 \xHH \uHHHH \u{H...} and escaped punctuation. `.` is any character but \n.
// Refused by name: look-around, back references, atomic groups, possessive quantifiers, inline
// flags, word boundaries, \p{...}, anchors elsewhere.

#include <string_view>

#include "parallel/text/grammar/regular/characters.h"
#include "parallel/text/grammar/regular/expression.h"

namespace shoal::text::grammar {

enum class RegexMatch : uint8_t {
  kWhole,   // ^ and $ are implied.
  kSearch,  // Any characters may stand before and after, except where ^ and $ say otherwise.
};

// Errors: kInvalidArgument with the position, counted in bytes, and what was found there; also
// for groups nested deeper than 100 and counts above 10000.
NodeId ParseRegex(Expression& expression, std::string_view pattern, Spelling spelling,
                  RegexMatch match);

}  // namespace shoal::text::grammar
