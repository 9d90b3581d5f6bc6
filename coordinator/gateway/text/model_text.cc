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

}  // namespace

ModelText::ModelText(const std::string& path, ModelTextOptions options)
    : unix_seconds_(options.unix_seconds != nullptr ? std::move(options.unix_seconds)
                                                    : [] { return int64_t{std::time(nullptr)}; }) {
  if (!options.chat_template.empty()) {
    chat_template_ = text::ChatTemplate::FromFile(options.chat_template);
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
  if (chat_template_ != nullptr) return;
  try {
    chat_template_ = text::ChatTemplate::Make(*model);
  } catch (const Error& error) {
    chat_refusal_ = Refusal(error);
    LOG(WARNING) << model->path()
                 << ": the chat template cannot be used, so that chats are refused; "
                 << "--chat-template FILE gives another: " << chat_refusal_;
  }
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
    service.encode_chat = [this](const nlohmann::ordered_json& messages) {
      nlohmann::ordered_json variables;
      variables["messages"] = messages;
      variables["add_generation_prompt"] = true;
      return text::EncodeChat(*chat_template_, *tokenizer_, std::move(variables), unix_seconds_());
    };
  }
  return service;
}

}  // namespace shoal::gateway
