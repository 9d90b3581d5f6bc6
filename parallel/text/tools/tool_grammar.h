#pragma once

// What an answer must look like that calls tools, in the format that the model writes calls in.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "parallel/text/tools/tool_syntax.h"
#include "transport/base/generation/grammar_source.h"

namespace shoal::text {

constexpr uint32_t kParallelCallsMax = 16;

// The answer is one call of one of the functions, or with `parallel` up to kParallelCallsMax of
// them; AnswerReader reads it. `functions`: [{"name", "parameters": SCHEMA (absent: any object)}],
// at least one.
GrammarSource ToolCallGrammar(ToolFormat format, const nlohmann::ordered_json& functions,
                              bool parallel);

// The same calls as the model would write them. `calls`: [{"name", "arguments": any JSON, or text
// that stands for itself}], at least one.
std::string WriteCalls(ToolFormat format, const nlohmann::ordered_json& calls);

}  // namespace shoal::text
