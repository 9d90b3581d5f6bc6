#include "parallel/text/grammar/schema/schema_merge.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

namespace shoal::text::grammar {
namespace {

// The types that both allow.
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

// Merging keeps the larger of two lower bounds, and the smaller of two upper ones.
bool IsLowerBound(std::string_view keyword) {
  constexpr std::array<std::string_view, 5> kBounds = {"minimum", "exclusiveMinimum", "minLength",
                                                       "minItems", "minProperties"};
  return std::find(kBounds.begin(), kBounds.end(), keyword) != kBounds.end();
}

bool IsUpperBound(std::string_view keyword) {
  constexpr std::array<std::string_view, 5> kBounds = {"maximum", "exclusiveMaximum", "maxLength",
                                                       "maxItems", "maxProperties"};
  return std::find(kBounds.begin(), kBounds.end(), keyword) != kBounds.end();
}

// Whatever the order of members.
SchemaJson InBoth(const SchemaAt& a, const SchemaJson& b) {
  const std::set<nlohmann::json> theirs(b.begin(), b.end());
  SchemaJson both = SchemaJson::array();
  for (const SchemaJson& value : a.value) {
    if (theirs.contains(nlohmann::json(value))) both.push_back(value);
  }
  if (both.empty()) RefuseSchema(a.path, "enums that are combined have nothing in common");
  return both;
}

SchemaJson MergeValues(const std::string& keyword, const SchemaAt& a, const SchemaJson& b) {
  const bool numbers = a.value.is_number() && b.is_number();
  if (numbers && IsLowerBound(keyword)) return std::max(a.value, b);
  if (numbers && IsUpperBound(keyword)) return std::min(a.value, b);
  if (keyword == "enum" && a.value.is_array() && b.is_array()) return InBoth(a, b);
  if (keyword == "uniqueItems") return a.value == true ? a.value : b;
  if (a.value != b && !IsAnnotation(keyword)) {
    RefuseSchema(a.path, keyword + " stands twice with different values and cannot be combined");
  }
  return a.value;
}

// Whether all members of `other`'s keyword are in `schema`'s too.
bool Covers(const SchemaJson& schema, const SchemaJson& other, std::string_view keyword) {
  const SchemaJson* theirs = FindKeyword(other, keyword);
  if (theirs == nullptr) return true;
  const SchemaJson* own = FindKeyword(schema, keyword);
  return own != nullptr &&
         std::all_of(theirs->items().begin(), theirs->items().end(),
                     [&](const auto& entry) { return own->contains(entry.key()); });
}

// additionalProperties speaks only of the names that its own schema does not list, and items
// likewise: beside the keywords of `other` they would mean something else.
void RefuseChangedMeaning(const SchemaJson& schema, const SchemaJson& other,
                          const std::string& path) {
  if (FindKeyword(schema, "additionalProperties") != nullptr &&
      !(Covers(schema, other, "properties") && Covers(schema, other, "patternProperties"))) {
    RefuseSchema(path, "additionalProperties cannot be combined with properties of another schema");
  }
  const SchemaJson* own = FindKeyword(schema, "prefixItems");
  const SchemaJson* theirs = FindKeyword(other, "prefixItems");
  if (FindKeyword(schema, "items") != nullptr && theirs != nullptr &&
      (own == nullptr || *own != *theirs)) {
    RefuseSchema(path, "items cannot be combined with prefixItems of another schema");
  }
}

}  // namespace

SchemaJson MergeSchemas(const SchemaAt& a, const SchemaJson& b) {
  RefuseChangedMeaning(a.value, b, a.path);
  RefuseChangedMeaning(b, a.value, a.path);
  SchemaJson merged = a.value;
  for (const auto& [keyword, value] : b.items()) {
    const auto own = merged.find(keyword);
    if (own == merged.end()) {
      merged[keyword] = value;
    } else if (keyword == "type") {
      *own = MergeTypes(a, b);
    } else if (keyword == "required") {
      *own = MergeRequired(a.At(keyword), value);
    } else if (keyword == "properties" || keyword == "patternProperties") {
      *own = MergeProperties(a.At(keyword), value);
    } else {
      *own = MergeValues(keyword, a.At(keyword), value);
    }
  }
  return merged;
}

SchemaJson WithNull(const SchemaAt& schema) {
  SchemaJson rest = schema.value;
  rest.erase("nullable");
  const bool combined =
      std::any_of(rest.items().begin(), rest.items().end(), [](const auto& entry) {
        constexpr std::array<std::string_view, 6> kOthers = {"enum",  "const", "anyOf",
                                                             "oneOf", "allOf", "$ref"};
        return std::find(kOthers.begin(), kOthers.end(), entry.key()) != kOthers.end();
      });
  if (combined) return {{"anyOf", SchemaJson::array({rest, {{"type", "null"}}})}};
  SchemaJson types = SchemaJson::array();
  for (const std::string& type : TypesOf({rest, schema.path})) types.push_back(type);
  if (types.empty()) return rest;  // Anything.
  types.push_back("null");
  rest["type"] = types;
  return rest;
}

}  // namespace shoal::text::grammar
