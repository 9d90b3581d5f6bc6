#pragma once

// How the families of models write calls of tools into their answers.
//
// Source: the chat templates that the models come with (Hermes 2 Pro and Qwen 2.5 / 3, Llama 3.1
// and 3.2, Mistral 7B v0.3 and later, DeepSeek V3, R1 and V3.1, Gemma 3's function calling guide).

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::text {

enum class ToolFormat : uint8_t {
  kHermes,    // <tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>; also what is asked of
              // models whose template knows no tools.
  kLlama3,    // {"name": "f", "parameters": {}} as the whole answer, or after <|python_tag|>.
  kMistral,   // [TOOL_CALLS][{"name": "f", "arguments": {}}], or [TOOL_CALLS]f[ARGS]{}.
  kDeepSeek,  // <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}\n```
              // <｜tool▁call▁end｜><｜tool▁calls▁end｜>; V3.1: f<｜tool▁sep｜>{} in between.
  kGemma,  // {"name": "f", "parameters": {}} as the whole answer, or in a code fence.
};

// What is the same for all calls of a format.
struct ToolSyntax {
  std::string_view name;  // "hermes", for --tool-format.
  // What begins calls, and what ends them: after that comes text, or another beginning.
  std::vector<std::string_view> begins;
  std::vector<std::string_view> ends;
  // What stands around calls and says nothing.
  std::vector<std::string_view> noise;
  // Between what kind of tool it is and its name, or between name and arguments.
  std::string_view separator;
  // An object that the answer begins with is a call if its members are a call's.
  bool bare = false;
};

const ToolSyntax& SyntaxOf(ToolFormat format);
// None if there is none of that name.
std::optional<ToolFormat> FindToolFormat(std::string_view name);
std::string ToolFormatNames();  // "hermes, llama3, ...", for messages.

// By what the source of a chat template says to the model or shows it; kHermes where it tells
// nothing of calls.
ToolFormat DetectToolFormat(std::string_view chat_template);

}  // namespace shoal::text
