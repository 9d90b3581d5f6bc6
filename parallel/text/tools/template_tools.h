#pragma once

// What a model's chat template makes of tools, and how a model is told of them where the template
// says nothing.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "parallel/text/chat_template.h"
#include "parallel/text/tools/tool_syntax.h"

namespace shoal::text {

struct TemplateTools {
  bool shows_tools = false;  // The functions that there are stand in the prompt.
  // So do an assistant's calls, and what came of them. Of an assistant that called, the template
  // wants:
  bool shows_calls = false;
  bool text_arguments = false;  // JSON as text rather than an object;
  bool null_content = false;    // no content rather than an empty one.
  bool takes_system = false;    // A system's message may stand first.
};

// By what it renders of chats made up for this.
TemplateTools ProbeTools(const ChatTemplate& chat_template);

// Makes `variables` ("messages", and "tools" where there are any) what the template can show. What
// it cannot is put into words: the functions into the system's message or the first user's, calls
// into what the assistant said, in `format`, and results into what the user says next.
void FitToTemplate(const TemplateTools& known, ToolFormat format,
                   nlohmann::ordered_json& variables);

// The markers that the template has around what the model thinks: {"<think>", "</think>"}; empty
// ones if it knows of no such thing.
std::pair<std::string, std::string> FindReasoningMarkers(std::string_view template_source);

}  // namespace shoal::text
