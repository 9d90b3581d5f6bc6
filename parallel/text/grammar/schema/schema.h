#pragma once

// JSON schemas: the part of them that an automaton can hold an answer to.
//
// SupportedKeywords() names what is understood, IsAnnotation (schema_keywords.h) knows what changes
// nothing. Every other keyword is refused by name and place, and so is a combination that cannot be
// held: what is accepted is never looser than the schema.
//
// - Answers match the schema, but not everything that matches is possible. Members come in the
//   order of `properties`, then of `required`, then others.
// - Without additionalProperties an object with properties or patternProperties has no others;
//   without them it is open. Names of others never equal a declared one.
// - oneOf is taken as anyOf. allOf, and keywords beside anyOf and $ref, are merged where each
//   keyword stands once or can be combined (type, enum, required, properties, patternProperties,
//   bounds); else they are refused.
// - Numbers with bounds or multipleOf are written as decimals.h says, and compared in decimal.
// - A schema without a type has the types whose keywords it uses, or any.
// - `nullable` is OpenAPI's: null may stand for whatever the rest asks for.
// - uniqueItems needs items of few values: those of enum, const, booleans and null.
// - Others count as one member for minProperties, for they may have the same name.

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "parallel/text/grammar/regular/expression.h"

namespace shoal::text::grammar {

// "type, enum, ...", for messages.
std::string_view SupportedKeywords();

// Errors: kInvalidArgument with the place ("#/properties/age/multipleOf"), what was found and what
// is supported.
NodeId CompileSchema(Expression& expression, const nlohmann::ordered_json& schema);

}  // namespace shoal::text::grammar
