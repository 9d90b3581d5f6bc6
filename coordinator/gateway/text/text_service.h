#pragma once

// What the gateway needs of the model's text side.

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "parallel/text/grammar/regular/byte_set.h"
#include "parallel/text/tokenizer/tokenizer.h"
#include "parallel/text/tools/tool_syntax.h"

namespace shoal::gateway {

struct TextService {
  std::string model_name;  // Whose this is, as its groups register it. Empty: anyone's.
  // Null if the model brings none that can be used: then only token ids are accepted, and answers
  // have no text.
  const text::Tokenizer* tokenizer = nullptr;
  // The ids of a conversation: "messages" ([{"role":...,"content":...},...]), "tools" if there are
  // any, and what else the template is told (text::EncodeChat). Empty if the model has no chat
  // template that can be used. Errors: kInvalidArgument with the template's complaint.
  std::function<std::vector<int32_t>(nlohmann::ordered_json variables)> encode_chat;
  // How the model writes calls, and marks what it thinks.
  text::ToolFormat tool_format = text::ToolFormat::kHermes;
  std::string reasoning_begin{};  // Both empty: nothing is marked.
  std::string reasoning_end{};
  // Why there is none of the two above, for who asks for one; empty: the model brings none.
  std::string tokenizer_refusal;
  std::string chat_refusal;
  // What grammars can be made of: text::grammar::SingleBytes of the tokenizer.
  text::grammar::ByteSet grammar_bytes;
  std::vector<int32_t> eos_ids;
  int32_t vocab_size = 0;  // Ids below it may stand in a prompt.
};

}  // namespace shoal::gateway
