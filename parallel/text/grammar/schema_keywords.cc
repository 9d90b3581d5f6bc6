#include "parallel/text/grammar/schema_keywords.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "parallel/text/grammar/schema.h"
#include "transport/base/error.h"

namespace shoal::text::grammar {
namespace {

constexpr std::string_view kSupported =
    "type, enum, const, properties, required, additionalProperties, items, prefixItems, minItems, "
    "maxItems, minLength, maxLength, pattern, format, minimum, maximum, exclusiveMinimum, "
    "exclusiveMaximum, anyOf, oneOf, allOf, $ref, $defs, definitions";

constexpr std::array<std::string_view, 13> kAnnotations = {
    "title",      "description", "default",  "examples",  "$schema", "$id",          "$comment",
    "deprecated", "definitions", "readOnly", "writeOnly", "$defs",   "discriminator"};

struct TypeKeyword {
  std::string_view keyword;
  std::string_view type;
};

constexpr TypeKeyword kTypeKeywords[] = {
    {"properties", "object"}, {"required", "object"},         {"additionalProperties", "object"},
    {"items", "array"},       {"prefixItems", "array"},       {"minItems", "array"},
    {"maxItems", "array"},    {"minLength", "string"},        {"maxLength", "string"},
    {"pattern", "string"},    {"format", "string"},           {"minimum", "number"},
    {"maximum", "number"},    {"exclusiveMinimum", "number"}, {"exclusiveMaximum", "number"},
};

constexpr std::array<std::string_view, 7> kTypes = {"object",  "array",   "string", "number",
                                                    "integer", "boolean", "null"};

bool IsSupported(std::string_view keyword) {
  for (size_t begin = 0; begin < kSupported.size();) {
    const size_t end = std::min(kSupported.find(',', begin), kSupported.size());
    if (kSupported.substr(begin, end - begin) == keyword) return true;
    begin = end + 2;
  }
  return false;
}

// "~1" and "~0" as in JSON pointers.
std::string Escaped(std::string_view key) {
  std::string result;
  for (const char c : key) {
    if (c == '~') {
      result += "~0";
    } else if (c == '/') {
      result += "~1";
    } else {
      result += c;
    }
  }
  return result;
}

std::string Unescaped(std::string_view token) {
  std::string result;
  for (size_t i = 0; i < token.size(); ++i) {
    const std::string_view pair = token.substr(i, 2);
    if (pair == "~0" || pair == "~1") {
      result += pair == "~0" ? '~' : '/';
      ++i;
    } else {
      result += token[i];
    }
  }
  return result;
}

// Of whole schemas that both have types.
SchemaJson MergeTypes(const SchemaAt& a, const SchemaJson& b) {
  SchemaJson both = SchemaJson::array();
  const std::vector<std::string> theirs = TypesOf({b, a.path});
  const auto has = [&](const std::string& type) {
    return std::find(theirs.begin(), theirs.end(), type) != theirs.end();
  };
  for (const std::string& type : TypesOf(a)) {
    // Integers are numbers.
    if (has(type) || (type == "integer" && has("number"))) both.push_back(type);
    if (type == "number" && !has("number") && has("integer")) both.push_back("integer");
  }
  if (both.empty()) RefuseSchema(a.path, "types that are combined have nothing in common");
  return both;
}

SchemaJson MergeRequired(const SchemaAt& a, const SchemaJson& b) {
  SchemaJson all = a.value;
  if (!all.is_array() || !b.is_array()) RefuseSchema(a.path, "must be an array of strings");
  std::set<SchemaJson> known(all.begin(), all.end());
  for (const SchemaJson& name : b) {
    if (known.insert(name).second) all.push_back(name);
  }
  return all;
}

SchemaJson MergeProperties(const SchemaAt& a, const SchemaJson& b) {
  SchemaJson all = a.value;
  if (!all.is_object() || !b.is_object()) RefuseSchema(a.path, "must be an object");
  for (const auto& [name, schema] : b.items()) {
    const auto own = all.find(name);
    if (own == all.end()) {
      all[name] = schema;
    } else if (*own != schema) {
      *own = SchemaJson{{"allOf", SchemaJson::array({*own, schema})}};
    }
  }
  return all;
}

// additionalProperties speaks of the names beside it only, prefixItems likewise: merged with others
// it would come to mean something else.
void RefuseChangedMeaning(const SchemaAt& a, const SchemaJson& b) {
  const auto differ = [&](const char* keyword) {
    const SchemaJson* own = FindKeyword(a.value, keyword);
    const SchemaJson* other = FindKeyword(b, keyword);
    return (own == nullptr) != (other == nullptr) || (own != nullptr && *own != *other);
  };
  const auto either = [&](const char* keyword) {
    return FindKeyword(a.value, keyword) != nullptr || FindKeyword(b, keyword) != nullptr;
  };
  const auto same_names = [&] {
    const SchemaJson empty = SchemaJson::object();
    const SchemaJson* own = FindKeyword(a.value, "properties");
    const SchemaJson* other = FindKeyword(b, "properties");
    const auto covers = [](const SchemaJson& names, const SchemaJson& others) {
      return std::all_of(others.items().begin(), others.items().end(),
                         [&](const auto& entry) { return names.contains(entry.key()); });
    };
    const SchemaJson& mine = own != nullptr ? *own : empty;
    const SchemaJson& theirs = other != nullptr ? *other : empty;
    return covers(mine, theirs) && covers(theirs, mine);
  };
  if (either("additionalProperties") && !same_names()) {
    RefuseSchema(a.path,
                 "additionalProperties cannot be combined with properties of another schema");
  }
  if (either("items") && differ("prefixItems")) {
    RefuseSchema(a.path, "items cannot be combined with prefixItems of another schema");
  }
}

}  // namespace

std::string_view SupportedKeywords() { return kSupported; }

SchemaAt SchemaAt::At(std::string_view key) const {
  return {value.at(std::string(key)), path + "/" + Escaped(key)};
}

SchemaAt SchemaAt::At(size_t index) const {
  return {value.at(index), path + "/" + std::to_string(index)};
}

void RefuseSchema(const std::string& path, std::string_view why) {
  Throw(ErrorCode::kInvalidArgument, "JSON schema, ", path, ": ", why);
}

bool IsAnnotation(std::string_view keyword) {
  return std::find(kAnnotations.begin(), kAnnotations.end(), keyword) != kAnnotations.end();
}

void CheckKeywords(const SchemaAt& schema) {
  if (!schema.value.is_object()) RefuseSchema(schema.path, "must be an object or true");
  for (const auto& [keyword, value] : schema.value.items()) {
    if (IsSupported(keyword) || IsAnnotation(keyword)) continue;
    if (keyword == "uniqueItems" && value == false) continue;
    RefuseSchema(
        schema.At(keyword).path,
        "the keyword " + keyword + " is not supported; supported are " + std::string(kSupported));
  }
}

void RefuseOthers(const SchemaAt& schema, std::initializer_list<std::string_view> known) {
  for (const auto& [keyword, value] : schema.value.items()) {
    if (IsAnnotation(keyword) || std::find(known.begin(), known.end(), keyword) != known.end()) {
      continue;
    }
    RefuseSchema(schema.At(keyword).path,
                 keyword + " is not supported beside " + std::string(*known.begin()));
  }
}

const SchemaJson* FindKeyword(const SchemaJson& schema, std::string_view keyword) {
  const auto found = schema.find(std::string(keyword));
  return found == schema.end() ? nullptr : &*found;
}

std::optional<uint32_t> ReadCount(const SchemaAt& schema, std::string_view keyword) {
  constexpr int64_t kCountMax = 1'000'000'000;
  const SchemaJson* value = FindKeyword(schema.value, keyword);
  if (value == nullptr) return std::nullopt;
  const double count = value->is_number() ? value->get<double>() : -1;
  if (count < 0 || count > kCountMax || count != static_cast<double>(static_cast<int64_t>(count))) {
    RefuseSchema(schema.At(keyword).path,
                 "must be a whole number from 0 to " + std::to_string(kCountMax));
  }
  return static_cast<uint32_t>(count);
}

std::vector<std::string> TypesOf(const SchemaAt& schema) {
  std::vector<std::string> types;
  const auto add = [&](std::string_view type) {
    if (std::find(types.begin(), types.end(), type) == types.end()) types.emplace_back(type);
  };
  const SchemaJson* type = FindKeyword(schema.value, "type");
  if (type == nullptr) {
    for (const TypeKeyword& entry : kTypeKeywords) {
      if (schema.value.contains(std::string(entry.keyword))) add(entry.type);
    }
    return types;
  }
  const SchemaJson list = type->is_array() ? *type : SchemaJson::array({*type});
  if (list.empty()) RefuseSchema(schema.At("type").path, "must name at least one type");
  for (const SchemaJson& name : list) {
    if (!name.is_string() ||
        std::find(kTypes.begin(), kTypes.end(), name.get<std::string>()) == kTypes.end()) {
      RefuseSchema(schema.At("type").path,
                   "must be object, array, string, number, integer, boolean, null or a list of "
                   "them");
    }
    add(name.get<std::string>());
  }
  return types;
}

bool HasType(const SchemaJson& value, std::string_view type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "number") return value.is_number();
  if (type == "integer") return value.is_number_integer();
  if (type == "boolean") return value.is_boolean();
  return value.is_null();
}

const SchemaJson& ResolvePointer(const SchemaJson& root, const SchemaAt& reference) {
  if (!reference.value.is_string()) RefuseSchema(reference.path, "must be a string");
  const auto text = reference.value.get<std::string>();
  if (!text.starts_with('#') || (text.size() > 1 && text[1] != '/')) {
    RefuseSchema(reference.path,
                 "only references into the same document, such as #/$defs/name, "
                 "are supported");
  }
  const SchemaJson* at = &root;
  for (size_t begin = 1; begin < text.size();) {
    const size_t end = std::min(text.find('/', begin + 1), text.size());
    const std::string token = Unescaped(std::string_view(text).substr(begin + 1, end - begin - 1));
    size_t index = 0;
    const auto number = std::from_chars(token.data(), token.data() + token.size(), index);
    if (at->is_object() && at->contains(token)) {
      at = &at->at(token);
    } else if (at->is_array() && number.ec == std::errc() &&
               number.ptr == token.data() + token.size() && index < at->size()) {
      at = &at->at(index);
    } else {
      RefuseSchema(reference.path, "nothing stands at " + text.substr(0, end));
    }
    begin = end;
  }
  return *at;
}

SchemaJson MergeSchemas(const SchemaAt& a, const SchemaJson& b) {
  RefuseChangedMeaning(a, b);
  SchemaJson merged = a.value;
  for (const auto& [keyword, value] : b.items()) {
    const auto own = merged.find(keyword);
    if (own == merged.end()) {
      merged[keyword] = value;
    } else if (keyword == "type") {
      *own = MergeTypes(a, b);
    } else if (keyword == "required") {
      *own = MergeRequired(a.At(keyword), value);
    } else if (keyword == "properties") {
      *own = MergeProperties(a.At(keyword), value);
    } else if (*own != value && !IsAnnotation(keyword)) {
      RefuseSchema(a.At(keyword).path,
                   keyword + " stands twice with different values and cannot be combined");
    }
  }
  return merged;
}

}  // namespace shoal::text::grammar
