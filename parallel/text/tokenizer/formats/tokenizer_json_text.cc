// The parts of tokenizer.json that a text passes: normalizer, pre-tokenizer, decoder and
// post-processor.

#include "parallel/text/tokenizer/formats/tokenizer_json_text.h"

#include <nlohmann/json.hpp>
#include <string_view>

#include "parallel/text/tokenizer/formats/json_fields.h"
#include "transport/base/check.h"

namespace shoal::text {
namespace {

using nlohmann::json;

std::string PatternString(const json& part) {
  const json* pattern = JsonFind(part, "pattern");
  return pattern == nullptr || JsonFind(*pattern, "String") == nullptr
             ? ""
             : JsonString(*pattern, "String");
}

bool IsReplace(const json& part, std::string_view from, std::string_view to) {
  return JsonString(part, "type") == "Replace" && PatternString(part) == from &&
         JsonString(part, "content") == to;
}

void ReadNormalizerPart(const json& part, bool& prepends, TokenizerSpec& spec) {
  const std::string& type = JsonString(part, "type");
  if (type == "NFC") {
    spec.nfc = true;
  } else if (type == "Prepend" && JsonString(part, "prepend") == kSpaceMark) {
    prepends = true;
  } else if (IsReplace(part, " ", kSpaceMark)) {
    spec.metaspace.emplace();
  } else {
    RefuseJson("normalizer", type, "NFC, a Prepend of U+2581, a Replace of spaces by it, or none");
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
  const json* pattern = JsonFind(split, "pattern");
  if (pattern == nullptr) RefuseJson("pre_tokenizer.Split.pattern", "nothing", "an object");
  SplitRule rule;
  rule.pattern = JsonFind(*pattern, "Regex") != nullptr ? JsonString(*pattern, "Regex")
                                                        : Quoted(JsonString(*pattern, "String"));
  rule.invert = JsonBool(split, "invert", false);
  static constexpr std::pair<std::string_view, SplitBehavior> kBehaviors[] = {
      {"Isolated", SplitBehavior::kIsolated},
      {"Removed", SplitBehavior::kRemoved},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous}};
  const std::string& behavior = JsonString(split, "behavior");
  for (const auto& [name, value] : kBehaviors) {
    if (name != behavior) continue;
    rule.behavior = value;
    return rule;
  }
  RefuseJson("pre_tokenizer.Split.behavior", behavior,
             "Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous");
}

void ReadMetaspace(const json& part, TokenizerSpec& spec) {
  if (JsonString(part, "replacement") != kSpaceMark) {
    RefuseJson("pre_tokenizer.Metaspace.replacement", JsonString(part, "replacement"), "U+2581");
  }
  if (!spec.splits.empty() || spec.metaspace) {
    RefuseJson("pre_tokenizer", "Metaspace after other parts that cut or mark spaces",
               "Metaspace first");
  }
  // Older files have a flag instead of the scheme.
  std::string scheme = JsonBool(part, "add_prefix_space", true) ? "always" : "never";
  if (JsonFind(part, "prepend_scheme") != nullptr) scheme = JsonString(part, "prepend_scheme");
  spec.metaspace = {.prefix = SpacePrefix::kNone, .before_added_tokens = false};
  if (scheme == "always") {
    spec.metaspace->prefix = SpacePrefix::kWhereMissing;
  } else if (scheme == "first") {
    spec.metaspace->prefix = SpacePrefix::kFirstWhereMissing;
  } else if (scheme != "never") {
    RefuseJson("pre_tokenizer.Metaspace.prepend_scheme", scheme, "always, first or never");
  }
  if (JsonBool(part, "split", true)) {
    spec.splits.push_back(
        {.pattern = std::string(kSpaceMark), .behavior = SplitBehavior::kMergedWithNext});
  }
}

// Returns whether ByteLevel was among the parts.
bool ReadPreTokenizerPart(const json& part, bool nested, TokenizerSpec& spec) {
  const std::string& type = JsonString(part, "type");
  if (type == "Sequence" && !nested) {
    bool byte_level = false;
    for (const json& inner : JsonList(part, "pretokenizers")) {
      // A part after ByteLevel would see the alphabet's characters instead of the text's.
      if (byte_level) RefuseJson("pre_tokenizer", "a part after ByteLevel", "ByteLevel last");
      byte_level = ReadPreTokenizerPart(inner, true, spec);
    }
    return byte_level;
  }
  if (type == "Split") {
    spec.splits.push_back(ReadSplit(part));
  } else if (type == "Digits") {
    const bool each = JsonBool(part, "individual_digits", false);
    spec.splits.push_back({.pattern = each ? kDigitPattern : Str(kDigitPattern, "+")});
  } else if (type == "ByteLevel") {
    if (JsonBool(part, "add_prefix_space", true)) {
      RefuseJson("pre_tokenizer.ByteLevel.add_prefix_space", "true", "false");
    }
    if (JsonBool(part, "use_regex", true)) spec.splits.push_back({.pattern = kGpt2Pattern});
    return true;
  } else if (type == "Metaspace") {
    ReadMetaspace(part, spec);
  } else {
    RefuseJson("pre_tokenizer", type, "Sequence, Split, Digits, Metaspace or ByteLevel");
  }
  return false;
}

// The id of a special token that a template puts beside the text.
int32_t FrameToken(const json& processor, const json& token) {
  const json* table = JsonFind(processor, "special_tokens");
  const json* entry =
      table == nullptr ? nullptr : JsonFind(*table, JsonString(token, "id").c_str());
  const json* ids = entry == nullptr ? nullptr : JsonFind(*entry, "ids");
  if (ids == nullptr || !ids->is_array() || ids->size() != 1) {
    RefuseJson("post_processor.special_tokens", JsonString(token, "id"), "one id");
  }
  return JsonId((*ids)[0], "post_processor.special_tokens");
}

int32_t BertFrameToken(const json& processor, const char* key) {
  const json& pair = JsonList(processor, key);
  if (pair.size() != 2) RefuseJson(Str("post_processor.", key), pair.dump(), "[text, id]");
  return JsonId(pair[1], Str("post_processor.", key));
}

TextFrame FrameOfTemplate(const json& processor) {
  const json* single = JsonFind(processor, "single");
  if (single == nullptr || !single->is_array()) {
    RefuseJson("post_processor.single", "none", "an array");
  }
  TextFrame frame;
  bool text_seen = false;
  for (const json& item : *single) {
    if (JsonFind(item, "Sequence") != nullptr) {
      text_seen = true;
      continue;
    }
    const json* token = JsonFind(item, "SpecialToken");
    std::optional<int32_t>& side = text_seen ? frame.after : frame.before;
    if (token == nullptr || side) {
      RefuseJson("post_processor.single", item.dump(), "one special token on a side of the text");
    }
    side = FrameToken(processor, *token);
  }
  return frame;
}

// What a Sequence of decoders does, from its parts in order.
class DecoderReader {
 public:
  explicit DecoderReader(TokenizerSpec& spec) : spec_(spec) {}

  void Read(const json& part) {
    const std::string& type = JsonString(part, "type");
    if (IsNext(0) && IsReplace(part, kSpaceMark, " ")) {
      next_ = 1;
    } else if (IsNext(1) && type == "ByteFallback") {
      next_ = 2;
    } else if (IsNext(2) && type == "Fuse") {
      next_ = 3;
    } else if (next_ == 3 && type == "Strip" && JsonString(part, "content") == " " &&
               JsonFind(part, "start") != nullptr && part["start"] == 1 &&
               (JsonFind(part, "stop") == nullptr || part["stop"] == 0)) {
      next_ = 4;
      spec_.drop_first_space = true;
    } else {
      RefuseJson("decoder", part.dump(),
                 "ByteLevel, or a Replace of U+2581 by a space, ByteFallback, Fuse and at most a "
                 "Strip of one space at the start");
    }
  }

  void Finish() const {
    if (next_ < 3) RefuseJson("decoder", "a sequence without Fuse", "Replace, ByteFallback, Fuse");
  }

 private:
  bool IsNext(int place) const { return next_ == place; }

  TokenizerSpec& spec_;
  int next_ = 0;
};

}  // namespace

void ReadJsonNormalizer(const json& normalizer, TokenizerSpec& spec) {
  bool prepends = false;
  if (JsonString(normalizer, "type") == "Sequence") {
    for (const json& part : JsonList(normalizer, "normalizers")) {
      ReadNormalizerPart(part, prepends, spec);
    }
  } else {
    ReadNormalizerPart(normalizer, prepends, spec);
  }
  if (!prepends) return;
  if (!spec.metaspace) {
    RefuseJson("normalizer", "a Prepend alone", "a Replace of spaces by U+2581 with it");
  }
  spec.metaspace->prefix = SpacePrefix::kAlways;
}

bool ReadJsonPreTokenizer(const json& part, TokenizerSpec& spec) {
  return ReadPreTokenizerPart(part, false, spec);
}

std::optional<TextFrame> ReadJsonPostProcessor(const json& processor, bool nested) {
  const std::string& type = JsonString(processor, "type");
  if (type == "TemplateProcessing") return FrameOfTemplate(processor);
  if (type == "BertProcessing") {  // [text, id] of each.
    return TextFrame{BertFrameToken(processor, "cls"), BertFrameToken(processor, "sep")};
  }
  if (type == "Sequence" && !nested) {
    std::optional<TextFrame> frame;
    for (const json& part : JsonList(processor, "processors")) {
      if (const auto found = ReadJsonPostProcessor(part, true)) frame = found;
    }
    return frame;
  }
  if (type != "ByteLevel") {  // Which only changes offsets.
    RefuseJson("post_processor", type, "Sequence, ByteLevel, BertProcessing or TemplateProcessing");
  }
  return std::nullopt;
}

void ReadJsonByteLevelDecoder(const json& decoder) {
  const std::string& type = JsonString(decoder, "type");
  if (type == "Sequence") {
    for (const json& part : JsonList(decoder, "decoders")) {
      if (JsonString(part, "type") != "ByteLevel") {
        RefuseJson("decoder", JsonString(part, "type"), "ByteLevel");
      }
    }
  } else if (type != "ByteLevel") {
    RefuseJson("decoder", type, "ByteLevel");
  }
}

void ReadJsonCharacterDecoder(const json& tokenizer, TokenizerSpec& spec) {
  const json* decoder = JsonFind(tokenizer, "decoder");
  if (decoder == nullptr || JsonString(*decoder, "type") != "Sequence") {
    RefuseJson("decoder", decoder == nullptr ? "nothing" : JsonString(*decoder, "type"),
               "a Sequence of Replace, ByteFallback and Fuse");
  }
  DecoderReader reader(spec);
  for (const json& part : JsonList(*decoder, "decoders")) reader.Read(part);
  reader.Finish();
}

}  // namespace shoal::text
