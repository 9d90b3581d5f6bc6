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

  bool operator==(const ChatMessage&) const = default;
};
using Conversation = std::vector<ChatMessage>;

// Token ids, taken as they are; a text, encoded by the model's BOS rule, special tokens recognised;
// or a conversation, put through the model's chat template.
using PromptInput = std::variant<std::vector<int32_t>, std::string, Conversation>;

}  // namespace shoal
