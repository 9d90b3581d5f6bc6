#pragma once

// The keywords of JSON schemas as the compiler reads them.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "transport/base/error.h"

namespace shoal::text::grammar {

using SchemaJson = nlohmann::ordered_json;

constexpr size_t kSchemaDepthMax = 64;

// A schema inside the document, and its place as a JSON pointer with # in front.
struct SchemaAt {
  const SchemaJson& value;
  std::string path;

  SchemaAt At(std::string_view key) const;
  SchemaAt At(size_t index) const;
};

// Errors of all: kInvalidArgument with the place.
[[noreturn]] void RefuseSchema(const std::string& path, std::string_view why);

// What `make` returns. Its errors name no place; this adds the schema's.
template <typename Make>
auto PlacedAt(const std::string& path, const Make& make) {
  try {
    return make();
  } catch (const Error& error) {
    RefuseSchema(path, error.what());
  }
}

// Refuses unknown and unsupported keywords.
void CheckKeywords(const SchemaAt& schema);
bool IsAnnotation(std::string_view keyword);

// Keywords, other than annotations, that stand beside the given ones are refused.
void RefuseOthers(const SchemaAt& schema, std::initializer_list<std::string_view> known);

// Null if absent.
const SchemaJson* FindKeyword(const SchemaJson& schema, std::string_view keyword);
std::optional<uint32_t> ReadCount(const SchemaAt& schema, std::string_view keyword);

// The names in `type`, or those whose keywords the schema uses; empty: any.
std::vector<std::string> TypesOf(const SchemaAt& schema);
// OpenAPI's: null may stand for it, whatever else it says.
bool IsNullable(const SchemaJson& schema);
bool HasType(const SchemaJson& value, std::string_view type);

}  // namespace shoal::text::grammar
