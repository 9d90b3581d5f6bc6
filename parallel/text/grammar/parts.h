#pragma once

// Answers made of several parts: fixed text around what schemas and regular expressions describe.
//
// A part is one of
//   "text"                           itself
//   {"schema": SCHEMA}               JSON that matches it
//   {"regex": "..."}                 text that all of it matches
//   {"any_of": [PARTS, PARTS, ...]}  one of these
//   {"repeat": PARTS, "separator": "text", "min": 1, "max": 8}
//                                    so many of them, with the text in between; "max" left out: any
// and PARTS an array of parts, one after another.

#include <nlohmann/json_fwd.hpp>

#include "parallel/text/grammar/regular/expression.h"

namespace shoal::text::grammar {

constexpr int kPartsDepthMax = 8;

// Errors: kInvalidArgument with the place ("parts[1].any_of[0]"), what was found and what a part
// may be; and those of CompileSchema and ParseRegex, with the place.
NodeId CompileParts(Expression& expression, const nlohmann::ordered_json& parts);

}  // namespace shoal::text::grammar
