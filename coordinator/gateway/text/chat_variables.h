#pragma once

// A conversation as chat templates are given it.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "transport/base/generation/prompt.h"

namespace shoal::gateway {

// Whether a conversation may have messages of that role; and which there are, for complaints.
bool IsChatRole(std::string_view role);
constexpr std::string_view kChatRoles = "system, developer, user, assistant, tool or function";

// Whether a client may set that variable of the template: not what other fields say, nor what the
// template takes for its model's own tokens.
bool IsFreeVariable(std::string_view name);
constexpr std::string_view kFreeVariables =
    "not messages, tools, add_generation_prompt or continue_final_message, nor a name that ends "
    "in _token";

// Errors: RequestError naming the field, if it is no UTF-8.
void CheckUtf8(const std::string& text, const std::string& field);

// {"messages": [...], "tools": ..., ...}. `field`: what the API calls the messages. Errors:
// RequestError, naming the message and what is wrong with it.
nlohmann::ordered_json ChatVariables(const Conversation& chat, const ChatForm& form,
                                     const std::string& field);

}  // namespace shoal::gateway
