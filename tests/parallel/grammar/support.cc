#include "tests/parallel/grammar/support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <regex>

#include "transport/base/error.h"

namespace shoal::text::grammar {
namespace {

std::shared_ptr<const GrammarVocabulary> MakeTiny() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  for (const char* piece : {"{\"",
                            "{\n",
                            "\":",
                            "\": ",
                            "\":\"",
                            "\",",
                            "\", ",
                            "\",\n  \"",
                            "\"}",
                            "\"}]",
                            "}}",
                            "},",
                            "]}",
                            "[[",
                            "[]",
                            "{}",
                            ", ",
                            "\n  ",
                            "    ",
                            "\n\n",
                            "true",
                            "false",
                            "null",
                            "12",
                            "34",
                            "00",
                            "1.5",
                            "e+",
                            "-1",
                            "ab",
                            "abc",
                            "name",
                            "the ",
                            " quick",
                            "\\n",
                            "\\u00",
                            "\\\"",
                            "red",
                            "\xC3\xA9",
                            "\xE2\x82",
                            "\xE2\x82\xAC",
                            "a\xF0\x9F",
                            "\x98\x80"
                            "b",
                            "\"\"",
                            "a\":1",
                            "x\"",
                            "zz\",\"",
                            "0123456789",
                            "a\xF1\x80\x80\x80",
                            "2024-",
                            "blue",
                            "tru"}) {
    tokens.emplace_back(piece);
  }
  tokens[0xF1].clear();
  tokens.resize(tokens.size() + 3);  // A special token, the end, a row of padding.
  const auto end = static_cast<int32_t>(tokens.size()) - 2;
  return std::make_shared<const GrammarVocabulary>(std::move(tokens), std::vector{end});
}

bool IsType(const Json& value, const std::string& type) {
  if (type == "integer") return value.is_number_integer();
  if (type == "number") return value.is_number();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "array") return value.is_array();
  return type == "object" ? value.is_object() : value.is_null();
}

size_t CodePointCount(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

bool ObjectIsValid(const Json& schema, const Json& value, const Json& root) {
  for (const Json& name : schema.value("required", Json::array())) {
    if (!value.contains(name.get<std::string>())) return false;
  }
  if (value.size() < schema.value("minProperties", size_t{0})) return false;
  if (value.size() > schema.value("maxProperties", SIZE_MAX)) return false;
  const Json properties = schema.value("properties", Json::object());
  const Json patterns = schema.value("patternProperties", Json::object());
  const Json others = schema.value("additionalProperties", Json(true));
  for (const auto& [name, member] : value.items()) {
    if (!IsValid(schema.value("propertyNames", Json(true)), Json(name), root)) return false;
    bool is_other = !properties.contains(name);
    if (!is_other && !IsValid(properties[name], member, root)) return false;
    for (const auto& [pattern, part] : patterns.items()) {
      if (!std::regex_search(name, std::regex(pattern))) continue;
      is_other = false;
      if (!IsValid(part, member, root)) return false;
    }
    if (is_other && !IsValid(others, member, root)) return false;
  }
  return true;
}

bool ArrayIsValid(const Json& schema, const Json& value, const Json& root) {
  if (value.size() < schema.value("minItems", size_t{0})) return false;
  if (value.size() > schema.value("maxItems", SIZE_MAX)) return false;
  const bool unique = schema.value("uniqueItems", false);
  for (size_t i = 0; unique && i < value.size(); ++i) {
    if (std::count(value.begin(), value.end(), value[i]) > 1) return false;
  }
  const Json prefix = schema.value("prefixItems", Json::array());
  const Json items = schema.value("items", Json(true));
  for (size_t i = 0; i < value.size(); ++i) {
    if (!IsValid(i < prefix.size() ? prefix[i] : items, value[i], root)) return false;
  }
  return true;
}

bool ScalarIsValid(const Json& schema, const Json& value) {
  if (value.is_string()) {
    const size_t length = CodePointCount(value.get<std::string>());
    return length >= schema.value("minLength", size_t{0}) &&
           length <= schema.value("maxLength", SIZE_MAX) &&
           std::regex_search(value.get<std::string>(), std::regex(schema.value("pattern", "")));
  }
  if (!value.is_number()) return true;
  const auto number = value.get<double>();
  // Exact for what is drawn here: divisors that binary64 holds.
  if (schema.contains("multipleOf") && std::fmod(number, schema["multipleOf"].get<double>()) != 0) {
    return false;
  }
  return number >= schema.value("minimum", -1e300) && number <= schema.value("maximum", 1e300) &&
         number > schema.value("exclusiveMinimum", -1e300) &&
         number < schema.value("exclusiveMaximum", 1e300);
}

Json RandomScalar(test::RandomBits& random) {
  const auto low = static_cast<int64_t>(random.Below(400)) - 200;
  const auto count = random.Below(4);
  switch (random.Below(11)) {
    case 0:
      return {{"type", "string"}, {"minLength", count}, {"maxLength", count + random.Below(5)}};
    case 1:
      return {{"type", "integer"},
              {"minimum", low},
              {"maximum", low + static_cast<int64_t>(random.Below(300))}};
    case 2:
      return {{"type", "number"}, {"exclusiveMinimum", low}, {"maximum", low + 1}};
    case 3:
      return {{"enum", {"red", "blue", 1, nullptr, {{"a", "\n"}}}}};
    case 4:
      return {{"type", {"boolean", "null"}}};
    case 5:
      return {{"type", random.Below(2) == 0 ? "number" : "integer"}};
    case 6:
      return {{"type", random.Below(2) == 0 ? "number" : "integer"},
              {"multipleOf", Json::array({0.25, 2, 7, 30, 2.5})[random.Below(5)]},
              {"minimum", static_cast<double>(low) + 0.5},
              {"exclusiveMaximum", static_cast<double>(low) + 77.75}};
    case 7:
      return {{"type", "string"},
              {"pattern", "^[a-c]*[xyz]"},
              {"minLength", count},
              {"maxLength", count + 1 + random.Below(5)}};
    case 8:
      return {{"type", "array"},
              {"items", {{"enum", {"red", 1, nullptr, "red", "x\n"}}}},
              {"uniqueItems", true},
              {"minItems", count}};
    case 9:
      return {{"enum", {"red"}}, {"nullable", true}};
    default:
      return {{"type", "string"}};
  }
}

}  // namespace

std::shared_ptr<const GrammarVocabulary> TinyVocabulary() {
  static const std::shared_ptr<const GrammarVocabulary> kVocabulary = MakeTiny();
  return kVocabulary;
}

std::shared_ptr<MaskedGrammar> Masked(const GrammarSource& source,
                                      std::shared_ptr<const GrammarVocabulary> vocabulary) {
  auto expression = CompileGrammar(source, vocabulary->single_bytes());
  return std::make_shared<MaskedGrammar>(std::move(expression), std::move(vocabulary));
}

std::shared_ptr<MaskedGrammar> Masked(const GrammarSource& source) {
  return Masked(source, TinyVocabulary());
}

bool Matches(const GrammarSource& source, const std::string& text) {
  const auto expression = CompileGrammar(source, ByteSet::All());
  Automaton automaton(*expression);
  Automaton::State state = automaton.start();
  for (const char byte : text) state = automaton.Next(state, static_cast<uint8_t>(byte));
  return automaton.Accepts(state);
}

std::string Refusal(const GrammarSource& source) {
  try {
    CompileGrammar(source, ByteSet::All());
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

GrammarSource Schema(const std::string& text) { return {GrammarKind::kJsonSchema, text}; }
GrammarSource Regex(const std::string& text) { return {GrammarKind::kRegex, text}; }

void CheckSchemas(const std::vector<SchemaCase>& cases) {
  for (const SchemaCase& example : cases) {
    for (const std::string& text : example.matches) {
      EXPECT_TRUE(Matches(Schema(example.schema), text)) << example.schema << " on " << text;
    }
    for (const std::string& text : example.others) {
      EXPECT_FALSE(Matches(Schema(example.schema), text)) << example.schema << " on " << text;
    }
  }
}

GreedyEncoder::GreedyEncoder(const GrammarVocabulary& vocabulary) {
  for (int32_t token = 0; token < vocabulary.size(); ++token) {
    const std::string& bytes = vocabulary.bytes(token);
    if (bytes.empty()) continue;
    ids_.try_emplace(bytes, token);
    longest_ = std::max(longest_, bytes.size());
  }
}

std::vector<int32_t> GreedyEncoder::Encode(const std::string& text) const {
  std::vector<int32_t> tokens;
  for (size_t at = 0; at < text.size();) {
    size_t length = std::min(longest_, text.size() - at);
    while (!ids_.contains(text.substr(at, length))) --length;
    tokens.push_back(ids_.at(text.substr(at, length)));
    at += length;
  }
  return tokens;
}

std::optional<std::string> RandomAnswer(const std::shared_ptr<MaskedGrammar>& grammar,
                                        test::RandomBits& random, int tokens_max) {
  const GrammarVocabulary& vocabulary = grammar->vocabulary();
  GrammarMatcher matcher(grammar);
  std::string text;
  for (int i = 0; i < tokens_max; ++i) {
    const auto mask = matcher.Allowed();
    std::vector<int32_t> allowed;
    for (int32_t token = 0; token < vocabulary.size(); ++token) {
      if (mask->Has(token)) allowed.push_back(token);
    }
    if (allowed.empty()) {
      ADD_FAILURE() << "nothing may follow " << text;
      return std::nullopt;
    }
    // An answer that can end does so often, or few would.
    const int32_t end = vocabulary.end_ids()[0];
    const bool stop = mask->Has(end) && random.Below(4) == 0;
    const int32_t token = stop ? end : allowed[random.Below(allowed.size())];
    EXPECT_TRUE(matcher.Accept(token)) << token << " after " << text;
    if (matcher.ended()) return text;
    text += vocabulary.bytes(token);
  }
  return std::nullopt;
}

bool IsValid(const Json& schema, const Json& value, const Json& root) {
  if (schema.is_boolean()) return schema.get<bool>();
  if (value.is_null() && schema.value("nullable", false)) return true;
  if (schema.contains("$ref")) {
    const auto pointer = schema["$ref"].get<std::string>().substr(1);
    return IsValid(root.at(Json::json_pointer(pointer)), value, root);
  }
  const auto valid = [&](const Json& part) { return IsValid(part, value, root); };
  if (schema.contains("type")) {
    const Json types = schema["type"].is_array() ? schema["type"] : Json::array({schema["type"]});
    if (std::none_of(types.begin(), types.end(),
                     [&](const Json& type) { return IsType(value, type.get<std::string>()); })) {
      return false;
    }
  }
  if (schema.contains("const") && schema["const"] != value) return false;
  if (schema.contains("enum")) {
    const Json& values = schema["enum"];
    if (std::find(values.begin(), values.end(), value) == values.end()) return false;
  }
  for (const char* keyword : {"anyOf", "oneOf"}) {
    if (!schema.contains(keyword)) continue;
    if (std::none_of(schema[keyword].begin(), schema[keyword].end(), valid)) return false;
  }
  if (schema.contains("allOf") &&
      !std::all_of(schema["allOf"].begin(), schema["allOf"].end(), valid)) {
    return false;
  }
  if (value.is_object()) return ObjectIsValid(schema, value, root);
  return value.is_array() ? ArrayIsValid(schema, value, root) : ScalarIsValid(schema, value);
}

Json RandomSchema(test::RandomBits& random, int depth) {
  if (depth == 0) return RandomScalar(random);
  const auto part = [&] { return RandomSchema(random, depth - 1); };
  switch (random.Below(7)) {
    case 0:
    case 1: {
      Json schema = {{"type", "object"}, {"properties", Json::object()}};
      Json required = Json::array();
      for (const char* name : {"a", "ab", "na\"me", "\xC3\xA9"}) {
        if (random.Below(3) == 0) continue;
        schema["properties"][name] = part();
        if (random.Below(2) == 0) required.push_back(name);
      }
      schema["required"] = required;
      if (random.Below(2) == 0) {
        schema["additionalProperties"] = random.Below(2) == 0 ? Json(false) : RandomScalar(random);
      }
      return schema;
    }
    case 2: {
      const auto min = random.Below(3);
      return {{"type", "array"},
              {"items", part()},
              {"minItems", min},
              {"maxItems", min + random.Below(3)}};
    }
    case 3:
      return {{"type", "array"},
              {"prefixItems", Json::array({part(), part()})},
              {"items", random.Below(2) == 0 ? Json(false) : part()},
              {"minItems", random.Below(3)}};
    case 4: {
      const auto count = random.Below(3);
      const Json both = part();
      return {{"type", "object"},
              {"properties", {{"ab", both}, {"b", true}}},
              {"patternProperties", {{"^a", both}, {"b$", true}}},
              {"additionalProperties", RandomScalar(random)},
              {"propertyNames", {{"maxLength", 3 + random.Below(2)}, {"pattern", "^[^x]*$"}}},
              {"minProperties", count},
              {"maxProperties", count + random.Below(3)}};
    }
    case 5:
      return {{"anyOf", Json::array({part(), part(), RandomScalar(random)})}};
    default:
      return part();
  }
}

}  // namespace shoal::text::grammar
