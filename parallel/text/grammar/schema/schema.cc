#include "parallel/text/grammar/schema/schema.h"

#include <nlohmann/json.hpp>

#include "parallel/text/grammar/schema/schema_compiler.h"
#include "parallel/text/grammar/schema/schema_merge.h"
#include "parallel/text/grammar/schema/schema_reference.h"

// References and combinations.

namespace shoal::text::grammar {
namespace {

// Merging copies schemas, and the copies may have to be merged again: these bounds end it. Bytes
// are those of the JSON text.
constexpr int kSchemasMax = 20'000;
constexpr size_t kMergedBytesMax = size_t{1} << 20;
constexpr int kReferenceChainMax = 32;

// The schema without `keyword` and without what changes nothing.
SchemaJson Without(const SchemaJson& schema, const std::string& keyword) {
  SchemaJson rest = SchemaJson::object();
  for (const auto& [key, value] : schema.items()) {
    if (key != keyword && !IsAnnotation(key)) rest[key] = value;
  }
  return rest;
}

}  // namespace

NodeId SchemaCompiler::Compile() {
  const NodeId result = Value({root_, "#"});
  while (!pending_.empty()) {
    const auto [rule, schema] = pending_.front();
    pending_.pop_front();
    expression_.Define(rule, Value(schema));
  }
  return result;
}

void SchemaCompiler::Enter(const SchemaAt& schema) {
  if (++schema_count_ > kSchemasMax) RefuseSchema(schema.path, "too many schemas are combined");
  if (++depth_ > kSchemaDepthMax) {
    RefuseSchema(schema.path, "nested deeper than " + std::to_string(kSchemaDepthMax));
  }
}

NodeId SchemaCompiler::Value(const SchemaAt& schema) {
  Enter(schema);
  const NodeId result = schema.value == true ? values_.Any() : ObjectSchema(schema);
  Leave();
  return result;
}

NodeId SchemaCompiler::ObjectSchema(const SchemaAt& schema) {
  CheckKeywords(schema);
  const NodeId value = NotNullSchema(schema);
  return IsNullable(schema.value) ? expression_.Choice({value, values_.Null()}) : value;
}

NodeId SchemaCompiler::NotNullSchema(const SchemaAt& schema) {
  if (schema.value.contains("$ref")) {
    const SchemaJson rest = Without(schema.value, "$ref");
    if (rest.empty()) return Reference(schema.At("$ref"));
    return Owned(WithTarget(schema, rest), schema.path);
  }
  if (schema.value.contains("allOf")) return AllOf(schema);
  for (const char* keyword : {"anyOf", "oneOf"}) {
    if (schema.value.contains(keyword)) return AnyOf(schema, keyword);
  }
  if (schema.value.contains("const") || schema.value.contains("enum")) return Literals(schema);
  const std::vector<std::string> types = TypesOf(schema);
  if (types.empty()) return values_.Any();
  std::vector<NodeId> options;
  for (const std::string& type : types) options.push_back(OfType(schema, type));
  return expression_.Choice(options);
}

const SchemaJson& SchemaCompiler::Resolve(const SchemaAt& reference) {
  if (!reference.value.is_string()) RefuseSchema(reference.path, "must be a string");
  const auto [entry, is_new] = resolved_.try_emplace(reference.value.get<std::string>(), nullptr);
  if (is_new) entry->second = &ResolveReference(root_, reference);
  return *entry->second;
}

NodeId SchemaCompiler::Reference(const SchemaAt& reference) {
  const SchemaJson& target = Resolve(reference);
  const auto [entry, is_new] = rules_.try_emplace(&target, 0);
  if (is_new) {
    entry->second = expression_.Rule();
    const std::string path = &target == &root_ ? "#" : reference.value.get<std::string>();
    pending_.push_back({entry->second, {target, path}});
  }
  return entry->second;
}

// A part of a combination, with references replaced by what they stand for, not nullable.
const SchemaJson& SchemaCompiler::Part(const SchemaAt& part) {
  const SchemaJson* at = &part.value;
  for (int i = 0;; ++i) {
    if (*at == true) return *at;
    CheckKeywords({*at, part.path});
    if (IsNullable(*at)) return owned_.emplace_back(WithNull({*at, part.path}));
    if (!at->contains("$ref")) return *at;
    const SchemaJson rest = Without(*at, "$ref");
    if (!rest.empty()) return owned_.emplace_back(WithTarget({*at, part.path}, rest));
    if (i == kReferenceChainMax) {
      RefuseSchema(part.path, "references that refer to each other only");
    }
    at = &Resolve({at->at("$ref"), part.path + "/$ref"});
  }
}

// What a reference stands for, merged with the keywords beside it. Drafts of the standard that
// ignore those keywords allow more.
SchemaJson SchemaCompiler::WithTarget(const SchemaAt& schema, const SchemaJson& rest) {
  Enter(schema);
  const SchemaJson& target = Part({Resolve(schema.At("$ref")), schema.path});
  SchemaJson merged = Merged({rest, schema.path}, target);
  Leave();
  return merged;
}

const SchemaJson& SchemaCompiler::NonEmptyList(const SchemaAt& list) {
  if (!list.value.is_array() || list.value.empty()) {
    RefuseSchema(list.path, "must be an array of at least one schema");
  }
  return list.value;
}

SchemaJson SchemaCompiler::MergedParts(SchemaJson merged, const std::vector<SchemaAt>& parts) {
  for (const SchemaAt& at : parts) {
    const SchemaJson& part = Part(at);
    if (part != true) merged = Merged({merged, at.path}, part);
  }
  return merged;
}

NodeId SchemaCompiler::AllOf(const SchemaAt& schema) {
  const SchemaAt list = schema.At("allOf");
  std::vector<SchemaAt> parts;
  for (size_t i = 0; i < NonEmptyList(list).size(); ++i) parts.push_back(list.At(i));
  return Owned(MergedParts(Without(schema.value, "allOf"), parts), schema.path);
}

NodeId SchemaCompiler::AnyOf(const SchemaAt& schema, const std::string& keyword) {
  const SchemaAt list = schema.At(keyword);
  const SchemaJson rest = Without(schema.value, keyword);
  std::vector<NodeId> options;
  for (size_t i = 0; i < NonEmptyList(list).size(); ++i) {
    const SchemaAt option = list.At(i);
    const bool alone = rest.empty();
    options.push_back(alone ? Value(option)
                            : Owned(Merged({rest, option.path}, Part(option)), option.path));
  }
  return expression_.Choice(options);
}

SchemaJson SchemaCompiler::Merged(const SchemaAt& a, const SchemaJson& b) {
  merged_bytes_ += a.value.dump().size() + b.dump().size();
  if (merged_bytes_ > kMergedBytesMax) RefuseSchema(a.path, "too many schemas are combined");
  return b == true ? a.value : MergeSchemas(a, b);
}

// A schema that was made here; references may stand in it, so it must live as long as they do.
NodeId SchemaCompiler::Owned(SchemaJson schema, const std::string& path) {
  return Value({owned_.emplace_back(std::move(schema)), path});
}

NodeId SchemaCompiler::OfType(const SchemaAt& schema, const std::string& type) {
  if (type == "object") return Object(schema);
  if (type == "array") return Array(schema);
  if (type == "string") return String(schema);
  if (type == "number" || type == "integer") return Number(schema, type == "integer");
  return type == "boolean" ? values_.Boolean() : values_.Null();
}

NodeId CompileSchema(Expression& expression, const SchemaJson& schema) {
  return SchemaCompiler(expression, schema).Compile();
}

}  // namespace shoal::text::grammar
