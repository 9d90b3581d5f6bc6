#include "parallel/text/tools/template_tools.h"

// Templates are asked rather than read: they spell the same thing in too many ways.

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "parallel/text/tools/tool_grammar.h"
#include "transport/base/error.h"

namespace shoal::text {
namespace {

using Json = nlohmann::ordered_json;

// Empty if the template refuses it.
std::string Try(const ChatTemplate& chat_template, Json messages, Json tools) {
  const Json variables = {
      {"messages", std::move(messages)}, {"tools", std::move(tools)}, {"documents", nullptr},
      {"add_generation_prompt", true},   {"bos_token", ""},           {"eos_token", ""}};
  try {
    return chat_template.Render(variables, 0).text;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInvalidArgument) throw;
    return "";
  }
}

bool Has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

Json User() { return {{"role", "user"}, {"content", "probe_question"}}; }

Json ProbeTool() {
  const Json parameter = {{"type", "string"}, {"description", "A key."}};
  return {{"type", "function"},
          {"function",
           {{"name", "probe_tool"},
            {"description", "Probes."},
            {"parameters",
             {{"type", "object"},
              {"properties", {{"probe_key", parameter}}},
              {"required", Json::array({"probe_key"})}}}}}};
}

// What comes of an assistant's call.
std::string TryCall(const ChatTemplate& chat_template, bool text_arguments, bool null_content) {
  const Json object = {{"probe_key", "probe_value"}};
  const Json arguments = text_arguments ? Json(object.dump()) : object;
  const Json call = {{"id", "abcdefghi"},  // What Mistral's templates insist on.
                     {"type", "function"},
                     {"function", {{"name", "probe_call"}, {"arguments", arguments}}}};
  const Json assistant = {{"role", "assistant"},
                          {"content", null_content ? Json(nullptr) : Json("")},
                          {"tool_calls", Json::array({call})}};
  const Json result = {{"role", "tool"},
                       {"content", "probe_result"},
                       {"name", "probe_call"},
                       {"tool_call_id", "abcdefghi"}};
  const std::string text =
      Try(chat_template, Json::array({User(), assistant, result}), Json::array({ProbeTool()}));
  const bool shows =
      Has(text, "probe_call") && Has(text, "probe_value") && Has(text, "probe_result");
  return shows ? text : "";
}

// An object that is printed is Python's notation, and a text that is made JSON is one in quotes.
bool ReadsAsJson(const std::string& text) { return Has(text, "\"probe_key\":"); }
bool ReadsAsPython(const std::string& text) { return Has(text, "'probe_key'"); }

void ProbeCalls(const ChatTemplate& chat_template, TemplateTools& known) {
  for (const bool wants_json : {true, false}) {
    for (const bool text_arguments : {false, true}) {
      for (const bool null_content : {false, true}) {
        const std::string text = TryCall(chat_template, text_arguments, null_content);
        const bool fits = wants_json ? ReadsAsJson(text)
                                     : !text.empty() && !text_arguments && !ReadsAsPython(text);
        if (!fits) continue;
        known.shows_calls = true;
        known.text_arguments = text_arguments;
        known.null_content = null_content;
        return;
      }
    }
  }
}

// How the model is told of them.
std::string Describe(const Json& tools, ToolFormat format) {
  std::string text = "You may call functions. Here is each of them, as JSON:\n<tools>\n";
  for (const Json& tool : tools) text += tool.dump() + "\n";
  const Json example = {{"name", "NAME"}, {"arguments", {{"PARAMETER", "VALUE"}}}};
  text +=
      "</tools>\n"
      "To call one, answer with its name and with arguments that fit its parameters, like "
      "this:\n";
  text += WriteCalls(format, Json::array({example}));
  text += "\nCall none if you need none. What a call returns is told to you in the next message.";
  return text;
}

void Prepend(Json& message, const std::string& text) {
  const std::string content = message["content"].is_string() ? message["content"] : "";
  message["content"] = content.empty() ? text : text + "\n\n" + content;
}

void TellOfTools(const TemplateTools& known, const std::string& text, Json& messages) {
  for (Json& message : messages) {
    const std::string role = message["role"];
    if (role == "system" || role == "developer") {
      const std::string content = message["content"].is_string() ? message["content"] : "";
      message["content"] = content.empty() ? text : content + "\n\n" + text;
      return;
    }
    if (!known.takes_system && role == "user") return Prepend(message, text);
  }
  messages.insert(messages.begin(),
                  Json{{"role", known.takes_system ? "system" : "user"}, {"content", text}});
}

// Whether brackets nest deeper than a template's values may.
bool IsDeep(const std::string& text) {
  constexpr int kDepthMax = 64;
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') in_string = !in_string;
    if (c == '\\' && in_string) ++i;
    if (in_string) continue;
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (depth > kDepthMax) return true;
  }
  return false;
}

// Arguments as the object that their text holds; what holds none stays text.
Json Arguments(const Json& value) {
  if (!value.is_string()) return value;
  const auto& text = value.get_ref<const std::string&>();
  if (IsDeep(text)) return value;
  Json object = Json::parse(text, nullptr, false);
  return object.is_object() ? object : value;
}

void FitCalls(const TemplateTools& known, Json& messages) {
  for (Json& message : messages) {
    if (!message.contains("tool_calls")) continue;
    if (known.null_content && message["content"] == "") message["content"] = nullptr;
    if (known.text_arguments) continue;
    for (Json& call : message["tool_calls"]) {
      Json& arguments = call["function"]["arguments"];
      arguments = Arguments(arguments);
    }
  }
}

void PutCallsIntoWords(ToolFormat format, Json& messages) {
  Json told = Json::array();
  bool after_result = false;
  for (Json& message : messages) {
    if (message.contains("tool_calls")) {
      Json calls = Json::array();
      for (const Json& call : message["tool_calls"]) {
        calls.push_back({{"name", call["function"]["name"]},
                         {"arguments", Arguments(call["function"]["arguments"])}});
      }
      std::string content = message["content"].is_string() ? message["content"] : "";
      if (!content.empty()) content += "\n";
      message["content"] = content + WriteCalls(format, calls);
      message.erase("tool_calls");
    }
    const bool is_result = message["role"] == "tool";
    if (is_result) {
      const std::string text =
          Str("<tool_response>\n", message["content"].get<std::string>(), "\n</tool_response>");
      message = {{"role", "user"}, {"content", text}};
      if (after_result) {
        Json& before = told.back()["content"];
        before = before.get<std::string>() + "\n" + text;
        continue;
      }
    }
    after_result = is_result;
    told.push_back(std::move(message));
  }
  messages = std::move(told);
}

}  // namespace

TemplateTools ProbeTools(const ChatTemplate& chat_template) {
  TemplateTools known;
  const Json tools = Json::array({ProbeTool()});
  known.shows_tools = Has(Try(chat_template, Json::array({User()}), tools), "probe_tool");
  const Json system = {{"role", "system"}, {"content", "probe_system"}};
  known.takes_system =
      Has(Try(chat_template, Json::array({system, User()}), nullptr), "probe_system");
  ProbeCalls(chat_template, known);
  return known;
}

void FitToTemplate(const TemplateTools& known, ToolFormat format, Json& variables) {
  Json& messages = variables["messages"];
  bool has_calls = false;
  bool has_results = false;
  for (Json& message : messages) {
    has_calls = has_calls || message.contains("tool_calls");
    // As results were called before there were tools.
    if (has_calls && message["role"] == "function") message["role"] = "tool";
    has_results = has_results || message["role"] == "tool";
  }
  if (has_calls || has_results) {
    known.shows_calls ? FitCalls(known, messages) : PutCallsIntoWords(format, messages);
  }
  const auto tools = variables.find("tools");
  if (known.shows_tools || tools == variables.end() || !tools->is_array()) return;
  TellOfTools(known, Describe(*tools, format), messages);
  variables.erase("tools");
}

std::pair<std::string, std::string> FindReasoningMarkers(std::string_view template_source) {
  constexpr std::pair<std::string_view, std::string_view> kMarkers[] = {{"<think>", "</think>"},
                                                                        {"[THINK]", "[/THINK]"}};
  for (const auto& [begin, end] : kMarkers) {
    if (template_source.find(begin) == std::string_view::npos &&
        template_source.find(end) == std::string_view::npos) {
      continue;
    }
    return {std::string(begin), std::string(end)};
  }
  return {};
}

}  // namespace shoal::text
