#include "parallel/text/tools/tool_syntax.h"

// One row a format.

#include <array>
#include <utility>

namespace shoal::text {
namespace {

constexpr size_t kFormatCount = 5;

const std::array<ToolSyntax, kFormatCount>& Table() {
  static const std::array<ToolSyntax, kFormatCount> table{{
      {"hermes", {"<tool_call>"}, {"</tool_call>"}, {}, "", false},
      {"llama3", {"<|python_tag|>"}, {}, {";"}, "", true},
      {"mistral", {"[TOOL_CALLS]"}, {}, {"[TOOL_CALLS]", "[", "]", ","}, "[ARGS]", false},
      {"deepseek",
       {"<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"},
       {"<｜tool▁calls▁end｜>"},
       {"<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "```json", "```"},
       "<｜tool▁sep｜>",
       false},
      {"gemma", {"```tool_call\n", "```json\n", "```\n"}, {"```"}, {";", ",", "[", "]"}, "", true},
  }};
  return table;
}

}  // namespace

const ToolSyntax& SyntaxOf(ToolFormat format) { return Table()[static_cast<size_t>(format)]; }

std::optional<ToolFormat> FindToolFormat(std::string_view name) {
  for (size_t i = 0; i < kFormatCount; ++i) {
    if (Table()[i].name == name) return static_cast<ToolFormat>(i);
  }
  return std::nullopt;
}

std::string ToolFormatNames() {
  std::string names;
  for (const ToolSyntax& syntax : Table()) {
    if (!names.empty()) names += ", ";
    names += syntax.name;
  }
  return names;
}

ToolFormat DetectToolFormat(std::string_view chat_template) {
  constexpr std::array<std::pair<std::string_view, ToolFormat>, 7> kSigns{{
      {"<tool_call>", ToolFormat::kHermes},
      {"<｜tool▁call▁begin｜>", ToolFormat::kDeepSeek},
      {"[TOOL_CALLS]", ToolFormat::kMistral},
      {"<|python_tag|>", ToolFormat::kLlama3},
      {"<|start_header_id|>", ToolFormat::kLlama3},
      {"<start_of_turn>", ToolFormat::kGemma},
      {"[INST]", ToolFormat::kMistral},
  }};
  for (const auto& [sign, format] : kSigns) {
    if (chat_template.find(sign) != std::string_view::npos) return format;
  }
  return ToolFormat::kHermes;
}

}  // namespace shoal::text
