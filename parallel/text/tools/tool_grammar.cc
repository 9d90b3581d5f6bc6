#include "parallel/text/tools/tool_grammar.h"

// A call is what stands before the name, the name, what stands before the arguments, they, and what
// stands after them.

#include <nlohmann/json.hpp>

namespace shoal::text {
namespace {

using Json = nlohmann::ordered_json;

// How calls are spelled where the answer may be nothing else.
struct Spelling {
  std::string begin{};  // Of all calls.
  std::string before_name;
  std::string before_arguments;
  std::string after_arguments;
  std::string separator;
  std::string end{};
};

Spelling SpellingOf(ToolFormat format) {
  switch (format) {
    case ToolFormat::kHermes:
      return {.before_name = "<tool_call>\n{\"name\": \"",
              .before_arguments = "\", \"arguments\": ",
              .after_arguments = "}\n</tool_call>",
              .separator = "\n"};
    case ToolFormat::kLlama3:
    case ToolFormat::kGemma:
      return {.before_name = "{\"name\": \"",
              .before_arguments = "\", \"parameters\": ",
              .after_arguments = "}",
              .separator = "; "};
    case ToolFormat::kMistral:
      return {.begin = "[TOOL_CALLS][",
              .before_name = "{\"name\": \"",
              .before_arguments = "\", \"arguments\": ",
              .after_arguments = "}",
              .separator = ", ",
              .end = "]"};
    case ToolFormat::kDeepSeek:
      return {.begin = "<｜tool▁calls▁begin｜>",
              .before_name = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
              .before_arguments = "\n```json\n",
              .after_arguments = "\n```<｜tool▁call▁end｜>",
              .separator = "\n",
              .end = "<｜tool▁calls▁end｜>"};
  }
  return {};
}

}  // namespace

GrammarSource ToolCallGrammar(ToolFormat format, const Json& functions, bool parallel) {
  const Spelling spelling = SpellingOf(format);
  Json calls = Json::array();
  for (const Json& function : functions) {
    const Json schema = function.value("parameters", Json{{"type", "object"}});
    calls.push_back(Json::array(
        {spelling.before_name + function["name"].get<std::string>() + spelling.before_arguments,
         Json{{"schema", schema}}, spelling.after_arguments}));
  }
  const Json one = Json::array({Json{{"any_of", std::move(calls)}}});
  Json parts = Json::array();
  if (!spelling.begin.empty()) parts.push_back(spelling.begin);
  parts.push_back(Json{{"repeat", one},
                       {"separator", spelling.separator},
                       {"min", 1},
                       {"max", parallel ? kParallelCallsMax : 1}});
  if (!spelling.end.empty()) parts.push_back(spelling.end);
  return {GrammarKind::kParts, parts.dump()};
}

std::string WriteCalls(ToolFormat format, const Json& calls) {
  const Spelling spelling = SpellingOf(format);
  std::string text = spelling.begin;
  for (size_t i = 0; i < calls.size(); ++i) {
    const Json& arguments = calls[i]["arguments"];
    if (i > 0) text += spelling.separator;
    text += spelling.before_name + calls[i]["name"].get<std::string>() + spelling.before_arguments;
    text += arguments.is_string() ? arguments.get<std::string>() : arguments.dump();
    text += spelling.after_arguments;
  }
  return text + spelling.end;
}

}  // namespace shoal::text
