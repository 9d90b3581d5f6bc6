#include "coordinator/gateway/text/chat_variables.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "coordinator/gateway/json/strict_json.h"
#include "coordinator/gateway/text/request_error.h"
#include "transport/base/utf8.h"

namespace shoal::gateway {
namespace {

using Json = nlohmann::ordered_json;
using Kind = RequestError::Kind;

Json Parse(const std::string& text, const std::string& field) {
  try {
    return ParseStrictJson(text);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInvalidArgument) throw;
    throw RequestError(Kind::kInvalid, field, Str(field, " is ", error.what()));
  }
}

// An array of objects.
Json ParseArray(const std::string& text, const std::string& field) {
  Json array = Parse(text, field);
  const bool fits = array.is_array() &&
                    std::ranges::all_of(array, [](const Json& one) { return one.is_object(); });
  if (fits) return array;
  throw RequestError(Kind::kInvalid, field, field + " must be a JSON array of objects");
}

Json ParseCalls(const std::string& text, const std::string& field) {
  Json calls = ParseArray(text, field);
  for (size_t i = 0; i < calls.size(); ++i) {
    const Json& call = calls[i];
    const bool fits = call.contains("function") && call["function"].is_object() &&
                      call["function"].contains("name") && call["function"]["name"].is_string() &&
                      call["function"].contains("arguments") &&
                      call["function"]["arguments"].is_string();
    if (fits) continue;
    throw RequestError(Kind::kInvalid, Str(field, "[", i, "]"),
                       Str(field, "[", i,
                           "] must be {\"id\", \"type\": \"function\", \"function\": "
                           "{\"name\": text, \"arguments\": JSON as text}}"));
  }
  return calls;
}

Json MessageVariables(const ChatMessage& message, const std::string& path) {
  if (!IsChatRole(message.role)) {
    throw RequestError(Kind::kInvalid, path + ".role", Str(path, ".role must be ", kChatRoles));
  }
  CheckUtf8(message.content, path + ".content");
  Json entry = {{"role", message.role}, {"content", message.content}};
  const auto add = [&](const char* name, const std::optional<std::string>& text) {
    if (!text) return;
    CheckUtf8(*text, Str(path, ".", name));
    entry[name] = *text;
  };
  add("name", message.name);
  add("tool_call_id", message.tool_call_id);
  add("reasoning_content", message.reasoning);
  if (!message.tool_calls.empty()) {
    entry["tool_calls"] = ParseCalls(message.tool_calls, path + ".tool_calls");
  }
  return entry;
}

}  // namespace

bool IsChatRole(std::string_view role) {
  constexpr std::string_view kRoles[] = {"system",    "developer", "user",
                                         "assistant", "tool",      "function"};
  return std::ranges::find(kRoles, role) != std::end(kRoles);
}

bool IsFreeVariable(std::string_view name) {
  constexpr std::string_view kTaken[] = {"messages", "tools", "add_generation_prompt",
                                         "continue_final_message"};
  return std::ranges::find(kTaken, name) == std::end(kTaken) && !name.ends_with("_token");
}

void CheckUtf8(const std::string& text, const std::string& field) {
  if (IsWellFormedUtf8(text)) return;
  throw RequestError(Kind::kInvalid, field, field + " must be UTF-8, and is not");
}

Json ChatVariables(const Conversation& chat, const ChatForm& form, const std::string& field) {
  if (chat.empty()) throw RequestError(Kind::kInvalid, field, field + " must not be empty");
  Json variables = Json::object();
  if (!form.variables.empty()) {
    variables = Parse(form.variables, "template_variables");
    if (!variables.is_object()) {
      throw RequestError(Kind::kInvalid, "template_variables",
                         "template_variables must be a JSON object");
    }
    for (const auto& [name, value] : variables.items()) {
      if (IsFreeVariable(name)) continue;
      throw RequestError(Kind::kInvalid, "template_variables",
                         Str("template_variables must have ", kFreeVariables, ": found ", name));
    }
  }
  Json& messages = variables["messages"] = Json::array();
  for (size_t i = 0; i < chat.size(); ++i) {
    messages.push_back(MessageVariables(chat[i], Str(field, "[", i, "]")));
  }
  if (!form.tools.empty()) variables["tools"] = ParseArray(form.tools, "tools");
  variables["add_generation_prompt"] = form.begins_answer && !form.continues_last;
  if (form.continues_last) {
    if (chat.back().role != "assistant" || !chat.back().tool_calls.empty()) {
      throw RequestError(Kind::kInvalid, field,
                         Str(field, "[", chat.size() - 1,
                             "] cannot be gone on with: the last "
                             "message must be an assistant's without calls, not a ",
                             chat.back().role, "'s"));
    }
    variables["continue_final_message"] = true;
  }
  return variables;
}

}  // namespace shoal::gateway
