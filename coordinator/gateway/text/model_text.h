#pragma once

// A model's text side, opened for the gateways.

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

// What is known of a model better than by its chat template. Empty: the template says it.
struct TextSettings {
  std::string tool_format{};        // One of text::ToolFormatNames().
  std::string reasoning_markers{};  // "<think>,</think>"; "none": what it thinks is not marked.
};

class ModelText {
 public:
  // A tokenizer or chat template that cannot be used is logged and kept from those who ask for it;
  // all other requests are served. Errors: kInvalidArgument for a model that cannot be read, and
  // for settings that are not as above.
  explicit ModelText(const std::string& path, const TextSettings& settings = {});

  const std::string& name() const { return name_; }
  // Refers to this object.
  TextService Service() const;

 private:
  void OpenTemplate(const model::Model& model);

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
