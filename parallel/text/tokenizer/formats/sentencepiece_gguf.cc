// A SentencePiece tokenizer's definition from GGUF metadata (model "llama"). The file lists tokens
// with scores and no merges: any two neighbours whose join is a token merge, the best score first.
// They are listed here, once, as every division of every token into two others.

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_map>

#include "parallel/text/tokenizer/formats/gguf_fields.h"
#include "parallel/text/utf8.h"
#include "transport/base/error.h"

namespace shoal::text {
namespace {

using nlohmann::json;
using NormalIds = std::unordered_map<std::string_view, int32_t>;

constexpr std::string_view kSentencePieceReadKeys[] = {
    "tokenizer.ggml.model",     "tokenizer.ggml.pre",           "tokenizer.ggml.tokens",
    "tokenizer.ggml.scores",    "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.token_type"};

constexpr model::IdleKey kSentencePieceIdleKeys[] = {
    {"tokenizer.ggml.add_eos_token", "[false]", kPromptAsItIs},
    {"tokenizer.ggml.add_sep_token", "[false]", kPromptAsItIs},
    {"tokenizer.ggml.remove_extra_whitespaces", "[false]", kPromptAsItIs},
    {"tokenizer.ggml.precompiled_charsmap", "[[]]", "text is not mapped to other characters"},
    {"tokenizer.ggml.merges", "", "pairs merge by the scores of what they become"},
    {"tokenizer.ggml.token_type_count", "", "of models that take types of segments"},
};

// Fills tokens, added tokens and characters. Result: the normal tokens by their text, which stays
// the metadata's.
NormalIds ReadPieces(const json& metadata, TokenizerSpec& spec) {
  constexpr const char* kKey = "tokenizer.ggml.tokens";
  const json& tokens = GgufTokens(metadata);
  NormalIds ids;
  ids.reserve(tokens.size());
  spec.tokens.resize(tokens.size());
  spec.characters.emplace();
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string& text = GgufString(tokens[i], kKey);
    const auto id = static_cast<int32_t>(i);
    const GgufTokenType type = GgufTypeOfToken(metadata, i);
    VocabToken& token = spec.tokens[i];
    token.bytes = WithSpaces(text);
    if (type == GgufTokenType::kByte) {
      const auto byte = ByteOfToken(text);
      if (!byte) {
        Throw(ErrorCode::kInvalidArgument, kKey, "[", i, "]: expected a byte as in <0x0A>, found ",
              text, "; convert the model again");
      }
      token.bytes = std::string(1, static_cast<char>(*byte));
      spec.characters->byte_ids[*byte] = id;
    } else if (type == GgufTokenType::kNormal) {
      token.mergeable = ids.try_emplace(text, id).second;
    } else if (type != GgufTokenType::kUnused && !text.empty()) {
      token.special = type != GgufTokenType::kUserDefined;
      spec.added_tokens.push_back({.id = id, .text = token.bytes, .special = token.special});
    }
  }
  return ids;
}

// By id: how many better scores there are. Errors: kInvalidArgument for a score that is no number.
std::vector<int32_t> RanksOfScores(const json& metadata, size_t token_count) {
  constexpr const char* kKey = "tokenizer.ggml.scores";
  const json& scores = GgufArray(metadata, kKey);
  if (scores.size() != token_count) {
    Throw(ErrorCode::kInvalidArgument, kKey, ": expected one for each of ", token_count,
          " tokens, found ", scores.size(), "; convert the model again");
  }
  std::vector<std::pair<double, int32_t>> sorted;
  for (size_t i = 0; i < scores.size(); ++i) {
    const double score = scores[i].is_number() ? scores[i].get<double>() : std::nan("");
    if (std::isnan(score)) {
      Throw(ErrorCode::kInvalidArgument, kKey, "[", i, "]: expected a number, found ",
            scores[i].type_name());
    }
    sorted.emplace_back(-score, static_cast<int32_t>(i));
  }
  std::sort(sorted.begin(), sorted.end());
  std::vector<int32_t> ranks(token_count);
  int32_t rank = 0;
  for (size_t i = 0; i < sorted.size(); ++i) {
    if (i > 0 && sorted[i].first != sorted[i - 1].first) ++rank;
    ranks[static_cast<size_t>(sorted[i].second)] = rank;
  }
  return ranks;
}

void ReadScores(const json& metadata, const NormalIds& ids, TokenizerSpec& spec) {
  // Real tokens have some dozens; all divisions of a longer one would take quadratic time.
  constexpr size_t kPieceBytesMax = 1024;
  const std::vector<int32_t> ranks = RanksOfScores(metadata, spec.tokens.size());
  for (const auto& [text, id] : ids) {
    if (text.size() > kPieceBytesMax) {
      Throw(ErrorCode::kInvalidArgument, "tokenizer.ggml.tokens[", id, "]: expected at most ",
            kPieceBytesMax, " bytes, found ", text.size(), "; convert the model again");
    }
    const Utf8Step first = text.empty() ? Utf8Step{} : DecodeUtf8(text);
    if (first.kind != Utf8Step::Kind::kCharacter || first.length == 0) continue;
    if (first.length == text.size()) spec.characters->ids.emplace(first.code_point, id);
    for (size_t cut = first.length; cut < text.size(); ++cut) {
      const auto left = ids.find(text.substr(0, cut));
      const auto right = left == ids.end() ? ids.end() : ids.find(text.substr(cut));
      if (right == ids.end()) continue;
      spec.merges.push_back({left->second, right->second, id, ranks[static_cast<size_t>(id)]});
    }
  }
}

}  // namespace

TokenizerSpec SpecFromSentencePieceGguf(const json& metadata) {
  CheckGgufKeys(metadata, kSentencePieceReadKeys, kSentencePieceIdleKeys);
  constexpr const char* kPreKey = "tokenizer.ggml.pre";
  const json* pre = GgufFind(metadata, kPreKey);
  if (pre != nullptr && GgufString(*pre, kPreKey) != "default") {
    Throw(ErrorCode::kInvalidArgument, kPreKey, ": expected default for model llama, found ",
          GgufString(*pre, kPreKey), "; convert the model again");
  }
  TokenizerSpec spec;
  ReadScores(metadata, ReadPieces(metadata, spec), spec);
  const bool prefix = GgufBool(metadata, "tokenizer.ggml.add_space_prefix", true);
  spec.metaspace = {.prefix = prefix ? SpacePrefix::kAlways : SpacePrefix::kNone};
  spec.drop_first_space = prefix;
  spec.characters->unknown =
      GgufTokenId(metadata, "tokenizer.ggml.unknown_token_id", spec.tokens.size());
  spec.characters->fuse_unknown = true;
  ReadGgufBosAndEos(metadata, true, spec);
  return spec;
}

}  // namespace shoal::text
