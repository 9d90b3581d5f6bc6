// A WordPiece tokenizer's definition from GGUF metadata (model "bert"). The file marks the pieces
// that begin a word with U+2581, as if it were a space before the word, and leaves out the ## of
// those that go on.

#include <nlohmann/json.hpp>

#include "parallel/text/tokenizer/formats/gguf_fields.h"
#include "parallel/text/tokenizer/formats/word_piece.h"
#include "transport/base/error.h"

namespace shoal::text {
namespace {

using nlohmann::json;

constexpr std::string_view kWordPieceReadKeys[] = {"tokenizer.ggml.model",
                                                   "tokenizer.ggml.tokens",
                                                   "tokenizer.ggml.token_type",
                                                   "tokenizer.ggml.add_bos_token",
                                                   "tokenizer.ggml.add_sep_token",
                                                   "tokenizer.ggml.normalizer.lowercase",
                                                   "tokenizer.ggml.normalizer.strip_accents"};

constexpr model::IdleKey kWordPieceIdleKeys[] = {
    {"tokenizer.ggml.pre", "", "words are always BERT's"},
    {"tokenizer.ggml.scores", "", "the longest piece is taken"},
    {"tokenizer.ggml.merges", "", "the longest piece is taken"},
    {"tokenizer.ggml.add_eos_token", "", "add_sep_token says what follows a text"},
    {"tokenizer.ggml.add_space_prefix", "", "each word has its space"},
    {"tokenizer.ggml.remove_extra_whitespaces", "", "white space parts words and no more"},
    {"tokenizer.ggml.token_type_count", "", "all of a text is one segment"},
};

void ReadGgufWordPieces(const json& metadata, TokenizerSpec& spec) {
  constexpr const char* kKey = "tokenizer.ggml.tokens";
  const json& tokens = GgufTokens(metadata);
  spec.tokens.resize(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string& text = GgufString(tokens[i], kKey);
    const auto id = static_cast<int32_t>(i);
    const GgufTokenType type = GgufTypeOfToken(metadata, i);
    if (type == GgufTokenType::kNormal) {
      const bool begins = text.starts_with(kSpaceMark);
      AddWordPiece(begins ? text.substr(kSpaceMark.size()) : text, begins, true, id, spec);
      continue;
    }
    spec.tokens[i].bytes = " " + text;
    if (type == GgufTokenType::kUnused || text.empty()) continue;
    spec.tokens[i].special = type != GgufTokenType::kUserDefined;
    spec.added_tokens.push_back({.id = id, .text = text, .special = spec.tokens[i].special});
  }
}

}  // namespace

TokenizerSpec SpecFromWordPieceGguf(const json& metadata) {
  CheckGgufKeys(metadata, kWordPieceReadKeys, kWordPieceIdleKeys);
  TokenizerSpec spec;
  spec.word_pieces.emplace();
  spec.drop_first_space = true;
  ReadGgufWordPieces(metadata, spec);
  const size_t count = spec.tokens.size();
  // Where the file names none, they are where the first model had them.
  const auto id_of = [&](const char* key, int32_t otherwise) {
    const int32_t id = GgufTokenId(metadata, key, count).value_or(otherwise);
    if (static_cast<size_t>(id) >= count) {
      Throw(ErrorCode::kInvalidArgument, key, ": expected a token id below ", count,
            ", found nothing; convert the model again");
    }
    return id;
  };
  BertNormalization& normalization = spec.word_pieces->normalization;
  normalization.lowercase = GgufBool(metadata, "tokenizer.ggml.normalizer.lowercase", true);
  normalization.strip_accents = GgufBool(metadata, "tokenizer.ggml.normalizer.strip_accents", true);
  spec.word_pieces->unknown = id_of("tokenizer.ggml.unknown_token_id", 100);
  const char* begin_key = "tokenizer.ggml.bos_token_id";
  if (GgufFind(metadata, begin_key) == nullptr) begin_key = "tokenizer.ggml.cls_token_id";
  const int32_t begin = id_of(begin_key, 101);
  const int32_t end = id_of("tokenizer.ggml.seperator_token_id", 102);
  if (GgufBool(metadata, "tokenizer.ggml.add_bos_token", true)) spec.bos_to_add = begin;
  if (GgufBool(metadata, "tokenizer.ggml.add_sep_token", true)) spec.eos_to_add = end;
  spec.bos_text = spec.tokens[static_cast<size_t>(begin)].bytes.substr(1);
  spec.eos_text = spec.tokens[static_cast<size_t>(end)].bytes.substr(1);
  return spec;
}

}  // namespace shoal::text
