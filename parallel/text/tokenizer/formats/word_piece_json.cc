// A WordPiece tokenizer's definition from tokenizer.json.

#include <nlohmann/json.hpp>

#include "parallel/text/tokenizer/formats/json_fields.h"
#include "parallel/text/tokenizer/formats/word_piece.h"
#include "transport/base/check.h"

namespace shoal::text {
namespace {

using nlohmann::json;

const json& PartOfType(const json& tokenizer, const char* key, const char* type) {
  const json* part = JsonFind(tokenizer, key);
  if (part == nullptr || JsonString(*part, "type") != type) {
    RefuseJson(key, part == nullptr ? "nothing" : JsonString(*part, "type"),
               Str(type, " for a WordPiece model"));
  }
  return *part;
}

BertNormalization ReadBertNormalizer(const json& part) {
  BertNormalization how;
  how.clean = JsonBool(part, "clean_text", true);
  how.separate_cjk = JsonBool(part, "handle_chinese_chars", true);
  how.lowercase = JsonBool(part, "lowercase", true);
  how.strip_accents = JsonBool(part, "strip_accents", how.lowercase);
  return how;
}

void ReadPieces(const json& vocab, const std::string& prefix, bool clean_up, TokenizerSpec& spec) {
  for (const auto& [text, value] : vocab.items()) {
    const int32_t id = JsonId(value, "model.vocab");
    if (spec.tokens.size() <= static_cast<size_t>(id)) spec.tokens.resize(id + 1);
    const bool goes_on = !prefix.empty() && text.starts_with(prefix);
    AddWordPiece(goes_on ? text.substr(prefix.size()) : text, !goes_on, clean_up, id, spec);
  }
}

}  // namespace

void AddWordPiece(const std::string& text, bool begins, bool clean_up, int32_t id,
                  TokenizerSpec& spec) {
  auto& pieces = begins ? spec.word_pieces->starts : spec.word_pieces->continuations;
  if (!text.empty()) pieces.try_emplace(text, id);
  const bool close = clean_up && (text == "." || text == "," || text == "!" || text == "?");
  VocabToken& token = spec.tokens[static_cast<size_t>(id)];
  token.bytes = begins && !close ? " " + text : text;
}

void ReadJsonWordPiece(const json& tokenizer, TokenizerSpec& spec) {
  WordPieceVocabulary& pieces = spec.word_pieces.emplace();
  pieces.normalization = ReadBertNormalizer(PartOfType(tokenizer, "normalizer", "BertNormalizer"));
  PartOfType(tokenizer, "pre_tokenizer", "BertPreTokenizer");
  const json& decoder = PartOfType(tokenizer, "decoder", "WordPiece");
  spec.drop_first_space = true;
  const json& model = PartOfType(tokenizer, "model", "WordPiece");
  const json* vocab = JsonFind(model, "vocab");
  if (vocab == nullptr || !vocab->is_object()) RefuseJson("model.vocab", "none", "an object");
  const std::string prefix = JsonFind(model, "continuing_subword_prefix") == nullptr
                                 ? "##"
                                 : JsonString(model, "continuing_subword_prefix");
  if (JsonString(decoder, "prefix") != prefix) {
    RefuseJson("decoder.prefix", JsonString(decoder, "prefix"), "the model's, " + prefix);
  }
  ReadPieces(*vocab, prefix, JsonBool(decoder, "cleanup", true), spec);
  const auto unknown = vocab->find(JsonString(model, "unk_token"));
  if (unknown == vocab->end()) {
    RefuseJson("model.unk_token", JsonString(model, "unk_token"), "a token of the vocabulary");
  }
  pieces.unknown = JsonId(*unknown, "model.vocab");
  const json* longest = JsonFind(model, "max_input_chars_per_word");
  if (longest == nullptr) return;
  if (!longest->is_number_integer() || *longest < 0) {
    RefuseJson("model.max_input_chars_per_word", longest->dump(), "a whole number");
  }
  pieces.word_characters_max = longest->get<int64_t>();
}

}  // namespace shoal::text
