#pragma once

// The tools that a request offers the model, and what it says of calling them.

#include <cstdint>
#include <string>

#include "coordinator/gateway/json/json_reader.h"

namespace shoal::gateway {

constexpr size_t kToolsMax = 128;
constexpr size_t kToolNameBytesMax = 64;

struct AskedTools {
  // As the chat template is given them: a JSON array of {"type": "function", "function": {...}}.
  // Empty: there are none, or the model is not to know of them (tool_choice none).
  std::string shown{};
  // Those that may be called: a JSON array of {"name", "parameters": SCHEMA, "field": what the
  // request calls the schema}.
  std::string functions{};
  bool forced = false;   // The answer must be a call.
  bool parallel = true;  // Several calls; otherwise what comes after the first is left out.
  bool legacy = false;   // functions and function_call, as they were before tools.

  bool any() const { return !shown.empty(); }
};

// Reads tools, tool_choice, parallel_tool_calls, functions and function_call. Errors: ApiError
// naming the field. Whether a schema can be made a grammar of is not looked at.
AskedTools ReadTools(JsonReader& fields, std::vector<std::string>& ignored);

// An assistant's earlier calls (tool_calls, or function_call), as ChatMessage::tool_calls; empty:
// there are none. Errors: ApiError.
std::string ReadCalls(JsonReader& message, std::vector<std::string>& ignored);

}  // namespace shoal::gateway
