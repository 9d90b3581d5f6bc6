// Which of the kinds of tokenizer a GGUF file holds, and the keys that all of them share.

#include "parallel/text/tokenizer/formats/gguf_fields.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "transport/base/error.h"

namespace shoal::text {

using nlohmann::json;

TokenizerSpec SpecFromGguf(const json& metadata) {
  constexpr const char* kKey = "tokenizer.ggml.model";
  const json* model = GgufFind(metadata, kKey);
  const std::string name = model == nullptr ? "nothing" : GgufString(*model, kKey);
  if (name == "gpt2") return SpecFromByteLevelGguf(metadata);
  if (name == "llama") return SpecFromSentencePieceGguf(metadata);
  if (name == "bert") return SpecFromWordPieceGguf(metadata);
  Throw(ErrorCode::kInvalidArgument, kKey, ": expected gpt2 (byte-level BPE), llama ",
        "(SentencePiece BPE) or bert (WordPiece), found ", name, "; use a model of another family");
}

const json* GgufFind(const json& metadata, const char* key) {
  const auto it = metadata.find(key);
  return it == metadata.end() ? nullptr : &*it;
}

const json& GgufArray(const json& metadata, const char* key) {
  const json* value = GgufFind(metadata, key);
  if (value == nullptr || !value->is_array()) {
    Throw(ErrorCode::kInvalidArgument, key, ": expected an array, found ",
          value == nullptr ? "nothing" : value->type_name(), "; convert the model again");
  }
  return *value;
}

const std::string& GgufString(const json& value, const char* key) {
  if (!value.is_string()) {
    Throw(ErrorCode::kInvalidArgument, key, ": expected a string, found ", value.type_name());
  }
  return value.get_ref<const std::string&>();
}

bool GgufBool(const json& metadata, const char* key, bool otherwise) {
  const json* value = GgufFind(metadata, key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) {
    Throw(ErrorCode::kInvalidArgument, key, ": expected a bool, found ", value->type_name());
  }
  return value->get<bool>();
}

std::optional<int32_t> GgufTokenId(const json& metadata, const char* key, size_t token_count) {
  const json* value = GgufFind(metadata, key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_integer() || value->get<int64_t>() < 0 ||
      value->get<uint64_t>() >= token_count) {
    Throw(ErrorCode::kInvalidArgument, key, ": expected a token id below ", token_count, ", found ",
          value->is_number() ? value->dump() : value->type_name());
  }
  return value->get<int32_t>();
}

const json& GgufTokens(const json& metadata) {
  constexpr const char* kKey = "tokenizer.ggml.tokens";
  const json& tokens = GgufArray(metadata, kKey);
  const json& types = GgufArray(metadata, "tokenizer.ggml.token_type");
  if (types.size() != tokens.size() || static_cast<int64_t>(tokens.size()) > kVocabSizeMax) {
    Throw(ErrorCode::kInvalidArgument, kKey, ": expected as many as token_type's ", types.size(),
          " and at most ", kVocabSizeMax, ", found ", tokens.size());
  }
  return tokens;
}

GgufTokenType GgufTypeOfToken(const json& metadata, size_t id) {
  const json& type = metadata["tokenizer.ggml.token_type"][id];
  if (!type.is_number_integer()) {
    Throw(ErrorCode::kInvalidArgument, "tokenizer.ggml.token_type[", id, "]: expected an integer");
  }
  return static_cast<GgufTokenType>(type.get<int64_t>());
}

void CheckGgufKeys(const json& metadata, std::span<const std::string_view> read,
                   std::span<const model::IdleKey> idle) {
  constexpr std::string_view kPrefix = "tokenizer.ggml.";
  for (const auto& [key, value] : metadata.items()) {
    // The ids of BOS and EOS are read; those of other special tokens mean nothing to a tokenizer.
    if (!key.starts_with(kPrefix) || key.ends_with("_token_id")) continue;
    const bool is_read = std::find(read.begin(), read.end(), key) != read.end();
    if (is_read || model::FindIdleKey(idle, key) != nullptr) continue;
    Throw(ErrorCode::kInvalidArgument, key,
          ": this key is not known: it may ask for other tokens; ",
          "use a model without it, or its safetensors folder");
  }
  model::CheckIdleKeys(metadata, idle, "the tokenizer");
}

void ReadGgufBosAndEos(const json& metadata, bool add_bos, TokenizerSpec& spec) {
  const auto bos = GgufTokenId(metadata, "tokenizer.ggml.bos_token_id", spec.tokens.size());
  const auto eos = GgufTokenId(metadata, "tokenizer.ggml.eos_token_id", spec.tokens.size());
  if (bos) spec.bos_text = spec.tokens[*bos].bytes;
  if (eos) spec.eos_text = spec.tokens[*eos].bytes;
  constexpr const char* kAddBosKey = "tokenizer.ggml.add_bos_token";
  const bool is_said = GgufFind(metadata, kAddBosKey) != nullptr;
  const bool adds = GgufBool(metadata, kAddBosKey, add_bos);
  if (is_said && adds && !bos) {
    Throw(ErrorCode::kInvalidArgument, kAddBosKey, ": is true, but there is no ",
          "tokenizer.ggml.bos_token_id to add; convert the model again");
  }
  if (adds) spec.bos_to_add = bos;
}

}  // namespace shoal::text
