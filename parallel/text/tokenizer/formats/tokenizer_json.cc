// A tokenizer's definition from Hugging Face's tokenizer.json and tokenizer_config.json. Every part
// that changes ids is either understood or refused by name.

#include <bitset>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_map>

#include "parallel/model/config/idle_keys.h"
#include "parallel/text/tokenizer/formats/json_fields.h"
#include "parallel/text/tokenizer/formats/tokenizer_json_text.h"
#include "parallel/text/tokenizer/formats/word_piece.h"
#include "parallel/text/tokenizer/tokenizer_spec.h"
#include "parallel/text/utf8.h"
#include "transport/base/error.h"

namespace shoal::text {
namespace {

using nlohmann::json;
using Ids = std::unordered_map<std::string, int32_t>;

VocabToken& TokenAt(TokenizerSpec& spec, int32_t id) {
  if (spec.tokens.size() <= static_cast<size_t>(id)) spec.tokens.resize(id + 1);
  return spec.tokens[id];
}

void ReadCharacterToken(const std::string& text, int32_t id, CharacterVocabulary& characters,
                        VocabToken& token) {
  token.bytes = WithSpaces(text);
  if (const auto byte = ByteOfToken(text)) {
    token.bytes = std::string(1, static_cast<char>(*byte));
    characters.byte_ids[*byte] = id;
  }
  if (text.empty()) return;
  const Utf8Step step = DecodeUtf8(text);
  if (step.kind == Utf8Step::Kind::kCharacter && step.length == text.size()) {
    characters.ids.emplace(step.code_point, id);
  }
}

Ids ReadVocabulary(const json& model, TokenizerSpec& spec) {
  const json* vocab = JsonFind(model, "vocab");
  if (vocab == nullptr || !vocab->is_object()) RefuseJson("model.vocab", "none", "an object");
  Ids ids;
  ids.reserve(vocab->size());
  for (const auto& [text, value] : vocab->items()) {
    const int32_t id = JsonId(value, "model.vocab");
    VocabToken& token = TokenAt(spec, id);
    if (spec.characters) {
      ReadCharacterToken(text, id, *spec.characters, token);
    } else {
      token.mergeable = BytesFromAlphabet(text, token.bytes);
      if (!token.mergeable) token.bytes = text;
    }
    ids.emplace(text, id);
  }
  return ids;
}

// Either "left right" or ["left", "right"].
void ReadMerges(const json& model, const Ids& ids, TokenizerSpec& spec) {
  const json* merges = JsonFind(model, "merges");
  if (merges == nullptr || !merges->is_array()) RefuseJson("model.merges", "none", "an array");
  spec.merges.reserve(merges->size());
  for (size_t i = 0; i < merges->size(); ++i) {
    const json& merge = (*merges)[i];
    std::string left;
    std::string right;
    if (merge.is_string()) {
      const auto& text = merge.get_ref<const std::string&>();
      const size_t space = text.find(' ');
      left = text.substr(0, space);
      right = space == std::string::npos ? "" : text.substr(space + 1);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    }
    const auto left_id = ids.find(left);
    const auto right_id = ids.find(right);
    const auto merged_id = ids.find(left + right);
    if (left_id == ids.end() || right_id == ids.end() || merged_id == ids.end()) {
      RefuseJson(Str("model.merges[", i, "]"), Str("\"", left, "\" \"", right, "\""),
                 "two tokens of the vocabulary whose join is one too");
    }
    spec.merges.push_back(
        {left_id->second, right_id->second, merged_id->second, static_cast<int32_t>(i)});
  }
}

bool HasEveryByte(const TokenizerSpec& spec) {
  std::bitset<256> bytes;
  for (const VocabToken& token : spec.tokens) {
    if (token.mergeable && token.bytes.size() == 1) bytes.set(static_cast<uint8_t>(token.bytes[0]));
  }
  return bytes.all();
}

Ids ReadModel(const json& tokenizer, TokenizerSpec& spec) {
  const json* model = JsonFind(tokenizer, "model");
  if (model == nullptr) RefuseJson("model", "nothing", "an object");
  // Very old files leave the type out.
  if (JsonFind(*model, "type") != nullptr && JsonString(*model, "type") != "BPE") {
    RefuseJson("model.type", JsonString(*model, "type"), "BPE or WordPiece");
  }
  const json* dropout = JsonFind(*model, "dropout");
  if (dropout != nullptr && *dropout != 0) RefuseJson("model.dropout", dropout->dump(), "0");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const json* value = JsonFind(*model, key);
    if (value != nullptr && *value != "") RefuseJson(Str("model.", key), "a value", "null");
  }
  const json* unknown = JsonFind(*model, "unk_token");
  spec.ignore_merges = JsonBool(*model, "ignore_merges", false);
  if (spec.characters && spec.ignore_merges) RefuseJson("model.ignore_merges", "true", "false");
  for (const char* key : {"byte_fallback", "fuse_unk"}) {
    const bool value = JsonBool(*model, key, false);
    if (value && !spec.characters) RefuseJson(Str("model.", key), "true", "false");
  }
  Ids ids = ReadVocabulary(*model, spec);
  ReadMerges(*model, ids, spec);
  if (spec.characters) {
    if (!JsonBool(*model, "byte_fallback", false)) {
      spec.characters->byte_ids = CharacterVocabulary::NoIds();
    }
    spec.characters->fuse_unknown = JsonBool(*model, "fuse_unk", false);
    if (unknown != nullptr) {
      const auto found = ids.find(JsonString(*model, "unk_token"));
      if (found == ids.end()) {
        RefuseJson("model.unk_token", JsonString(*model, "unk_token"), "a token of the vocabulary");
      }
      spec.characters->unknown = found->second;
    }
  } else if (unknown != nullptr && !HasEveryByte(spec)) {
    // Where every byte has a token, nothing is unknown.
    RefuseJson("model.unk_token", JsonString(*model, "unk_token"),
               "null, or a token for each byte");
  }
  return ids;
}

// What merges, or what is taken whole; and what a text passes before. Returns the ids by text.
Ids ReadModelAndText(const json& tokenizer, TokenizerSpec& spec) {
  const json* model = JsonFind(tokenizer, "model");
  if (model != nullptr && JsonFind(*model, "type") != nullptr &&
      JsonString(*model, "type") == "WordPiece") {
    ReadJsonWordPiece(tokenizer, spec);
    Ids ids;
    for (const auto& [text, id] : (*model)["vocab"].items()) ids.emplace(text, id.get<int32_t>());
    return ids;
  }
  if (const json* part = JsonFind(tokenizer, "normalizer")) ReadJsonNormalizer(*part, spec);
  const json* pre_tokenizer = JsonFind(tokenizer, "pre_tokenizer");
  const bool byte_level = pre_tokenizer != nullptr && ReadJsonPreTokenizer(*pre_tokenizer, spec);
  if (byte_level && spec.metaspace) {
    RefuseJson("pre_tokenizer", "ByteLevel after spaces became U+2581", "one of the two");
  }
  if (!byte_level) {
    if (!spec.metaspace) RefuseJson("pre_tokenizer", "no ByteLevel", "ByteLevel last");
    spec.characters.emplace();
    ReadJsonCharacterDecoder(tokenizer, spec);
  } else if (const json* decoder = JsonFind(tokenizer, "decoder")) {
    ReadJsonByteLevelDecoder(*decoder);
  }
  return ReadModel(tokenizer, spec);
}

void ReadAddedTokens(const json& tokenizer, Ids& ids, TokenizerSpec& spec) {
  const json* added = JsonFind(tokenizer, "added_tokens");
  if (added == nullptr) return;
  if (!added->is_array()) RefuseJson("added_tokens", added->type_name(), "an array");
  for (const json& item : *added) {
    const json* id = JsonFind(item, "id");
    if (id == nullptr) RefuseJson("added_tokens.id", "nothing", "an integer");
    AddedToken token{.id = JsonId(*id, "added_tokens.id"),
                     .text = JsonString(item, "content"),
                     .special = JsonBool(item, "special", false),
                     .strip_left = JsonBool(item, "lstrip", false),
                     .strip_right = JsonBool(item, "rstrip", false),
                     .normalized = JsonBool(item, "normalized", false)};
    if (JsonBool(item, "single_word", false))
      RefuseJson("added_tokens.single_word", token.text, "false");
    VocabToken& entry = TokenAt(spec, token.id);
    entry.bytes = spec.characters ? WithSpaces(token.text) : token.text;
    if (spec.word_pieces) entry.bytes = " " + token.text;
    entry.special = token.special;
    ids.emplace(token.text, token.id);
    if (!token.text.empty()) spec.added_tokens.push_back(std::move(token));
  }
}

constexpr std::string_view kPromptAsItIsInJson = "a prompt is its text, after a BOS at most";
constexpr std::string_view kShownAsItIs = "what is shown is what the tokens write";
constexpr std::string_view kForBatches =
    "of batches that are padded or cut, which a call must ask for";

// Keys of tokenizer_config.json that would change ids or texts, and others that only seem to.
constexpr model::IdleKey kIdleConfigKeys[] = {
    {"add_eos_token", "[false]", kPromptAsItIsInJson},
    {"split_special_tokens", "[false]", "special tokens of a prompt are recognised"},
    {"clean_up_tokenization_spaces", "", kShownAsItIs},
    {"spaces_between_special_tokens", "", kShownAsItIs},
    {"padding_side", "", kForBatches},
    {"truncation_side", "", kForBatches},
    {"model_max_length", "", "config.json's max_position_embeddings says it"},
    {"legacy", "", "tokenizer.json says what is put before a text"},
    {"sp_model_kwargs", "[{}]", "the vocabulary is tokenizer.json's"},
};

// added_tokens_decoder repeats tokenizer.json's added_tokens. A token that only this key has would
// be one more, so it is refused.
void CheckAddedTokensDecoder(const json& config, const Ids& ids) {
  const json* decoder = JsonFind(config, "added_tokens_decoder");
  if (decoder == nullptr || !decoder->is_object()) return;
  for (const auto& [id, token] : decoder->items()) {
    const std::string& text = JsonString(token, "content");
    const auto known = ids.find(text);
    if (known != ids.end() && std::to_string(known->second) == id) continue;
    RefuseJson(Str("tokenizer_config.json's added_tokens_decoder.", id), text,
               "a token of tokenizer.json with this id");
  }
}

// A token in tokenizer_config.json is a string or an object with its "content".
std::string ConfigToken(const json* config, const char* key) {
  const json* value = config == nullptr ? nullptr : JsonFind(*config, key);
  if (value == nullptr) return "";
  return value->is_string() ? value->get<std::string>() : JsonString(*value, "content");
}

}  // namespace

TokenizerSpec SpecFromTokenizerJson(const json& metadata) {
  const json* tokenizer = JsonFind(metadata, "tokenizer.json");
  if (tokenizer == nullptr || !tokenizer->is_object()) {
    Throw(ErrorCode::kInvalidArgument, "tokenizer.json: missing or not an object");
  }
  TokenizerSpec spec;
  Ids ids = ReadModelAndText(*tokenizer, spec);
  ReadAddedTokens(*tokenizer, ids, spec);
  std::optional<TextFrame> frame;
  if (const json* part = JsonFind(*tokenizer, "post_processor")) {
    frame = ReadJsonPostProcessor(*part);
  }
  if (frame && spec.word_pieces) spec.eos_to_add = frame->after;
  if (frame && frame->after && !spec.word_pieces) {
    RefuseJson("post_processor.single", "a token after the text", "one before it at most");
  }
  if (frame) spec.bos_to_add = frame->before;
  const json* config = JsonFind(metadata, "tokenizer_config.json");
  if (config != nullptr) {
    model::CheckIdleKeys(*config, kIdleConfigKeys, "tokenizer_config.json");
    // Where spaces are marked, it repeats what tokenizer.json says.
    if (!spec.metaspace && JsonBool(*config, "add_prefix_space", false)) {
      RefuseJson("tokenizer_config.json's add_prefix_space", "true", "false");
    }
    CheckAddedTokensDecoder(*config, ids);
  }
  spec.bos_text = ConfigToken(config, "bos_token");
  spec.eos_text = ConfigToken(config, "eos_token");
  if (!frame && config != nullptr && JsonBool(*config, "add_bos_token", false)) {
    const auto bos = ids.find(spec.bos_text);
    if (bos == ids.end()) RefuseJson("bos_token", spec.bos_text, "a token of the vocabulary");
    spec.bos_to_add = bos->second;
  }
  return spec;
}

}  // namespace shoal::text
