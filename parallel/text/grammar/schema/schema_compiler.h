#pragma once

// The compiler of one schema. Included by its own parts only: schema.cc (references and
// combinations), schema_scalars.cc, schema_objects.cc and schema_arrays.cc.

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "parallel/text/grammar/formats.h"
#include "parallel/text/grammar/json_values.h"
#include "parallel/text/grammar/regular/decimals.h"
#include "parallel/text/grammar/schema/schema_keywords.h"
#include "parallel/text/grammar/string_machines.h"

namespace shoal::text::grammar {

// References become rules, compiled one after the other; everything else is a recursion over the
// document, whose depth is bounded.
class SchemaCompiler {
 public:
  SchemaCompiler(Expression& expression, const SchemaJson& root)
      : expression_(expression), values_(expression), machines_(expression), root_(root) {}

  NodeId Compile();

 private:
  // Bounds the depth and the number of schemas.
  void Enter(const SchemaAt& schema);
  void Leave() { --depth_; }
  static const SchemaJson& NonEmptyList(const SchemaAt& list);
  NodeId Value(const SchemaAt& schema);
  NodeId ObjectSchema(const SchemaAt& schema);
  NodeId NotNullSchema(const SchemaAt& schema);
  const SchemaJson& Resolve(const SchemaAt& reference);
  NodeId Reference(const SchemaAt& reference);
  const SchemaJson& Part(const SchemaAt& part);
  SchemaJson WithTarget(const SchemaAt& schema, const SchemaJson& rest);
  SchemaJson MergedParts(SchemaJson merged, const std::vector<SchemaAt>& parts);
  NodeId AllOf(const SchemaAt& schema);
  NodeId AnyOf(const SchemaAt& schema, const std::string& keyword);
  SchemaJson Merged(const SchemaAt& a, const SchemaJson& b);
  NodeId Owned(SchemaJson schema, const std::string& path);
  NodeId OfType(const SchemaAt& schema, const std::string& type);

  // Scalars.
  // What `enum` or `const` lists and the rest allows.
  std::vector<SchemaJson> Listed(const SchemaAt& schema);
  NodeId Literals(const SchemaAt& schema);
  NodeId String(const SchemaAt& schema);
  NodeId Number(const SchemaAt& schema, bool integer);
  struct StringRules {
    const SchemaJson* pattern = nullptr;
    const StringFormat* format = nullptr;
    uint32_t length_min = 0;
    uint32_t length_max = kUnlimited;
  };
  static StringRules ReadStringRules(const SchemaAt& schema);
  // The same rules, for asking whether a given text keeps them.
  struct TextRules {
    std::optional<Machine> machine = {};  // Nothing: all.
    uint32_t length_min = 0;
    uint32_t length_max = kUnlimited;

    bool none() const { return !machine && length_min == 0 && length_max == kUnlimited; }
    bool Allow(const std::string& text) const;
  };
  TextRules ReadTextRules(const SchemaAt& schema);
  // The machine of the pattern and the format, without the lengths.
  Machine MachineOf(const StringRules& rules, const SchemaAt& schema);
  NodeId Combined(const StringRules& rules, const SchemaAt& schema);

  // Objects.
  // The names that a pattern of patternProperties matches, and their schema.
  struct NameClass {
    SchemaAt schema;
    Machine names;
  };
  struct ObjectNames {
    TextRules rules;
    std::vector<NameClass> classes;
    std::vector<std::string> declared;
  };
  // Names, and the schemas of all patterns that match them.
  struct NameSet {
    Machine names;
    std::vector<SchemaAt> schemas;
  };
  // The value of members that are not declared. Nothing: none are allowed.
  std::optional<NodeId> Others(const SchemaAt& schema, const std::string& keyword, bool by_default);
  NodeId Object(const SchemaAt& schema);
  // The names that propertyNames allows.
  TextRules ReadNameRules(const SchemaAt& schema);
  std::vector<NameClass> ReadClasses(const SchemaAt& schema);
  std::vector<ObjectPart> DeclaredMembers(const SchemaAt& schema, ObjectNames& names,
                                          std::optional<NodeId> others);
  std::optional<NodeId> OtherMembers(const SchemaAt& schema, const ObjectNames& names,
                                     std::optional<NodeId> others);
  // The names that are not declared, in sets by the patterns that match them.
  std::vector<NameSet> SetsOf(const ObjectNames& names);
  // What all of them allow; at least one schema. Nothing: one of them is `false`.
  std::optional<NodeId> ValueOfAll(const std::vector<SchemaAt>& schemas);

  // Arrays.
  NodeId Array(const SchemaAt& schema);
  NodeId DistinctItems(const SchemaAt& schema, uint32_t min, uint32_t max);
  // All values that match, if they are few. Nothing: they are many.
  std::optional<std::vector<SchemaJson>> ValuesOf(const SchemaAt& schema);

  struct Pending {
    NodeId rule;
    SchemaAt schema;
  };

  Expression& expression_;
  JsonValues values_;
  StringMachines machines_;
  const SchemaJson& root_;
  std::map<std::string, const SchemaJson*> resolved_;  // By reference.
  std::map<const SchemaJson*, NodeId> rules_;
  std::map<std::tuple<std::string, const StringFormat*, uint32_t, uint32_t>, NodeId> strings_;
  std::deque<Pending> pending_;
  std::deque<SchemaJson> owned_;
  size_t depth_ = 0;
  int schema_count_ = 0;
  size_t merged_bytes_ = 0;
};

}  // namespace shoal::text::grammar
