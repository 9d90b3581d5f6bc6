#pragma once

// A model's text side, opened for the gateways.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "coordinator/gateway/text/text_service.h"
#include "parallel/model/model.h"
#include "parallel/text/chat_template.h"
#include "parallel/text/tokenizer/tokenizer.h"
#include "parallel/text/tools/template_tools.h"

namespace shoal::gateway {

// What is known of a model better than by what it brings. Empty: that says it.
struct TextSettings {
  std::string chat_template{};      // A file in place of the model's own.
  std::string tool_format{};        // One of text::ToolFormatNames().
  std::string reasoning_markers{};  // "<think>,</think>"; "none": what it thinks is not marked.
  // Seconds since 1970, which templates may ask for. Null: the system's clock.
  std::function<int64_t()> unix_seconds{};
};

class ModelText {
 public:
  // A tokenizer or chat template of the model's that cannot be used is logged and kept from those
  // who ask for it; all other requests are served. Errors: kInvalidArgument for a model that cannot
  // be read, a template file that cannot be used, and settings that are not as above.
  explicit ModelText(const std::string& path, TextSettings settings = {});

  const std::string& name() const { return name_; }
  // Refers to this object.
  TextService Service() const;

 private:
  void OpenTemplate(const model::Model& model);

  const std::function<int64_t()> unix_seconds_;
  std::string name_;
  std::vector<int32_t> eos_ids_;
  int32_t vocab_size_ = 0;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::string tokenizer_refusal_;
  std::string chat_refusal_;
  text::grammar::ByteSet grammar_bytes_;
  std::unique_ptr<text::ChatTemplate> chat_template_;
  text::TemplateTools template_tools_;
  std::optional<text::ToolFormat> tool_format_;
  std::optional<std::pair<std::string, std::string>> reasoning_markers_;
};

}  // namespace shoal::gateway
