#pragma once

// JSON schemas: the part of them that an automaton can hold an answer to.
//
// Supported: type (also lists), enum, const, properties, required, additionalProperties, items,
// prefixItems, minItems, maxItems, minLength, maxLength, pattern, format (date-time, date, time,
// uuid, email, ipv4), minimum, maximum, exclusiveMinimum, exclusiveMaximum, anyOf, oneOf, allOf,
// $ref into the same document, $defs, definitions, true and {}. Annotations (title, description,
// default, examples, ...) change nothing. Every other keyword is refused by name and place.
//
// - Answers match the schema, but not everything that matches is possible. Members come in the
//   order of `properties`, then of `required`, then others.
// - Without additionalProperties an object with properties has no others; without properties it is
//   open. Names of others never equal a declared one.
// - oneOf is taken as anyOf. allOf, and keywords beside anyOf, are merged where each keyword stands
//   once or can be combined (type, required, properties); else they are refused.
// - Bounds of a `number` must be whole; bounded numbers have no exponent.
// - A schema without a type has the types whose keywords it uses, or any.
// - `pattern` and `format` exclude each other and the lengths.

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "parallel/text/grammar/expression.h"

namespace shoal::text::grammar {

// "type, enum, ...", for messages.
std::string_view SupportedKeywords();

// Errors: kInvalidArgument with the place ("#/properties/age/multipleOf"), what was found and what
// is supported.
NodeId CompileSchema(Expression& expression, const nlohmann::ordered_json& schema);

}  // namespace shoal::text::grammar
