// A byte-level tokenizer's definition from GGUF metadata (model "gpt2"). The file names the
// pre-tokenizer and does not hold its expression, so the table below does; an unknown name is
// refused, because a wrong expression gives ids that are plausible and wrong.

#include <algorithm>
#include <array>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_map>

#include "parallel/text/tokenizer/formats/gguf_fields.h"
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
constexpr const char* kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kO200k =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
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
    {"olmo", {kGpt2Pattern, nullptr, nullptr}, false, false, false},
    {"gpt-4o", {kO200k, nullptr, nullptr}, false, false, false},
    {"tekken", {kTekken, nullptr, nullptr}, false, true, true},
    {"glm4", {kLlama3, nullptr, nullptr}, false, false, false},
    {"chatglm-bpe", {kLlama3, nullptr, nullptr}, false, false, false},
    {"dbrx", {kLlama3, nullptr, nullptr}, false, false, false},
    {"llama-bpe", {kLlama3, nullptr, nullptr}, false, true, true},
    {"llama3", {kLlama3, nullptr, nullptr}, false, true, true},
    {"llama-v3", {kLlama3, nullptr, nullptr}, false, true, true},
    {"qwen2", {kQwen2, nullptr, nullptr}, true, false, false},
    {"deepseek-r1-qwen", {kQwen2, nullptr, nullptr}, true, false, true},
    {"deepseek-v3", {R"(\p{N}{1,3})", kDeepSeekCjk, kDeepSeek3}, false, false, true},
};

constexpr std::string_view kReadKeys[] = {
    "tokenizer.ggml.model",  "tokenizer.ggml.pre",           "tokenizer.ggml.tokens",
    "tokenizer.ggml.merges", "tokenizer.ggml.add_bos_token", "tokenizer.ggml.token_type"};

constexpr model::IdleKey kIdleKeys[] = {
    {"tokenizer.ggml.add_eos_token", "[false]", kPromptAsItIs},
    {"tokenizer.ggml.add_sep_token", "[false]", kPromptAsItIs},
    {"tokenizer.ggml.add_space_prefix", "[false]", kPromptAsItIs},
    {"tokenizer.ggml.remove_extra_whitespaces", "[false]", kPromptAsItIs},
    {"tokenizer.ggml.precompiled_charsmap", "[[]]", "text is not mapped to other characters"},
    {"tokenizer.ggml.scores", "", "pairs merge by the order of merges"},
    {"tokenizer.ggml.token_type_count", "", "of models that take types of segments"},
};

PreTokenizer FindPreTokenizer(const json& metadata) {
  constexpr const char* kKey = "tokenizer.ggml.pre";
  const json* value = GgufFind(metadata, kKey);
  const std::string name = value == nullptr ? "(missing)" : GgufString(*value, kKey);
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

// Fills tokens and added tokens; returns the ids by text as the merges spell them.
std::unordered_map<std::string, int32_t> ReadTokens(const json& metadata, TokenizerSpec& spec) {
  const json& tokens = GgufTokens(metadata);
  std::unordered_map<std::string, int32_t> ids;
  ids.reserve(tokens.size());
  spec.tokens.resize(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string& text = GgufString(tokens[i], "tokenizer.ggml.tokens");
    const auto id = static_cast<int32_t>(i);
    VocabToken& token = spec.tokens[i];
    const GgufTokenType type = GgufTypeOfToken(metadata, i);
    if (type == GgufTokenType::kByte) {
      Throw(ErrorCode::kInvalidArgument, "tokenizer.ggml.token_type[", i,
            "]: byte tokens (byte fall-back) are not supported");
    }
    if (type == GgufTokenType::kControl || type == GgufTokenType::kUserDefined) {
      token = {text, false, type == GgufTokenType::kControl};
      if (!text.empty()) {
        spec.added_tokens.push_back({.id = id, .text = text, .special = token.special});
      }
    } else {
      token.mergeable = type == GgufTokenType::kNormal && BytesFromAlphabet(text, token.bytes);
      if (!token.mergeable) token.bytes = text;
    }
    ids.try_emplace(text, id);
  }
  return ids;
}

void ReadMerges(const json& metadata, const std::unordered_map<std::string, int32_t>& ids,
                TokenizerSpec& spec) {
  constexpr const char* kKey = "tokenizer.ggml.merges";
  const json& merges = GgufArray(metadata, kKey);
  spec.merges.reserve(merges.size());
  for (size_t i = 0; i < merges.size(); ++i) {
    const std::string& text = GgufString(merges[i], kKey);
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
    spec.merges.push_back({left->second, right->second, merged->second, static_cast<int32_t>(i)});
  }
}

}  // namespace

TokenizerSpec SpecFromByteLevelGguf(const json& metadata) {
  CheckGgufKeys(metadata, kReadKeys, kIdleKeys);
  const PreTokenizer pre = FindPreTokenizer(metadata);
  TokenizerSpec spec;
  ReadMerges(metadata, ReadTokens(metadata, spec), spec);
  for (const char* pattern : pre.patterns) {
    if (pattern != nullptr) spec.splits.push_back({.pattern = pattern});
  }
  spec.nfc = pre.nfc;
  spec.ignore_merges = pre.ignore_merges;
  ReadGgufBosAndEos(metadata, pre.add_bos, spec);
  return spec;
}

}  // namespace shoal::text
