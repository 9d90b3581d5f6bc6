#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "parallel/text/grammar/schema/schema_compiler.h"

// Arrays, also of values that may each stand once.

namespace shoal::text::grammar {

std::optional<std::vector<SchemaJson>> SchemaCompiler::ValuesOf(const SchemaAt& schema) {
  Enter(schema);
  const SchemaAt part{Part(schema), schema.path};
  std::vector<SchemaJson> values;
  std::set<nlohmann::json> known;  // Where the order of members does not matter.
  const auto add = [&](const SchemaJson& value) {
    if (known.insert(nlohmann::json(value)).second) values.push_back(value);
  };
  bool few = part.value != true;
  const char* const any = few && part.value.contains("anyOf") ? "anyOf" : "oneOf";
  if (few && part.value.contains(any)) {
    RefuseOthers(part, {any});
    const SchemaAt list = part.At(any);
    for (size_t i = 0; few && i < NonEmptyList(list).size(); ++i) {
      const auto option = ValuesOf(list.At(i));
      few = option.has_value();
      if (few) std::for_each(option->begin(), option->end(), add);
    }
  } else if (few && (part.value.contains("const") || part.value.contains("enum"))) {
    for (const SchemaJson& value : Listed(part)) add(value);
  } else if (few) {
    const std::vector<std::string> types =
        part.value.contains("allOf") ? std::vector<std::string>() : TypesOf(part);
    few = !types.empty();
    for (const std::string& type : types) {
      few = few && (type == "boolean" || type == "null");
      if (type == "null") add(nullptr);
      if (type != "boolean") continue;
      add(true);
      add(false);
    }
  }
  Leave();
  return few ? std::optional(values) : std::nullopt;
}

NodeId SchemaCompiler::DistinctItems(const SchemaAt& schema, uint32_t min, uint32_t max) {
  const std::string path = schema.path + "/uniqueItems";
  const auto values = schema.value.contains("items") && !schema.value.contains("prefixItems")
                          ? ValuesOf(schema.At("items"))
                          : std::nullopt;
  if (!values) {
    RefuseSchema(path,
                 "uniqueItems is supported where the items are an enum, a const, booleans or "
                 "null, or where maxItems is at most 1");
  }
  if (min > values->size()) {
    RefuseSchema(schema.path + "/minItems", "is above the number of values that differ, which is " +
                                                std::to_string(values->size()));
  }
  std::vector<NodeId> items;
  for (const SchemaJson& value : *values) items.push_back(expression_.Literal(value.dump()));
  const auto array = values_.DistinctArray(items, min, max);
  if (!array) {
    RefuseSchema(path, "there are too many ways to choose among " + std::to_string(values->size()) +
                           " values: at most 12, or more with a smaller maxItems, are supported");
  }
  return *array;
}

NodeId SchemaCompiler::Array(const SchemaAt& schema) {
  const uint32_t min = ReadCount(schema, "minItems").value_or(0);
  const uint32_t max = ReadCount(schema, "maxItems").value_or(kUnlimited);
  if (min > max) RefuseSchema(schema.path, "minItems is above maxItems");
  const SchemaJson* unique = FindKeyword(schema.value, "uniqueItems");
  const SchemaJson* rest = FindKeyword(schema.value, "items");
  const bool none = rest != nullptr && *rest == false && !schema.value.contains("prefixItems");
  if (unique != nullptr && *unique == true && max > 1 && !none) {
    return DistinctItems(schema, min, max);
  }
  std::vector<NodeId> items;
  if (schema.value.contains("prefixItems")) {
    const SchemaAt prefix = schema.At("prefixItems");
    for (size_t i = 0; i < NonEmptyList(prefix).size(); ++i) items.push_back(Value(prefix.At(i)));
  }
  const auto more = Others(schema, "items", true);
  if (!more && min > items.size()) {
    RefuseSchema(schema.path, "minItems is above the number of items there may be");
  }
  return values_.Array(items, more, min, max);
}

}  // namespace shoal::text::grammar
