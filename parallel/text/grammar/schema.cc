#include "parallel/text/grammar/schema.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <set>

#include "parallel/text/grammar/json_values.h"
#include "parallel/text/grammar/regex.h"
#include "parallel/text/grammar/schema_keywords.h"
#include "transport/base/error.h"

// References become rules, compiled one after the other; everything else is a recursion over the
// document, whose depth is bounded.

namespace shoal::text::grammar {
namespace {

constexpr size_t kNameBytesMax = 256;
constexpr size_t kEnumValuesMax = 1000;
// Merging copies schemas, and copies may hold more to merge: these end it. Bytes are of JSON text.
constexpr int kSchemasMax = 20'000;
constexpr size_t kMergedBytesMax = size_t{1} << 20;

// Narrower than what the formats allow, so that no checker disagrees: no February 29, years of four
// digits, no leap seconds, plain e-mail addresses.
const std::map<std::string, std::string>& FormatPatterns() {
  static const std::map<std::string, std::string> kPatterns = [] {
    const std::string date =
        "([1-9][0-9]{3})-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-"
        "(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))";
    const std::string clock = "([01][0-9]|2[0-3]):[0-5][0-9]";
    const std::string time = clock + ":[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]" + clock + ")";
    const std::string octet = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    const std::string word = "[A-Za-z0-9_+-]{1,64}";
    const std::string label = "[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?";
    return std::map<std::string, std::string>{
        {"date-time", date + "T" + time},
        {"date", date},
        {"time", time},
        {"uuid", "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"},
        {"email", word + "(\\." + word + "){0,3}@(" + label + "\\.){1,4}[A-Za-z]{2,16}"},
        {"ipv4", octet + "(\\." + octet + "){3}"},
    };
  }();
  return kPatterns;
}

class SchemaCompiler {
 public:
  SchemaCompiler(Expression& expression, const SchemaJson& root)
      : expression_(expression), values_(expression), root_(root) {}

  NodeId Compile() {
    const NodeId result = Value({root_, "#"});
    while (!pending_.empty()) {
      const auto [rule, schema] = pending_.front();
      pending_.pop_front();
      expression_.Define(rule, Value(schema));
    }
    return result;
  }

 private:
  NodeId Value(const SchemaAt& schema) {
    if (++schema_count_ > kSchemasMax) RefuseSchema(schema.path, "too many schemas are combined");
    if (++depth_ > kSchemaDepthMax) {
      RefuseSchema(schema.path, "nested deeper than " + std::to_string(kSchemaDepthMax));
    }
    const NodeId result = schema.value == true ? values_.Any() : ObjectSchema(schema);
    --depth_;
    return result;
  }

  NodeId ObjectSchema(const SchemaAt& schema) {
    CheckKeywords(schema);
    if (schema.value.contains("$ref")) {
      RefuseOthers(schema, {"$ref"});
      return Reference(schema.At("$ref"));
    }
    if (schema.value.contains("allOf")) return AllOf(schema);
    for (const char* keyword : {"anyOf", "oneOf"}) {
      if (schema.value.contains(keyword)) return AnyOf(schema, keyword);
    }
    if (schema.value.contains("const")) {
      RefuseOthers(schema, {"const", "type"});
      return Literals(schema, SchemaJson::array({schema.value.at("const")}), "const");
    }
    if (schema.value.contains("enum")) {
      RefuseOthers(schema, {"enum", "type"});
      return Literals(schema, schema.value.at("enum"), "enum");
    }
    const std::vector<std::string> types = TypesOf(schema);
    if (types.empty()) return values_.Any();
    std::vector<NodeId> options;
    for (const std::string& type : types) options.push_back(OfType(schema, type));
    return expression_.Choice(options);
  }

  NodeId Reference(const SchemaAt& reference) {
    const SchemaJson& target = ResolvePointer(root_, reference);
    const auto [entry, is_new] = rules_.try_emplace(&target, 0);
    if (is_new) {
      entry->second = expression_.Rule();
      pending_.push_back({entry->second, {target, reference.value.get<std::string>()}});
    }
    return entry->second;
  }

  // The schema without `keyword` and without what changes nothing.
  static SchemaJson Without(const SchemaJson& schema, const std::string& keyword) {
    SchemaJson rest = SchemaJson::object();
    for (const auto& [key, value] : schema.items()) {
      if (key != keyword && !IsAnnotation(key)) rest[key] = value;
    }
    return rest;
  }

  // A part of a combination, with references replaced by what they stand for.
  const SchemaJson& Part(const SchemaAt& part) {
    const SchemaJson* at = &part.value;
    for (int i = 0; at->is_object() && at->contains("$ref"); ++i) {
      RefuseOthers({*at, part.path}, {"$ref"});
      if (i == 32) RefuseSchema(part.path, "references that refer to each other only");
      at = &ResolvePointer(root_, {at->at("$ref"), part.path + "/$ref"});
    }
    if (*at != true) CheckKeywords({*at, part.path});
    return *at;
  }

  static const SchemaJson& NonEmptyList(const SchemaAt& list) {
    if (!list.value.is_array() || list.value.empty()) {
      RefuseSchema(list.path, "must be an array of at least one schema");
    }
    return list.value;
  }

  NodeId AllOf(const SchemaAt& schema) {
    const SchemaAt list = schema.At("allOf");
    SchemaJson merged = Without(schema.value, "allOf");
    for (size_t i = 0; i < NonEmptyList(list).size(); ++i) {
      const SchemaJson& part = Part(list.At(i));
      if (part != true) merged = Merged({merged, list.At(i).path}, part);
    }
    return Owned(std::move(merged), schema.path);
  }

  NodeId AnyOf(const SchemaAt& schema, const std::string& keyword) {
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

  SchemaJson Merged(const SchemaAt& a, const SchemaJson& b) {
    merged_bytes_ += a.value.dump().size() + b.dump().size();
    if (merged_bytes_ > kMergedBytesMax) RefuseSchema(a.path, "too many schemas are combined");
    return b == true ? a.value : MergeSchemas(a, b);
  }

  // A schema that was made here; references may stand in it, so it must live as long as they do.
  NodeId Owned(SchemaJson schema, const std::string& path) {
    return Value({owned_.emplace_back(std::move(schema)), path});
  }

  NodeId Literals(const SchemaAt& schema, const SchemaJson& literals, const std::string& keyword) {
    const std::string path = schema.path + "/" + keyword;
    if (!literals.is_array() || literals.empty() || literals.size() > kEnumValuesMax) {
      RefuseSchema(path, "must be an array of 1 to " + std::to_string(kEnumValuesMax) + " values");
    }
    const std::vector<std::string> types = TypesOf(schema);
    std::vector<NodeId> options;
    for (const SchemaJson& literal : literals) {
      const bool fits =
          types.empty() || std::any_of(types.begin(), types.end(),
                                       [&](const auto& t) { return HasType(literal, t); });
      if (fits) options.push_back(expression_.Literal(literal.dump()));
    }
    if (options.empty()) RefuseSchema(path, "no value has the type that is asked for");
    return expression_.Choice(options);
  }

  NodeId OfType(const SchemaAt& schema, const std::string& type) {
    if (type == "object") return Object(schema);
    if (type == "array") return Array(schema);
    if (type == "string") return String(schema);
    if (type == "number" || type == "integer") return Number(schema, type == "integer");
    return type == "boolean" ? values_.Boolean() : values_.Null();
  }

  NodeId String(const SchemaAt& schema) {
    const SchemaJson* pattern = FindKeyword(schema.value, "pattern");
    const SchemaJson* format = FindKeyword(schema.value, "format");
    const auto length_min = ReadCount(schema, "minLength");
    const auto length_max = ReadCount(schema, "maxLength");
    if ((pattern != nullptr || format != nullptr) &&
        (length_min || length_max || (pattern != nullptr && format != nullptr))) {
      RefuseSchema(schema.path, "pattern, format and the lengths cannot be combined");
    }
    if (pattern != nullptr) return Pattern(schema.At("pattern"));
    if (format != nullptr) return FormatOf(schema.At("format"));
    const uint32_t min = length_min.value_or(0);
    const uint32_t max = length_max.value_or(kUnlimited);
    if (min > max) RefuseSchema(schema.path, "minLength is above maxLength");
    return values_.String(min, max);
  }

  NodeId Pattern(const SchemaAt& pattern) {
    if (!pattern.value.is_string()) RefuseSchema(pattern.path, "must be a string");
    try {
      return values_.Quoted(ParseRegex(expression_, pattern.value.get<std::string>(),
                                       Spelling::kJsonString, RegexMatch::kSearch));
    } catch (const Error& error) {  // The place is known here only.
      RefuseSchema(pattern.path, error.what());
    }
  }

  NodeId FormatOf(const SchemaAt& format) {
    std::string names;
    for (const auto& [name, pattern] : FormatPatterns()) {
      if (format.value == name) {
        return values_.Quoted(
            ParseRegex(expression_, pattern, Spelling::kJsonString, RegexMatch::kWhole));
      }
      names += (names.empty() ? "" : ", ") + name;
    }
    RefuseSchema(format.path,
                 "the format " + format.value.dump() + " is not supported; supported are " + names);
  }

  // A bound in whole numbers, rounded into the range for integers.
  static std::optional<int64_t> Bound(const SchemaAt& schema, const char* keyword, bool integer,
                                      bool up, bool& moved) {
    const SchemaJson* value = FindKeyword(schema.value, keyword);
    if (value == nullptr) return std::nullopt;
    const std::string path = schema.path + "/" + keyword;
    if (!value->is_number()) RefuseSchema(path, "must be a number");
    const auto bound = value->get<double>();
    const double whole = up ? std::ceil(bound) : std::floor(bound);
    if (whole != bound && !integer) {
      RefuseSchema(path, "must be a whole number, or the type integer");
    }
    moved = whole != bound;
    if (!(std::abs(whole) <= static_cast<double>(kIntegerMax))) {
      RefuseSchema(path, "must have at most " + std::to_string(kDigitsMax) + " digits");
    }
    return static_cast<int64_t>(whole);
  }

  NodeId Number(const SchemaAt& schema, bool integer) {
    NumberBounds bounds;
    bool moved = false;
    bounds.min = Bound(schema, "minimum", integer, true, moved);
    const auto above = Bound(schema, "exclusiveMinimum", integer, true, moved);
    if (above && (!bounds.min || *above >= *bounds.min)) {
      bounds.above_min = !moved;
      bounds.min = above;
    }
    bounds.max = Bound(schema, "maximum", integer, false, moved);
    const auto below = Bound(schema, "exclusiveMaximum", integer, false, moved);
    if (below && (!bounds.max || *below <= *bounds.max)) {
      bounds.below_max = !moved;
      bounds.max = below;
    }
    if (!bounds.min && !bounds.max) return integer ? values_.Integer() : values_.Number();
    if (bounds.min && bounds.max && *bounds.min > *bounds.max) {
      RefuseSchema(schema.path, "its minimum is above its maximum");
    }
    return integer ? values_.BoundedInteger(bounds) : values_.BoundedNumber(bounds);
  }

  // Nothing: no others are allowed.
  std::optional<NodeId> Others(const SchemaAt& schema, const std::string& keyword,
                               bool by_default) {
    const SchemaJson* others = FindKeyword(schema.value, keyword);
    if (others == nullptr) return by_default ? std::optional(values_.Any()) : std::nullopt;
    if (*others == false) return std::nullopt;
    return Value(schema.At(keyword));
  }

  // Each once, in their order.
  static std::vector<std::string> Required(const SchemaAt& schema) {
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

  NodeId Object(const SchemaAt& schema) {
    const std::vector<std::string> required = Required(schema);
    const std::set<std::string> is_required(required.begin(), required.end());
    const auto others =
        Others(schema, "additionalProperties", !schema.value.contains("properties"));
    std::vector<std::string> names;
    std::vector<ObjectPart> members;
    const auto add = [&](const std::string& name, NodeId value) {
      if (name.size() > kNameBytesMax) {
        RefuseSchema(schema.path,
                     "a name has more than " + std::to_string(kNameBytesMax) + " bytes");
      }
      names.push_back(name);
      members.push_back({values_.Member(name, value), is_required.contains(name)});
    };
    if (schema.value.contains("properties")) {
      const SchemaAt properties = schema.At("properties");
      if (!properties.value.is_object()) RefuseSchema(properties.path, "must be an object");
      for (const auto& [name, value] : properties.value.items()) {
        const SchemaAt property = properties.At(name);
        if (property.value == false) {
          RefuseSchema(property.path, "false is not supported here; leave the property out");
        }
        add(name, Value(property));
      }
    }
    const std::set<std::string> declared(names.begin(), names.end());
    for (const std::string& name : required) {
      if (declared.contains(name)) continue;
      if (!others) {
        RefuseSchema(schema.path + "/required",
                     "\"" + name + "\" is required and not among the properties");
      }
      add(name, *others);
    }
    std::optional<NodeId> more;
    if (others) more = values_.OtherMember(names, *others);
    return values_.Object(members, more);
  }

  NodeId Array(const SchemaAt& schema) {
    const uint32_t min = ReadCount(schema, "minItems").value_or(0);
    const uint32_t max = ReadCount(schema, "maxItems").value_or(kUnlimited);
    if (min > max) RefuseSchema(schema.path, "minItems is above maxItems");
    std::vector<NodeId> items;
    if (schema.value.contains("prefixItems")) {
      const SchemaAt prefix = schema.At("prefixItems");
      for (size_t i = 0; i < NonEmptyList(prefix).size(); ++i) {
        items.push_back(Value(prefix.At(i)));
      }
    }
    const auto more = Others(schema, "items", true);
    if (!more && min > items.size()) {
      RefuseSchema(schema.path, "minItems is above the number of items there may be");
    }
    return values_.Array(items, more, min, max);
  }

  struct Pending {
    NodeId rule;
    SchemaAt schema;
  };

  Expression& expression_;
  JsonValues values_;
  const SchemaJson& root_;
  std::map<const SchemaJson*, NodeId> rules_;
  std::deque<Pending> pending_;
  std::deque<SchemaJson> owned_;
  size_t depth_ = 0;
  int schema_count_ = 0;
  size_t merged_bytes_ = 0;
};

}  // namespace

NodeId CompileSchema(Expression& expression, const SchemaJson& schema) {
  return SchemaCompiler(expression, schema).Compile();
}

}  // namespace shoal::text::grammar
