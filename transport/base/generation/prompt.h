#pragma once

// What a client may send to be continued.

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace shoal {

struct ChatMessage {
  std::string role;  // system, developer, user, assistant, tool, function
  std::string content;
  std::optional<std::string> name{};  // Of who speaks, for templates that show it.
  // What an assistant called: a JSON array of {"id", "type": "function", "function": {"name",
  // "arguments": JSON as text}}; empty: nothing.
  std::string tool_calls{};
  std::optional<std::string> tool_call_id{};  // Of the call whose result this is.
  std::optional<std::string> reasoning{};     // What the assistant thought before it spoke.

  bool operator==(const ChatMessage&) const = default;
};
using Conversation = std::vector<ChatMessage>;

// What the model's chat template is told beside the messages.
struct ChatForm {
  // A JSON array of {"type": "function", "function": {"name", ...}}; empty: there are none.
  std::string tools{};
  std::string variables{};      // A JSON object: what templates know by other names. Empty: none.
  bool continues_last = false;  // The answer goes on with the last message, an assistant's.
  bool begins_answer = true;    // The prompt ends with how an answer begins.

  bool operator==(const ChatForm&) const = default;
};

// Token ids, taken as they are; a text, encoded by the model's BOS rule, special tokens recognised;
// or a conversation, put through the model's chat template.
using PromptInput = std::variant<std::vector<int32_t>, std::string, Conversation>;

}  // namespace shoal
