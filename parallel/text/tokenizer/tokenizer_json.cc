// A tokenizer's definition from Hugging Face's tokenizer.json and tokenizer_config.json. Every part
// that changes ids is either understood or refused by name.

#include <bitset>
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
using Ids = std::unordered_map<std::string, int32_t>;

[[noreturn]] void Refuse(const std::string& where, const std::string& found,
                         const std::string& expected) {
  Throw(ErrorCode::kInvalidArgument, "tokenizer.json: ", where, ": found ", found, ", expected ",
        expected, "; this tokenizer is not supported");
}

// The member, or null where it is absent or null.
const json* Find(const json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

bool Bool(const json& object, const char* key, bool otherwise) {
  const json* value = Find(object, key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) Refuse(key, value->type_name(), "a bool");
  return value->get<bool>();
}

const std::string& String(const json& object, const char* key) {
  const json* value = Find(object, key);
  if (value == nullptr || !value->is_string()) {
    Refuse(key, value == nullptr ? "nothing" : value->type_name(), "a string");
  }
  return value->get_ref<const std::string&>();
}

int32_t Id(const json& value, const std::string& where) {
  if (!value.is_number_integer() || value.get<int64_t>() < 0 ||
      value.get<int64_t>() >= kVocabSizeMax) {
    Refuse(where, value.is_number() ? value.dump() : value.type_name(),
           Str("an id below ", kVocabSizeMax));
  }
  return value.get<int32_t>();
}

VocabToken& TokenAt(TokenizerSpec& spec, int32_t id) {
  if (spec.tokens.size() <= static_cast<size_t>(id)) spec.tokens.resize(id + 1);
  return spec.tokens[id];
}

Ids ReadVocabulary(const json& model, TokenizerSpec& spec) {
  const json* vocab = Find(model, "vocab");
  if (vocab == nullptr || !vocab->is_object()) Refuse("model.vocab", "none", "an object");
  Ids ids;
  ids.reserve(vocab->size());
  for (const auto& [text, value] : vocab->items()) {
    const int32_t id = Id(value, "model.vocab");
    VocabToken& token = TokenAt(spec, id);
    token.mergeable = BytesFromAlphabet(text, token.bytes);
    if (!token.mergeable) token.bytes = text;
    ids.emplace(text, id);
  }
  return ids;
}

// Either "left right" or ["left", "right"].
void ReadMerges(const json& model, const Ids& ids, TokenizerSpec& spec) {
  const json* merges = Find(model, "merges");
  if (merges == nullptr || !merges->is_array()) Refuse("model.merges", "none", "an array");
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
      Refuse(Str("model.merges[", i, "]"), Str("\"", left, "\" \"", right, "\""),
             "two tokens of the vocabulary whose join is one too");
    }
    spec.merges.push_back({left_id->second, right_id->second, merged_id->second});
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
  const json* model = Find(tokenizer, "model");
  if (model == nullptr) Refuse("model", "nothing", "an object");
  // Very old files leave the type out.
  if (Find(*model, "type") != nullptr && String(*model, "type") != "BPE") {
    Refuse("model.type", String(*model, "type"), "BPE");
  }
  const json* dropout = Find(*model, "dropout");
  if (dropout != nullptr && *dropout != 0) Refuse("model.dropout", dropout->dump(), "0");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const json* value = Find(*model, key);
    if (value != nullptr && *value != "") Refuse(Str("model.", key), "a value", "null");
  }
  for (const char* key : {"byte_fallback", "fuse_unk"}) {
    if (Bool(*model, key, false)) Refuse(Str("model.", key), "true", "false");
  }
  spec.ignore_merges = Bool(*model, "ignore_merges", false);
  Ids ids = ReadVocabulary(*model, spec);
  ReadMerges(*model, ids, spec);
  // Where every byte has a token, nothing is unknown.
  if (Find(*model, "unk_token") != nullptr && !HasEveryByte(spec)) {
    Refuse("model.unk_token", String(*model, "unk_token"), "null, or a token for each byte");
  }
  return ids;
}

void ReadAddedTokens(const json& tokenizer, Ids& ids, TokenizerSpec& spec) {
  const json* added = Find(tokenizer, "added_tokens");
  if (added == nullptr) return;
  if (!added->is_array()) Refuse("added_tokens", added->type_name(), "an array");
  for (const json& item : *added) {
    const json* id = Find(item, "id");
    if (id == nullptr) Refuse("added_tokens.id", "nothing", "an integer");
    AddedToken token{.id = Id(*id, "added_tokens.id"),
                     .text = String(item, "content"),
                     .special = Bool(item, "special", false),
                     .strip_left = Bool(item, "lstrip", false),
                     .strip_right = Bool(item, "rstrip", false),
                     .normalized = Bool(item, "normalized", false)};
    if (Bool(item, "single_word", false)) Refuse("added_tokens.single_word", token.text, "false");
    VocabToken& entry = TokenAt(spec, token.id);
    entry.bytes = token.text;
    entry.special = token.special;
    ids.emplace(token.text, token.id);
    if (!token.text.empty()) spec.added_tokens.push_back(std::move(token));
  }
}

void ReadNormalizer(const json& normalizer, TokenizerSpec& spec) {
  const std::string& type = String(normalizer, "type");
  if (type == "Sequence") {
    const json* parts = Find(normalizer, "normalizers");
    if (parts == nullptr || !parts->is_array()) Refuse("normalizers", "none", "an array");
    for (const json& part : *parts) {
      if (part.is_object() && String(part, "type") == "Sequence") {
        Refuse("normalizer", "Sequence in a Sequence", "NFC");
      }
      ReadNormalizer(part, spec);
    }
  } else if (type == "NFC") {
    spec.nfc = true;
  } else {
    Refuse("normalizer", type, "NFC or none");
  }
}

// A literal text as an expression.
std::string Quoted(const std::string& literal) {
  std::string pattern;
  for (const char c : literal) {
    if (std::string_view(R"(\^$.|?*+()[]{})").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

SplitRule ReadSplit(const json& split) {
  const json* pattern = Find(split, "pattern");
  if (pattern == nullptr) Refuse("pre_tokenizer.Split.pattern", "nothing", "an object");
  SplitRule rule;
  rule.pattern = Find(*pattern, "Regex") != nullptr ? String(*pattern, "Regex")
                                                    : Quoted(String(*pattern, "String"));
  const std::string& behavior = String(split, "behavior");
  if (behavior == "Removed") {
    (Bool(split, "invert", false) ? rule.keep_gaps : rule.keep_matches) = false;
  } else if (behavior != "Isolated") {
    Refuse("pre_tokenizer.Split.behavior", behavior, "Isolated or Removed");
  }
  return rule;
}

// Returns whether ByteLevel was among the parts.
bool ReadPreTokenizer(const json& part, bool nested, TokenizerSpec& spec) {
  const std::string& type = String(part, "type");
  if (type == "Sequence" && !nested) {
    const json* parts = Find(part, "pretokenizers");
    if (parts == nullptr || !parts->is_array()) Refuse("pretokenizers", "none", "an array");
    bool byte_level = false;
    for (const json& inner : *parts) {
      // A part after ByteLevel would see the alphabet's characters instead of the text's.
      if (byte_level) Refuse("pre_tokenizer", "a part after ByteLevel", "ByteLevel last");
      byte_level = ReadPreTokenizer(inner, true, spec);
    }
    return byte_level;
  }
  if (type == "Split") {
    spec.splits.push_back(ReadSplit(part));
  } else if (type == "Digits") {
    const bool each = Bool(part, "individual_digits", false);
    spec.splits.push_back({.pattern = each ? kDigitPattern : Str(kDigitPattern, "+")});
  } else if (type == "ByteLevel") {
    if (Bool(part, "add_prefix_space", true)) {
      Refuse("pre_tokenizer.ByteLevel.add_prefix_space", "true", "false");
    }
    if (Bool(part, "use_regex", true)) spec.splits.push_back({.pattern = kGpt2Pattern});
    return true;
  } else {
    Refuse("pre_tokenizer", type, "Sequence, Split, Digits or ByteLevel");
  }
  return false;
}

// Only one token before the text, or none, can be reproduced: the interface adds a BOS and no more.
std::optional<int32_t> BosOfTemplate(const json& processor) {
  const json* single = Find(processor, "single");
  if (single == nullptr || !single->is_array()) Refuse("post_processor.single", "none", "an array");
  std::optional<int32_t> bos;
  bool text_seen = false;
  for (const json& item : *single) {
    if (Find(item, "Sequence") != nullptr) {
      text_seen = true;
      continue;
    }
    const json* token = Find(item, "SpecialToken");
    if (token == nullptr || text_seen || bos) {
      Refuse("post_processor.single", item.dump(), "one special token before the text");
    }
    const json* table = Find(processor, "special_tokens");
    const json* entry = table == nullptr ? nullptr : Find(*table, String(*token, "id").c_str());
    const json* ids = entry == nullptr ? nullptr : Find(*entry, "ids");
    if (ids == nullptr || !ids->is_array() || ids->size() != 1) {
      Refuse("post_processor.special_tokens", String(*token, "id"), "one id");
    }
    bos = Id((*ids)[0], "post_processor.special_tokens");
  }
  return bos;
}

// Returns whether a TemplateProcessing decides about the BOS.
bool ReadPostProcessor(const json& processor, bool nested, TokenizerSpec& spec) {
  const std::string& type = String(processor, "type");
  if (type == "TemplateProcessing") {
    spec.bos_to_add = BosOfTemplate(processor);
    return true;
  }
  if (type == "Sequence" && !nested) {
    const json* parts = Find(processor, "processors");
    if (parts == nullptr || !parts->is_array()) Refuse("processors", "none", "an array");
    bool decided = false;
    for (const json& part : *parts) decided |= ReadPostProcessor(part, true, spec);
    return decided;
  }
  if (type != "ByteLevel") {  // Which only changes offsets.
    Refuse("post_processor", type, "Sequence, ByteLevel or TemplateProcessing");
  }
  return false;
}

// Tokens write their own bytes.
void CheckDecoder(const json& decoder) {
  const std::string& type = String(decoder, "type");
  if (type == "Sequence") {
    const json* parts = Find(decoder, "decoders");
    if (parts == nullptr || !parts->is_array()) Refuse("decoder.decoders", "none", "an array");
    for (const json& part : *parts) {
      if (String(part, "type") != "ByteLevel") Refuse("decoder", String(part, "type"), "ByteLevel");
    }
  } else if (type != "ByteLevel") {
    Refuse("decoder", type, "ByteLevel");
  }
}

constexpr std::string_view kPromptAsItIs = "a prompt is its text, after a BOS at most";
constexpr std::string_view kShownAsItIs = "what is shown is what the tokens write";
constexpr std::string_view kForBatches =
    "of batches that are padded or cut, which a call must ask for";

// Keys of tokenizer_config.json that would change ids or texts, and others that only seem to.
constexpr model::IdleKey kIdleConfigKeys[] = {
    {"add_eos_token", "[false]", kPromptAsItIs},
    {"add_prefix_space", "[false]", kPromptAsItIs},
    {"split_special_tokens", "[false]", "special tokens of a prompt are recognised"},
    {"clean_up_tokenization_spaces", "", kShownAsItIs},
    {"spaces_between_special_tokens", "", kShownAsItIs},
    {"padding_side", "", kForBatches},
    {"truncation_side", "", kForBatches},
    {"model_max_length", "", "config.json's max_position_embeddings says it"},
    {"legacy", "", "of tokenizers that are refused"},
};

// added_tokens_decoder repeats tokenizer.json's added_tokens. A token that only this key has would
// be one more, so it is refused.
void CheckAddedTokensDecoder(const json& config, const Ids& ids) {
  const json* decoder = Find(config, "added_tokens_decoder");
  if (decoder == nullptr || !decoder->is_object()) return;
  for (const auto& [id, token] : decoder->items()) {
    const std::string& text = String(token, "content");
    const auto known = ids.find(text);
    if (known != ids.end() && std::to_string(known->second) == id) continue;
    Refuse(Str("tokenizer_config.json's added_tokens_decoder.", id), text,
           "a token of tokenizer.json with this id");
  }
}

// A token in tokenizer_config.json is a string or an object with its "content".
std::string ConfigToken(const json* config, const char* key) {
  const json* value = config == nullptr ? nullptr : Find(*config, key);
  if (value == nullptr) return "";
  return value->is_string() ? value->get<std::string>() : String(*value, "content");
}

}  // namespace

TokenizerSpec SpecFromTokenizerJson(const json& metadata) {
  const json* tokenizer = Find(metadata, "tokenizer.json");
  if (tokenizer == nullptr || !tokenizer->is_object()) {
    Throw(ErrorCode::kInvalidArgument, "tokenizer.json: missing or not an object");
  }
  TokenizerSpec spec;
  Ids ids = ReadModel(*tokenizer, spec);
  ReadAddedTokens(*tokenizer, ids, spec);
  if (const json* normalizer = Find(*tokenizer, "normalizer")) ReadNormalizer(*normalizer, spec);
  const json* pre_tokenizer = Find(*tokenizer, "pre_tokenizer");
  if (pre_tokenizer == nullptr || !ReadPreTokenizer(*pre_tokenizer, false, spec)) {
    Refuse("pre_tokenizer", "no ByteLevel", "ByteLevel last");
  }
  const json* processor = Find(*tokenizer, "post_processor");
  const bool decided = processor != nullptr && ReadPostProcessor(*processor, false, spec);
  if (const json* decoder = Find(*tokenizer, "decoder")) CheckDecoder(*decoder);
  const json* config = Find(metadata, "tokenizer_config.json");
  if (config != nullptr) {
    model::CheckIdleKeys(*config, kIdleConfigKeys, "tokenizer_config.json");
    CheckAddedTokensDecoder(*config, ids);
  }
  spec.bos_text = ConfigToken(config, "bos_token");
  spec.eos_text = ConfigToken(config, "eos_token");
  if (!decided && config != nullptr && Bool(*config, "add_bos_token", false)) {
    const auto bos = ids.find(spec.bos_text);
    if (bos == ids.end()) Refuse("bos_token", spec.bos_text, "a token of the vocabulary");
    spec.bos_to_add = bos->second;
  }
  return spec;
}

}  // namespace shoal::text
