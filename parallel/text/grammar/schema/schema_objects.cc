#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "parallel/text/grammar/schema/schema_compiler.h"
#include "transport/base/error.h"

// Objects: their declared members, and the names that others may have.

namespace shoal::text::grammar {
namespace {

constexpr size_t kNameBytesMax = 256;
// Sets of names that the patterns of one object tell apart.
constexpr size_t kNameSetsMax = 64;

// Each once, in their order.
std::vector<std::string> Required(const SchemaAt& schema) {
  std::vector<std::string> names;
  std::set<std::string> known;
  const SchemaJson* required = FindKeyword(schema.value, "required");
  if (required == nullptr) return names;
  const std::string path = schema.path + "/required";
  if (!required->is_array()) RefuseSchema(path, "must be an array of strings");
  for (const SchemaJson& name : *required) {
    if (!name.is_string()) RefuseSchema(path, "must be an array of strings");
    const auto text = name.get<std::string>();
    if (known.insert(text).second) names.push_back(text);
  }
  return names;
}

}  // namespace

std::optional<NodeId> SchemaCompiler::Others(const SchemaAt& schema, const std::string& keyword,
                                             bool by_default) {
  const SchemaJson* others = FindKeyword(schema.value, keyword);
  if (others == nullptr) return by_default ? std::optional(values_.Any()) : std::nullopt;
  if (*others == false) return std::nullopt;
  return Value(schema.At(keyword));
}

std::optional<NodeId> SchemaCompiler::ValueOfAll(const std::vector<SchemaAt>& schemas) {
  for (const SchemaAt& schema : schemas) {
    if (schema.value == false) return std::nullopt;
  }
  if (schemas.size() == 1) return Value(schemas[0]);
  return Owned(MergedParts(SchemaJson::object(), schemas), schemas[0].path);
}

SchemaCompiler::TextRules SchemaCompiler::ReadNameRules(const SchemaAt& schema) {
  if (!schema.value.contains("propertyNames")) return {};
  const SchemaAt place = schema.At("propertyNames");
  const SchemaAt names{Part(place), place.path};
  if (names.value == true) return {};
  constexpr std::string_view kKnown[] = {"type",      "enum",      "const", "pattern",
                                         "minLength", "maxLength", "format"};
  for (const auto& [keyword, value] : names.value.items()) {
    const bool known = std::find(std::begin(kKnown), std::end(kKnown), keyword) != std::end(kKnown);
    if (!known && !IsAnnotation(keyword)) {
      RefuseSchema(names.At(keyword).path, keyword + " is not supported in propertyNames");
    }
  }
  const std::vector<std::string> types = TypesOf(names);
  if (!types.empty() && std::find(types.begin(), types.end(), "string") == types.end()) {
    RefuseSchema(names.path, "names are strings, which its type does not allow");
  }
  if (!names.value.contains("enum") && !names.value.contains("const")) return ReadTextRules(names);
  std::vector<std::string> texts;
  for (const SchemaJson& value : Listed(names)) {
    if (value.is_string()) texts.push_back(value.get<std::string>());
  }
  return {.machine = machines_.OfTexts(texts)};
}

std::vector<SchemaCompiler::NameClass> SchemaCompiler::ReadClasses(const SchemaAt& schema) {
  std::vector<NameClass> classes;
  if (!schema.value.contains("patternProperties")) return classes;
  const SchemaAt patterns = schema.At("patternProperties");
  if (!patterns.value.is_object()) RefuseSchema(patterns.path, "must be an object");
  for (const auto& [pattern, value] : patterns.value.items()) {
    const SchemaAt at = patterns.At(pattern);
    classes.push_back(
        {at, PlacedAt(at.path, [&] { return machines_.OfPattern(pattern, RegexMatch::kSearch); })});
  }
  return classes;
}

std::vector<ObjectPart> SchemaCompiler::DeclaredMembers(const SchemaAt& schema, ObjectNames& names,
                                                        std::optional<NodeId> others) {
  const std::vector<std::string> required = Required(schema);
  const std::set<std::string> is_required(required.begin(), required.end());
  std::vector<ObjectPart> members;
  const auto add = [&](const std::string& name, std::vector<SchemaAt> schemas,
                       std::optional<NodeId> otherwise) {
    if (name.size() > kNameBytesMax) {
      RefuseSchema(schema.path, "a name has more than " + std::to_string(kNameBytesMax) + " bytes");
    }
    names.declared.push_back(name);
    for (const NameClass& each : names.classes) {
      if (each.names.Matches(SpelledText(name))) schemas.push_back(each.schema);
    }
    std::optional<NodeId> value;
    if (names.rules.Allow(name)) value = schemas.empty() ? otherwise : ValueOfAll(schemas);
    if (value) {
      members.push_back({values_.Member(name, *value), is_required.contains(name)});
    } else if (is_required.contains(name)) {
      RefuseSchema(schema.path + "/required",
                   "\"" + name + "\" is required and not among the properties that may be");
    }
  };
  if (schema.value.contains("properties")) {
    const SchemaAt properties = schema.At("properties");
    if (!properties.value.is_object()) RefuseSchema(properties.path, "must be an object");
    for (const auto& [name, value] : properties.value.items()) {
      const SchemaAt property = properties.At(name);
      add(name, {property}, std::nullopt);
    }
  }
  const std::set<std::string> declared(names.declared.begin(), names.declared.end());
  for (const std::string& name : required) {
    if (!declared.contains(name)) add(name, {}, others);
  }
  return members;
}

std::optional<NodeId> SchemaCompiler::OtherMembers(const SchemaAt& schema, const ObjectNames& names,
                                                   std::optional<NodeId> others) {
  if (!others && names.classes.empty()) return std::nullopt;
  if (names.classes.empty() && names.declared.empty() && names.rules.none()) {
    return values_.OtherMember(values_.String(0, kUnlimited), *others);
  }
  std::vector<NodeId> options;
  for (NameSet& set : PlacedAt(schema.path, [&] { return SetsOf(names); })) {
    const auto value = set.schemas.empty() ? others : ValueOfAll(set.schemas);
    if (!value) continue;
    const NodeId name = expression_.Matching(std::move(set.names));
    options.push_back(values_.OtherMember(values_.Quoted(name), *value));
  }
  const NodeId member = expression_.Choice(options);
  return expression_.IsImpossible(member) ? std::nullopt : std::optional(member);
}

std::vector<SchemaCompiler::NameSet> SchemaCompiler::SetsOf(const ObjectNames& names) {
  const TextRules& rules = names.rules;
  std::vector<NameSet> sets = {{machines_.Subtract(rules.machine ? *rules.machine : machines_.Any(),
                                                   machines_.OfTexts(names.declared)),
                                {}}};
  for (const NameClass& each : names.classes) {
    std::vector<NameSet> split;
    for (NameSet& set : sets) {
      NameSet inside{machines_.Intersect(set.names, each.names), set.schemas};
      inside.schemas.push_back(each.schema);
      NameSet outside{machines_.Subtract(set.names, each.names), std::move(set.schemas)};
      for (NameSet* part : {&inside, &outside}) {
        if (!part->names.empty()) split.push_back(std::move(*part));
      }
    }
    sets = std::move(split);
    if (sets.size() > kNameSetsMax) {
      Throw(ErrorCode::kInvalidArgument, "the patterns of patternProperties overlap in more than ",
            kNameSetsMax, " ways");
    }
  }
  if (rules.length_min == 0 && rules.length_max == kUnlimited) return sets;
  for (NameSet& set : sets) {
    set.names = machines_.WithLengths(set.names, rules.length_min, rules.length_max);
  }
  return sets;
}

NodeId SchemaCompiler::Object(const SchemaAt& schema) {
  const uint32_t min = ReadCount(schema, "minProperties").value_or(0);
  const uint32_t max = ReadCount(schema, "maxProperties").value_or(kUnlimited);
  const bool open =
      !schema.value.contains("properties") && !schema.value.contains("patternProperties");
  const auto others = Others(schema, "additionalProperties", open);
  ObjectNames names{ReadNameRules(schema), ReadClasses(schema), {}};
  const std::vector<ObjectPart> members = DeclaredMembers(schema, names, others);
  const std::optional<NodeId> more = OtherMembers(schema, names, others);
  const auto required = static_cast<size_t>(std::count_if(
      members.begin(), members.end(), [](const ObjectPart& member) { return member.required; }));
  if (std::max<size_t>(min, required) > max) {
    RefuseSchema(schema.path, "maxProperties is below minProperties or what is required");
  }
  if (min > members.size() + (more ? 1 : 0)) {
    RefuseSchema(schema.path + "/minProperties",
                 "is above the number of names that are sure to differ: those of properties, and "
                 "one other");
  }
  return values_.Object(members, more, min, max);
}

}  // namespace shoal::text::grammar
