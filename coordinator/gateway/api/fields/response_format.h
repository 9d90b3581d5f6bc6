#pragma once

// The ways in which a request can ask for an answer of some structure.

#include <string>

#include "coordinator/gateway/json/json_reader.h"
#include "transport/base/generation/grammar_source.h"

namespace shoal::gateway {

struct AskedGrammar {
  GrammarSource source;
  std::string param;  // The field it came from, such as "response_format.json_schema.schema".
};

// Reads response_format (text, json_object, json_schema), structured_outputs ({"json"},
// {"json_object"}, {"regex"} or {"choice"}), guided_json, guided_regex and guided_choice, and the
// other names json_schema and regex; at most one of them may ask for something. `strict` of a
// json_schema may be either: answers always hold to the schema. Errors: ApiError naming the field.
// What the schema or expression itself says is not looked at.
AskedGrammar ReadGrammar(JsonReader& fields);

}  // namespace shoal::gateway
