#pragma once

// Renders a model's own chat template: the subset of Jinja that real templates use.
//
// Source: Jinja2's template designer documentation; the environment is transformers' (trim_blocks
// and lstrip_blocks on, loop controls, tojson without escaping,
// raise_exception, strftime_now).

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/text/tokenizer/tokenizer.h"

namespace shoal::text {

struct RenderedChat {
  std::string text;
  // The parts that came from the variables rather than from the template; ordered, disjoint.
  std::vector<ByteRange> user_ranges;
};

// Immutable, thread-safe.
class ChatTemplate {
 public:
  // Parses. Errors: kInvalidArgument, naming the line and the construct that is not supported.
  static std::unique_ptr<ChatTemplate> Parse(std::string source);
  // The model's own template; null if it has none. Errors: as Parse, naming the file or key.
  static std::unique_ptr<ChatTemplate> Make(const model::Model& model);
  // That of a file, in place of the model's own. Errors: as Parse, naming the file; also for one
  // that cannot be read.
  static std::unique_ptr<ChatTemplate> FromFile(const std::string& path);
  // The same from Model::metadata() alone.
  static std::unique_ptr<ChatTemplate> FromMetadata(const nlohmann::json& metadata,
                                                    model::TokenizerSource source);

  virtual ~ChatTemplate() = default;

  // `variables`: messages, tools, add_generation_prompt, bos_token, eos_token, ... All strings in
  // them count as the user's, but for those whose name ends in "_token".
  // `unix_seconds`: the time that strftime_now tells, in UTC; none: it is undefined.
  // The template sees only what is passed, no files.
  // Errors: kInvalidArgument with raise_exception's text, an operation that Jinja refuses or this
  // subset lacks, or a limit (operations, output, recursion).
  virtual RenderedChat Render(const nlohmann::ordered_json& variables,
                              std::optional<int64_t> unix_seconds) const = 0;
  RenderedChat Render(const nlohmann::ordered_json& variables) const {
    return Render(variables, std::nullopt);
  }

  // Whether it has a string constant of this text, such as the name of a role.
  virtual bool Mentions(std::string_view text) const = 0;

  virtual const std::string& source() const = 0;
};

// The ids of a chat, ready for the model: no BOS is to be added, the template writes it.
// Special-token text that came from the variables stays plain text: only what the template itself
// wrote is recognised. Added tokens that are not special are recognised everywhere.
// `variables`, `unix_seconds`: as for Render. Where they are absent, the tokenizer's bos_token and
// eos_token are filled in, tools and documents become null and add_generation_prompt true. A
// message of the role "developer" is one of "system" where the template does not mention that role.
// With "continue_final_message" true the text ends with the last message's own, which is a string.
// Errors then: also kInvalidArgument if the template does not show it.
std::vector<int32_t> EncodeChat(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                                nlohmann::ordered_json variables,
                                std::optional<int64_t> unix_seconds = std::nullopt);

}  // namespace shoal::text
