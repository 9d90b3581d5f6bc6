#pragma once

// The parameter contract: what this server does with every field of a generation's body that it
// knows. GET /v1/parameters publishes the same table that requests are checked by.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

#include "coordinator/gateway/json/json_reader.h"

namespace shoal::gateway {

enum class Endpoint : uint8_t { kCompletions, kChat };

enum class ParameterClass : uint8_t {
  kHonoured,     // Read and checked (api_request.cc).
  kNoEffect,     // Taken in any form: it has no part in the answer.
  kUnsupported,  // 400, unless its value asks for nothing.
};

struct Parameter {
  std::string_view name;
  ParameterClass what = ParameterClass::kHonoured;
  bool completions = true;  // Of which endpoints this row speaks.
  bool chat = true;
  std::string_view note;  // What it may be; for an unsupported one, what to do instead.
  // Of an unsupported one: a JSON array of the values, besides null, that ask for nothing.
  std::string_view neutral = "[]";
};

std::span<const Parameter> Parameters();

// Null if nobody here knows the field.
const Parameter* FindParameter(Endpoint endpoint, std::string_view name);

// Errors: ApiError, code unsupported_parameter, naming the first field of the object that asks for
// what this server does not do.
void RefuseUnsupported(Endpoint endpoint, const nlohmann::ordered_json& body);

// The body of GET /v1/parameters.
std::string ParametersJson();

}  // namespace shoal::gateway
