#include "parallel/text/grammar/schema/schema_keywords.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "parallel/text/grammar/schema/schema.h"
#include "transport/base/error.h"

namespace shoal::text::grammar {
namespace {

constexpr std::string_view kSupported =
    "type, enum, const, properties, required, additionalProperties, items, prefixItems, minItems, "
    "maxItems, uniqueItems, minProperties, maxProperties, propertyNames, patternProperties, "
    "minLength, maxLength, pattern, format, minimum, maximum, exclusiveMinimum, exclusiveMaximum, "
    "multipleOf, nullable, anyOf, oneOf, allOf, $ref, $defs, definitions, $anchor";

// `nullable` is among them because it is handled before all other keywords.
constexpr std::string_view kAnnotations[] = {
    "title",         "description", "default",      "example",         "examples",
    "$schema",       "$id",         "$comment",     "$anchor",         "$defs",
    "nullable",      "definitions", "readOnly",     "writeOnly",       "deprecated",
    "discriminator", "xml",         "externalDocs", "contentEncoding", "contentMediaType",
    "contentSchema"};

struct TypeKeyword {
  std::string_view keyword;
  std::string_view type;
};

constexpr TypeKeyword kTypeKeywords[] = {
    {"properties", "object"},
    {"required", "object"},
    {"additionalProperties", "object"},
    {"propertyNames", "object"},
    {"patternProperties", "object"},
    {"minProperties", "object"},
    {"maxProperties", "object"},
    {"items", "array"},
    {"prefixItems", "array"},
    {"minItems", "array"},
    {"maxItems", "array"},
    {"uniqueItems", "array"},
    {"minLength", "string"},
    {"maxLength", "string"},
    {"pattern", "string"},
    {"format", "string"},
    {"minimum", "number"},
    {"maximum", "number"},
    {"exclusiveMinimum", "number"},
    {"exclusiveMaximum", "number"},
    {"multipleOf", "number"},
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
  return keyword.starts_with("x-") || std::find(std::begin(kAnnotations), std::end(kAnnotations),
                                                keyword) != std::end(kAnnotations);
}

void CheckKeywords(const SchemaAt& schema) {
  if (!schema.value.is_object()) RefuseSchema(schema.path, "must be an object or true");
  for (const auto& [keyword, value] : schema.value.items()) {
    if ((keyword == "nullable" || keyword == "uniqueItems") && !value.is_boolean()) {
      RefuseSchema(schema.At(keyword).path, "must be true or false");
    }
    if (keyword == "$id" && schema.path != "#") {
      RefuseSchema(schema.At(keyword).path, "$id is supported at the top of the document only");
    }
    if (IsSupported(keyword) || IsAnnotation(keyword)) continue;
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

bool IsNullable(const SchemaJson& schema) {
  const SchemaJson* nullable = schema.is_object() ? FindKeyword(schema, "nullable") : nullptr;
  return nullable != nullptr && *nullable == true;
}

bool HasType(const SchemaJson& value, std::string_view type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "number") return value.is_number();
  if (type == "integer") {
    return value.is_number_integer() ||
           (value.is_number() && std::trunc(value.get<double>()) == value.get<double>());
  }
  if (type == "boolean") return value.is_boolean();
  return value.is_null();
}

}  // namespace shoal::text::grammar
