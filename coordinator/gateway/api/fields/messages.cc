#include "coordinator/gateway/api/fields/messages.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "coordinator/gateway/api/api_error.h"
#include "coordinator/gateway/api/fields/ignored_fields.h"
#include "coordinator/gateway/api/fields/tools.h"
#include "coordinator/gateway/text/chat_variables.h"

namespace shoal::gateway {
namespace {

using Json = nlohmann::ordered_json;

// How long and whether the model thinks, by the names that templates have for it. What
// chat_template_kwargs says counts more.
void ReadThinking(JsonReader& fields, Json& variables) {
  constexpr std::string_view kEfforts[] = {"none", "minimal", "low", "medium", "high", "xhigh"};
  std::optional<bool> thinks = fields.Bool("enable_thinking");
  if (const Json* value = fields.Find("thinking"); value != nullptr) {
    JsonReader thinking(*value, "thinking");
    const std::string type = thinking.String("type").value_or("enabled");
    if (type != "enabled" && type != "disabled") {
      throw ApiError("thinking.type", Str("thinking.type must be \"enabled\" or \"disabled\", not ",
                                          Json(type).dump()));
    }
    if (!value->empty()) thinks = type == "enabled";
  }
  if (const auto effort = fields.String("reasoning_effort"); effort) {
    if (std::ranges::find(kEfforts, *effort) == std::end(kEfforts)) {
      throw ApiError("reasoning_effort",
                     Str("reasoning_effort must be none, minimal, low, medium, high or xhigh, not ",
                         Json(*effort).dump()));
    }
    variables.emplace("reasoning_effort", *effort);
    if (*effort == "none" && !thinks) thinks = false;
  }
  if (!thinks) return;
  variables.emplace("enable_thinking", *thinks);
  variables.emplace("thinking", *thinks);
}

// As ChatForm::variables.
std::string ReadVariables(JsonReader& fields) {
  constexpr std::string_view kField = "chat_template_kwargs";
  Json variables = Json::object();
  if (const Json* given = fields.Find(kField); given != nullptr) {
    if (!given->is_object()) ThrowWrongType(std::string(kField), "an object", *given);
    for (const auto& [name, value] : given->items()) {
      if (IsFreeVariable(name)) continue;
      throw ApiError(Str(kField, ".", name),
                     Str(kField, " must have ", kFreeVariables, ": found ", Json(name).dump()));
    }
    variables = *given;
  }
  ReadThinking(fields, variables);
  return variables.empty() ? "" : variables.dump();
}

// One part of a message's content. Only an assistant can have refused.
std::string ReadPart(const Json& value, const std::string& path, bool is_assistant,
                     std::vector<std::string>& ignored) {
  JsonReader part(value, path);
  const std::string type = part.String("type").value_or("");
  if (type != "text" && !(is_assistant && type == "refusal")) {
    throw ApiError(part.Path("type"),
                   Str(part.Path("type"), " must be \"text\"",
                       is_assistant ? " or \"refusal\"" : "", ", not ", Json(type).dump()));
  }
  const auto text = part.String(type);  // Named like its type.
  if (!text) throw ApiError(part.Path(type), part.Path(type) + " is missing", "missing_field");
  for (const char* name : {"prompt_cache_breakpoint", "cache_control"}) {
    part.Find(name);  // Prefixes are found wherever they end.
  }
  NoteUnread(part, "messages.content.", ignored);
  return *text;
}

std::string ReadContent(const Json& content, const std::string& path, bool is_assistant,
                        std::vector<std::string>& ignored) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) ThrowWrongType(path, "a string or an array of text parts", content);
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    text += ReadPart(content[i], Str(path, "[", i, "]"), is_assistant, ignored);
  }
  return text;
}

std::string ReadRole(JsonReader& message) {
  const auto role = message.String("role");
  const std::string path = message.Path("role");
  if (!role) throw ApiError(path, path + " is missing", "missing_field");
  if (!IsChatRole(*role)) throw ApiError(path, Str(path, " must be ", kChatRoles));
  return *role;
}

// Whether the answer is to go on with this message: other engines' names of it.
bool ReadContinues(JsonReader& message) {
  const bool prefix = message.Bool("prefix").value_or(false);
  return message.Bool("partial").value_or(false) || prefix;
}

// What an assistant said earlier may come back with all the fields that its answer had.
ChatMessage ReadMessage(JsonReader& message, bool& continues, std::vector<std::string>& ignored) {
  ChatMessage result;
  result.role = ReadRole(message);
  const bool is_assistant = result.role == "assistant";
  result.tool_calls = ReadCalls(message, ignored);
  if (!is_assistant && !result.tool_calls.empty()) {
    throw ApiError(
        message.Path("tool_calls"),
        Str(message.Path("tool_calls"), " may only be an assistant's, not a ", result.role, "'s"));
  }
  if (message.Find("audio") != nullptr) {
    throw ApiError(message.Path("audio"),
                   message.Path("audio") + " is not supported: send its text",
                   "unsupported_parameter");
  }
  continues = ReadContinues(message);
  const Json* content = message.Find("content");
  const auto refusal = message.String("refusal");
  if (content != nullptr) {
    result.content = ReadContent(*content, message.Path("content"), is_assistant, ignored);
  } else if (is_assistant) {
    result.content = refusal.value_or("");
  } else if (result.role != "function") {
    throw ApiError(message.Path("content"), message.Path("content") + " is missing",
                   "missing_field");
  }
  result.name = message.String("name");
  result.tool_call_id = message.String("tool_call_id");
  result.reasoning = message.String("reasoning_content");
  const auto reasoning = message.String("reasoning");
  if (!result.reasoning) result.reasoning = reasoning;
  message.Find("annotations");  // No part of what the model reads.
  NoteUnread(message, "messages.", ignored);
  return result;
}

}  // namespace

Conversation ReadMessages(JsonReader& fields, ChatForm& form, std::vector<std::string>& ignored) {
  const Json* messages = fields.Find("messages");
  if (messages == nullptr) throw ApiError("messages", "messages is missing", "missing_field");
  if (!messages->is_array()) ThrowWrongType("messages", "an array", *messages);
  if (messages->empty()) throw ApiError("messages", "messages must not be empty");
  Conversation chat;
  for (size_t i = 0; i < messages->size(); ++i) {
    JsonReader message((*messages)[i], Str("messages[", i, "]"));
    bool continues = false;
    chat.push_back(ReadMessage(message, continues, ignored));
    if (!continues) continue;
    const bool is_last = i + 1 == messages->size() && chat.back().role == "assistant";
    form.continues_last = true;
    if (is_last) continue;
    throw ApiError(message.Path("prefix"),
                   Str("only the last message may have prefix or partial, and only an "
                       "assistant's: found it in messages[",
                       i, "]"));
  }
  return chat;
}

void ReadChatForm(JsonReader& fields, const Conversation& messages, ChatForm& form) {
  form.variables = ReadVariables(fields);
  const std::optional<bool> begins = fields.Bool("add_generation_prompt");
  const bool continues = fields.Bool("continue_final_message").value_or(false);
  form.begins_answer = begins.value_or(true);
  if (continues && begins == true) {
    throw ApiError("continue_final_message",
                   "continue_final_message and add_generation_prompt exclude each other: set "
                   "add_generation_prompt to false");
  }
  form.continues_last = form.continues_last || continues;
  if (!form.continues_last) return;
  const ChatMessage& last = messages.back();
  if (last.role == "assistant" && last.tool_calls.empty() && !last.content.empty()) return;
  throw ApiError(Str("messages[", messages.size() - 1, "]"),
                 Str("continue_final_message goes on with the last message, which must be an "
                     "assistant's with text and without calls: messages[",
                     messages.size() - 1, "] is ",
                     last.role == "assistant" ? "none" : "of the role " + last.role));
}

}  // namespace shoal::gateway
