#pragma once

// The conversation of a chat request, and what its template is told beside it.

#include <string>
#include <vector>

#include "coordinator/gateway/json/json_reader.h"
#include "transport/base/generation/prompt.h"

namespace shoal::gateway {

// Reads messages. Sets `form.continues_last` if the last one says that the answer goes on with it.
// `ignored`: gets the names of fields that nobody here knows. Errors: ApiError naming the field.
Conversation ReadMessages(JsonReader& fields, ChatForm& form, std::vector<std::string>& ignored);

// Reads chat_template_kwargs, reasoning_effort, enable_thinking, thinking, add_generation_prompt
// and continue_final_message, of a request with those messages. Errors: as above.
void ReadChatForm(JsonReader& fields, const Conversation& messages, ChatForm& form);

}  // namespace shoal::gateway
