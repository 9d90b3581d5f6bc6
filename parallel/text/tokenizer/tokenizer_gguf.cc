// A tokenizer's definition from GGUF metadata. The file names the pre-tokenizer and does not hold
// its expression, so the table below does; an unknown name is refused, because a wrong expression
// gives ids that are plausible and wrong.

#include <algorithm>
#include <array>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_map>

#include "parallel/model/config/idle_keys.h"
#include "parallel/text/tokenizer/tokenizer_spec.h"
#include "parallel/text/utf8.h"
#include "transport/base/error.h"

namespace shoal::text {
namespace {

using nlohmann::json;

constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kDeepSeek3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
    R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kDeepSeekCjk = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+";

struct PreTokenizer {
  std::string_view name;
  std::array<const char*, 3> patterns;  // In order; the rest null.
  bool nfc;
  bool ignore_merges;
  bool add_bos;  // Where the file does not say.
};

constexpr PreTokenizer kPreTokenizers[] = {
    {"smollm", {kDigitPattern, kGpt2Pattern, nullptr}, false, false, false},
    {"gpt-2", {kGpt2Pattern, nullptr, nullptr}, false, false, false},
    {"llama-bpe", {kLlama3, nullptr, nullptr}, false, true, true},
    {"llama3", {kLlama3, nullptr, nullptr}, false, true, true},
    {"llama-v3", {kLlama3, nullptr, nullptr}, false, true, true},
    {"qwen2", {kQwen2, nullptr, nullptr}, true, false, false},
    {"deepseek-r1-qwen", {kQwen2, nullptr, nullptr}, true, false, true},
    {"deepseek-v3", {R"(\p{N}{1,3})", kDeepSeekCjk, kDeepSeek3}, false, false, true},
};

// Keys that are read below. Another "tokenizer.ggml." key than these, the idle ones and ids of
// special tokens may ask for other ids.
constexpr std::string_view kReadKeys[] = {
    "tokenizer.ggml.model",  "tokenizer.ggml.pre",           "tokenizer.ggml.tokens",
    "tokenizer.ggml.merges", "tokenizer.ggml.add_bos_token", "tokenizer.ggml.token_type"};

constexpr std::string_view kPromptAsItIs = "a prompt is its text, after a BOS at most";

constexpr model::IdleKey kIdleKeys[] = {
    {"tokenizer.ggml.add_eos_token", "[false]", kPromptAsItIs},
    {"tokenizer.ggml.add_sep_token", "[false]", kPromptAsItIs},
    {"tokenizer.ggml.add_space_prefix", "[false]", kPromptAsItIs},
    {"tokenizer.ggml.remove_extra_whitespaces", "[false]", kPromptAsItIs},
    {"tokenizer.ggml.precompiled_charsmap", "[[]]", "text is not mapped to other characters"},
    {"tokenizer.ggml.scores", "", "pairs merge by the order of merges"},
    {"tokenizer.ggml.token_type_count", "", "of models that take types of segments"},
};

// The kinds of tokenizer.ggml.token_type.
enum class TokenType : int { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

const json* Find(const json& metadata, const char* key) {
  const auto it = metadata.find(key);
  return it == metadata.end() ? nullptr : &*it;
}

const json& Array(const json& metadata, const char* key) {
  const json* value = Find(metadata, key);
  if (value == nullptr || !value->is_array()) {
    Throw(ErrorCode::kInvalidArgument, key, ": expected an array, found ",
          value == nullptr ? "nothing" : value->type_name(), "; convert the model again");
  }
  return *value;
}

const std::string& String(const json& value, const char* key) {
  if (!value.is_string()) {
    Throw(ErrorCode::kInvalidArgument, key, ": expected a string, found ", value.type_name());
  }
  return value.get_ref<const std::string&>();
}

PreTokenizer FindPreTokenizer(const json& metadata) {
  constexpr const char* kKey = "tokenizer.ggml.pre";
  const json* value = Find(metadata, kKey);
  const std::string name = value == nullptr ? "(missing)" : String(*value, kKey);
  std::string known;
  for (const PreTokenizer& row : kPreTokenizers) {
    if (row.name == name) return row;
    known += known.empty() ? "" : ", ";
    known += row.name;
  }
  Throw(ErrorCode::kInvalidArgument, kKey, ": pre-tokenizer ", name,
        " is not supported (known: ", known,
        "); use a model of another family, or its safetensors folder");
}

void CheckKeys(const json& metadata) {
  constexpr std::string_view kPrefix = "tokenizer.ggml.";
  for (const auto& [key, value] : metadata.items()) {
    // The ids of BOS and EOS are read here; those of other special tokens mean nothing to a
    // tokenizer.
    if (!key.starts_with(kPrefix) || key.ends_with("_token_id")) continue;
    const bool is_read =
        std::find(std::begin(kReadKeys), std::end(kReadKeys), key) != std::end(kReadKeys);
    if (is_read || model::FindIdleKey(kIdleKeys, key) != nullptr) continue;
    Throw(ErrorCode::kInvalidArgument, key,
          ": this key is not known: it may ask for other tokens; ",
          "use a model without it, or its safetensors folder");
  }
  model::CheckIdleKeys(metadata, kIdleKeys, "the tokenizer");
}

std::optional<int32_t> TokenId(const json& metadata, const char* key, size_t token_count) {
  const json* value = Find(metadata, key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_integer() || value->get<int64_t>() < 0 ||
      value->get<uint64_t>() >= token_count) {
    Throw(ErrorCode::kInvalidArgument, key, ": expected a token id below ", token_count, ", found ",
          value->is_number() ? value->dump() : value->type_name());
  }
  return value->get<int32_t>();
}

// Fills tokens and added tokens; returns the ids by text as the merges spell them.
std::unordered_map<std::string, int32_t> ReadTokens(const json& metadata, TokenizerSpec& spec) {
  constexpr const char* kKey = "tokenizer.ggml.tokens";
  const json& tokens = Array(metadata, kKey);
  const json& types = Array(metadata, "tokenizer.ggml.token_type");
  if (types.size() != tokens.size() || static_cast<int64_t>(tokens.size()) > kVocabSizeMax) {
    Throw(ErrorCode::kInvalidArgument, kKey, ": expected as many as token_type's ", types.size(),
          " and at most ", kVocabSizeMax, ", found ", tokens.size());
  }
  std::unordered_map<std::string, int32_t> ids;
  ids.reserve(tokens.size());
  spec.tokens.resize(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string& text = String(tokens[i], kKey);
    const auto id = static_cast<int32_t>(i);
    VocabToken& token = spec.tokens[i];
    if (!types[i].is_number_integer()) {
      Throw(ErrorCode::kInvalidArgument, "tokenizer.ggml.token_type[", i, "]: expected an integer");
    }
    const auto type = static_cast<TokenType>(types[i].get<int64_t>());
    if (type == TokenType::kByte) {
      Throw(ErrorCode::kInvalidArgument, "tokenizer.ggml.token_type[", i,
            "]: byte tokens (byte fall-back) are not supported");
    }
    if (type == TokenType::kControl || type == TokenType::kUserDefined) {
      token = {text, false, type == TokenType::kControl};
      if (!text.empty()) {
        spec.added_tokens.push_back({.id = id, .text = text, .special = token.special});
      }
    } else {
      token.mergeable = type == TokenType::kNormal && BytesFromAlphabet(text, token.bytes);
      if (!token.mergeable) token.bytes = text;
    }
    ids.try_emplace(text, id);
  }
  return ids;
}

void ReadMerges(const json& metadata, const std::unordered_map<std::string, int32_t>& ids,
                TokenizerSpec& spec) {
  constexpr const char* kKey = "tokenizer.ggml.merges";
  const json& merges = Array(metadata, kKey);
  spec.merges.reserve(merges.size());
  for (size_t i = 0; i < merges.size(); ++i) {
    const std::string& text = String(merges[i], kKey);
    // The first byte is never the separator: a token is not empty.
    const size_t space = text.find(' ', 1);
    const auto left = ids.find(text.substr(0, space));
    const auto right = space == std::string::npos ? ids.end() : ids.find(text.substr(space + 1));
    const auto merged =
        left == ids.end() || right == ids.end() ? ids.end() : ids.find(left->first + right->first);
    if (merged == ids.end()) {
      Throw(ErrorCode::kInvalidArgument, kKey, "[", i, "]: expected two tokens of the vocabulary ",
            "whose join is one too, found \"", text, "\"");
    }
    spec.merges.push_back({left->second, right->second, merged->second});
  }
}

}  // namespace

TokenizerSpec SpecFromGguf(const json& metadata) {
  constexpr const char* kModelKey = "tokenizer.ggml.model";
  const json* model = Find(metadata, kModelKey);
  if (model == nullptr || String(*model, kModelKey) != "gpt2") {
    Throw(ErrorCode::kInvalidArgument, kModelKey, ": expected gpt2 (byte-level BPE), found ",
          model == nullptr ? "nothing" : String(*model, kModelKey));
  }
  CheckKeys(metadata);
  const PreTokenizer pre = FindPreTokenizer(metadata);
  TokenizerSpec spec;
  ReadMerges(metadata, ReadTokens(metadata, spec), spec);
  for (const char* pattern : pre.patterns) {
    if (pattern != nullptr) spec.splits.push_back({.pattern = pattern});
  }
  spec.nfc = pre.nfc;
  spec.ignore_merges = pre.ignore_merges;
  const auto bos = TokenId(metadata, "tokenizer.ggml.bos_token_id", spec.tokens.size());
  const auto eos = TokenId(metadata, "tokenizer.ggml.eos_token_id", spec.tokens.size());
  if (bos) spec.bos_text = spec.tokens[*bos].bytes;
  if (eos) spec.eos_text = spec.tokens[*eos].bytes;
  constexpr const char* kAddBosKey = "tokenizer.ggml.add_bos_token";
  const json* add_bos = Find(metadata, kAddBosKey);
  if (add_bos != nullptr && !add_bos->is_boolean()) {
    Throw(ErrorCode::kInvalidArgument, kAddBosKey, ": expected a bool, found ",
          add_bos->type_name());
  }
  if (add_bos != nullptr && add_bos->get<bool>() && !bos) {
    Throw(ErrorCode::kInvalidArgument, kAddBosKey, ": is true, but there is no ",
          "tokenizer.ggml.bos_token_id to add; convert the model again");
  }
  if (add_bos != nullptr ? add_bos->get<bool>() : pre.add_bos) spec.bos_to_add = bos;
  return spec;
}

}  // namespace shoal::text
