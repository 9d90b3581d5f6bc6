#include "coordinator/gateway/text/model_text.h"

#include <glog/logging.h>

#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>

#include "parallel/text/grammar/token_trie.h"
#include "transport/base/error.h"

namespace shoal::gateway {
namespace {

// Why a part of the model is not served. Errors: whatever is not the files' fault.
std::string Refusal(const Error& error) {
  if (error.code() != ErrorCode::kInvalidArgument) throw error;
  return error.what();
}

std::optional<text::ToolFormat> ReadToolFormat(const std::string& name) {
  if (name.empty()) return std::nullopt;
  const std::optional<text::ToolFormat> format = text::FindToolFormat(name);
  if (format) return format;
  Throw(ErrorCode::kInvalidArgument, "--tool-format is '", name, "': expected one of ",
        text::ToolFormatNames());
}

std::optional<std::pair<std::string, std::string>> ReadMarkers(const std::string& markers) {
  if (markers.empty()) return std::nullopt;
  if (markers == "none") return std::pair<std::string, std::string>();
  const size_t comma = markers.find(',');
  if (comma != std::string::npos && comma > 0 && comma + 1 < markers.size() &&
      markers.find(',', comma + 1) == std::string::npos) {
    return std::pair(markers.substr(0, comma), markers.substr(comma + 1));
  }
  Throw(ErrorCode::kInvalidArgument, "--reasoning-markers is '", markers,
        "': expected what the model writes before and after what it thinks, as in ",
        "'<think>,</think>', or none");
}

}  // namespace

ModelText::ModelText(const std::string& path, TextSettings settings)
    : unix_seconds_(settings.unix_seconds != nullptr ? std::move(settings.unix_seconds)
                                                     : [] { return int64_t{std::time(nullptr)}; }),
      tool_format_(ReadToolFormat(settings.tool_format)),
      reasoning_markers_(ReadMarkers(settings.reasoning_markers)) {
  if (!settings.chat_template.empty()) {
    chat_template_ = text::ChatTemplate::FromFile(settings.chat_template);
  }
  // Only for as long as this takes: the coordinator keeps no weights mapped.
  const std::unique_ptr<model::Model> model = model::Model::Open(path);
  name_ = model->name();
  eos_ids_ = model->config().eos_ids;
  vocab_size_ = static_cast<int32_t>(model->config().vocab_size);
  for (const std::string& note : model->notes()) LOG(WARNING) << path << ": " << note;
  if (model->tokenizer_source() == model::TokenizerSource::kNone) return;
  try {
    tokenizer_ = text::Tokenizer::Make(*model);
  } catch (const Error& error) {
    tokenizer_refusal_ = Refusal(error);
    LOG(WARNING) << model->path()
                 << ": the tokenizer cannot be used, so that only prompts of token "
                 << "ids are served: " << tokenizer_refusal_;
    return;
  }
  grammar_bytes_ = text::grammar::SingleBytes(*tokenizer_, vocab_size_);
  OpenTemplate(*model);
}

void ModelText::OpenTemplate(const model::Model& model) {
  try {
    if (chat_template_ == nullptr) chat_template_ = text::ChatTemplate::Make(model);
  } catch (const Error& error) {
    chat_refusal_ = Refusal(error);
    LOG(WARNING) << model.path()
                 << ": the chat template cannot be used, so that chats are refused; "
                 << "--chat-template FILE gives another: " << chat_refusal_;
  }
  if (chat_template_ == nullptr) return;
  template_tools_ = text::ProbeTools(*chat_template_);
  const std::string& source = chat_template_->source();
  if (!tool_format_) tool_format_ = text::DetectToolFormat(source);
  if (!reasoning_markers_) reasoning_markers_ = text::FindReasoningMarkers(source);
  VLOG(1) << model.path() << ": calls of tools are read as " << text::SyntaxOf(*tool_format_).name
          << ", and the chat template " << (template_tools_.shows_tools ? "shows" : "does not show")
          << " tools";
}

TextService ModelText::Service() const {
  TextService service;
  service.model_name = name_;
  service.tokenizer = tokenizer_.get();
  service.tokenizer_refusal = tokenizer_refusal_;
  service.chat_refusal = chat_refusal_;
  service.grammar_bytes = grammar_bytes_;
  service.eos_ids = eos_ids_;
  service.vocab_size = vocab_size_;
  if (chat_template_ != nullptr && tokenizer_ != nullptr) {
    service.tool_format = *tool_format_;
    service.reasoning_begin = reasoning_markers_->first;
    service.reasoning_end = reasoning_markers_->second;
    service.encode_chat = [this](nlohmann::ordered_json variables) {
      text::FitToTemplate(template_tools_, *tool_format_, variables);
      return text::EncodeChat(*chat_template_, *tokenizer_, std::move(variables), unix_seconds_());
    };
  }
  return service;
}

}  // namespace shoal::gateway
