#include "parallel/model/config/end_ids.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "parallel/model/files/refuse.h"

namespace shoal::model {
namespace {

using nlohmann::json;

// Control tokens that published models end a turn or a document with, and generate for nothing
// else. Not among them: tokens that open a turn, that pad, and those between the parts and files of
// code (<|fim_pad|>, <|file_sep|>, <|repo_name|>), after which an answer may go on.
constexpr std::string_view kEndTexts[] = {
    "<|im_end|>",                               // ChatML: Qwen, SmolLM2, Yi
    "<|endoftext|>",                            // GPT-2 and its heirs, Qwen, SmolLM2, Phi
    "<|eot_id|>",                               // Llama 3
    "<|eom_id|>",                               // Llama 3, before a tool's answer
    "<|end_of_text|>",                          // Llama 3, Granite
    "<|eot|>",                                  // Llama 4
    "<|eom|>",                                  // Llama 4
    "<|end_of_turn|>",                          // OpenChat
    "<end_of_turn>",                            // Gemma
    "<|END_OF_TURN_TOKEN|>",                    // Command R
    "<end_of_utterance>",                       // SmolVLM
    "<\uff5cend\u2581of\u2581sentence\uff5c>",  // DeepSeek
    "<|return|>",                               // Harmony
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<eos>",
    "</s>",
};
// Phi 3 ends a turn with it. Harmony, which has <|return|>, a message that others follow.
constexpr std::string_view kEndOfMessage = "<|end|>";
constexpr std::string_view kHarmonyEnd = "<|return|>";

constexpr int64_t kControlToken = 3;  // In tokenizer.ggml.token_type.

const json* Find(const json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

class EndIds {
 public:
  EndIds(int64_t vocab_size, const std::string& where) : vocab_size_(vocab_size), where_(where) {}

  // One id or a list of them.
  void AddKey(const json& object, const char* key, std::string_view file = "") {
    const json* value = Find(object, key);
    if (value == nullptr) return;
    const json list = value->is_array() ? *value : json::array({*value});
    for (const json& id : list) {
      if (!id.is_number_integer() || id < 0 || id > INT32_MAX) {
        Refuse(where_, file, file.empty() ? "" : ", ", Quoted(key),
               " must be a token id or a list of them: correct it, or convert the model again");
      }
      Add(id.get<int32_t>());
    }
  }

  // A token of the vocabulary.
  void AddToken(int64_t id) {
    if (id >= 0 && id < vocab_size_) Add(static_cast<int32_t>(id));
  }

  std::vector<int32_t> Take() { return std::move(ids_); }

 private:
  void Add(int32_t id) {
    if (std::find(ids_.begin(), ids_.end(), id) == ids_.end()) ids_.push_back(id);
  }

  const int64_t vocab_size_;
  const std::string& where_;
  std::vector<int32_t> ids_;
};

struct ControlToken {
  int64_t id;
  std::string_view text;
};

// What cannot be read is left to the tokenizer's reader, which says so.
std::vector<ControlToken> GgufControlTokens(const json& metadata) {
  std::vector<ControlToken> found;
  const json* tokens = Find(metadata, "tokenizer.ggml.tokens");
  const json* types = Find(metadata, "tokenizer.ggml.token_type");
  if (tokens == nullptr || types == nullptr || !tokens->is_array() || !types->is_array()) {
    return found;
  }
  for (size_t i = 0; i < std::min(tokens->size(), types->size()); ++i) {
    if ((*types)[i] != kControlToken || !(*tokens)[i].is_string()) continue;
    found.push_back({static_cast<int64_t>(i), (*tokens)[i].get_ref<const std::string&>()});
  }
  return found;
}

// The id and text of an entry of tokenizer.json's added_tokens.
std::optional<ControlToken> AddedToken(const json& entry) {
  const json* id = Find(entry, "id");
  const json* text = Find(entry, "content");
  if (id == nullptr || text == nullptr || !id->is_number_integer() || !text->is_string()) {
    return std::nullopt;
  }
  return ControlToken{id->get<int64_t>(), text->get_ref<const std::string&>()};
}

std::vector<ControlToken> AddedTokens(const json& tokenizer, bool special_only) {
  std::vector<ControlToken> found;
  const json* added = Find(tokenizer, "added_tokens");
  if (added == nullptr || !added->is_array()) return found;
  for (const json& entry : *added) {
    const std::optional<ControlToken> token = AddedToken(entry);
    const json* special = Find(entry, "special");
    if (token && (!special_only || (special != nullptr && *special == true))) {
      found.push_back(*token);
    }
  }
  return found;
}

void AddEosToken(const json& metadata, const json& tokenizer, EndIds& ids) {
  const json* config = Find(metadata, "tokenizer_config.json");
  const json* eos = config == nullptr ? nullptr : Find(*config, "eos_token");
  if (eos != nullptr && eos->is_object()) eos = Find(*eos, "content");
  if (eos == nullptr || !eos->is_string()) return;
  const auto& text = eos->get_ref<const std::string&>();
  for (const ControlToken& token : AddedTokens(tokenizer, /*special_only=*/false)) {
    if (token.text == text) return ids.AddToken(token.id);
  }
  const json* model = Find(tokenizer, "model");
  const json* vocab = model == nullptr ? nullptr : Find(*model, "vocab");
  const json* id = vocab == nullptr ? nullptr : Find(*vocab, text.c_str());
  if (id != nullptr && id->is_number_integer()) ids.AddToken(id->get<int64_t>());
}

void AddEndTexts(const std::vector<ControlToken>& tokens, EndIds& ids) {
  const bool harmony = std::any_of(tokens.begin(), tokens.end(), [](const ControlToken& token) {
    return token.text == kHarmonyEnd;
  });
  for (const ControlToken& token : tokens) {
    const bool ends =
        std::find(std::begin(kEndTexts), std::end(kEndTexts), token.text) != std::end(kEndTexts);
    if (ends || (token.text == kEndOfMessage && !harmony)) ids.AddToken(token.id);
  }
}

}  // namespace

std::vector<int32_t> ReadEndIds(const json& metadata, int64_t vocab_size,
                                const std::string& where) {
  EndIds ids(vocab_size, where);
  for (const char* file : {"config.json", "generation_config.json"}) {
    if (const json* object = Find(metadata, file)) ids.AddKey(*object, "eos_token_id", file);
  }
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                          "tokenizer.ggml.eom_token_id", kGgufEndIdsKey}) {
    ids.AddKey(metadata, key);
  }
  if (const json* tokenizer = Find(metadata, "tokenizer.json")) {
    AddEosToken(metadata, *tokenizer, ids);
    AddEndTexts(AddedTokens(*tokenizer, /*special_only=*/true), ids);
  }
  AddEndTexts(GgufControlTokens(metadata), ids);
  return ids.Take();
}

}  // namespace shoal::model
