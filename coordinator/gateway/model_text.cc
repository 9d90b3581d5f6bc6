#include "coordinator/gateway/model_text.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "parallel/text/grammar/token_trie.h"

namespace shoal::gateway {

ModelText::ModelText(const std::string& path) {
  // Only for as long as this takes: the coordinator keeps no weights mapped.
  const std::unique_ptr<model::Model> model = model::Model::Open(path);
  name_ = model->name();
  eos_ids_ = model->config().eos_ids;
  vocab_size_ = static_cast<int32_t>(model->config().vocab_size);
  if (model->tokenizer_source() == model::TokenizerSource::kNone) return;
  tokenizer_ = text::Tokenizer::Make(*model);
  grammar_bytes_ = text::grammar::SingleBytes(*tokenizer_, vocab_size_);
  chat_template_ = text::ChatTemplate::Make(*model);
}

TextService ModelText::Service() const {
  TextService service;
  service.tokenizer = tokenizer_.get();
  service.grammar_bytes = grammar_bytes_;
  service.eos_ids = eos_ids_;
  service.vocab_size = vocab_size_;
  if (chat_template_ != nullptr) {
    service.encode_chat = [this](const nlohmann::ordered_json& messages) {
      nlohmann::ordered_json variables;
      variables["messages"] = messages;
      variables["add_generation_prompt"] = true;
      return text::EncodeChat(*chat_template_, *tokenizer_, std::move(variables));
    };
  }
  return service;
}

}  // namespace shoal::gateway
