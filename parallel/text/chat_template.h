#pragma once

// Renders a model's own chat template: the subset of Jinja that real templates use.
//
// Source: Jinja2's template designer documentation; the environment is transformers' (trim_blocks
// and lstrip_blocks on, loop controls, tojson without escaping, raise_exception).

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "parallel/model/model.h"
#include "parallel/text/tokenizer.h"

namespace shoal::text {

// Immutable, thread-safe.
class ChatTemplate {
 public:
  // Parses. Errors: kInvalidArgument, naming the line and the construct that is not supported.
  static std::unique_ptr<ChatTemplate> Parse(std::string source);
  // The model's own template; null if it has none.
  static std::unique_ptr<ChatTemplate> Make(const model::Model& model);

  virtual ~ChatTemplate() = default;

  // `variables`: messages, tools, add_generation_prompt, bos_token, eos_token, ... Errors:
  // kInvalidArgument with raise_exception's text, an undefined operation, or the operation budget.
  virtual std::string Render(const nlohmann::ordered_json& variables) const = 0;
};

// The ids of a chat. Special-token text inside a message's content stays plain text: only what the
// template itself wrote is recognised.
std::vector<int32_t> EncodeChat(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                                const model::Model& model, const nlohmann::ordered_json& messages);

}  // namespace shoal::text
