#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "parallel/text/grammar/regular/regex.h"
#include "parallel/text/grammar/schema/schema_compiler.h"

// Listed values, strings and numbers.

namespace shoal::text::grammar {
namespace {

constexpr size_t kEnumValuesMax = 1000;

// Formats of numbers, from OpenAPI and others: those that set bounds, and those that do not.
struct NumberFormat {
  std::string_view name;
  bool integer = false;
  std::string_view min;  // Empty: none.
  std::string_view max;
};

constexpr NumberFormat kNumberFormats[] = {
    {"int8", true, "-128", "127"},
    {"int16", true, "-32768", "32767"},
    {"int32", true, "-2147483648", "2147483647"},
    {"int64", true, "-9223372036854775808", "9223372036854775807"},
    {"uint8", true, "0", "255"},
    {"uint16", true, "0", "65535"},
    {"uint32", true, "0", "4294967295"},
    {"uint64", true, "0", "18446744073709551615"},
    {"int", true, "", ""},
    {"uint", true, "0", ""},
    {"float", false, "", ""},
    {"double", false, "", ""},
};

std::optional<Decimal> ReadDecimal(const SchemaAt& schema, const char* keyword) {
  const SchemaJson* value = FindKeyword(schema.value, keyword);
  if (value == nullptr) return std::nullopt;
  const std::string path = schema.path + "/" + keyword;
  if (!value->is_number()) RefuseSchema(path, "must be a number");
  const std::optional<Decimal> decimal = Decimal::Parse(value->dump());
  if (!decimal) RefuseSchema(path, "must have at most 40 digits before and after the point");
  return decimal;
}

void Narrow(std::optional<DecimalBound>& bound, const std::optional<DecimalBound>& other,
            bool upper) {
  if (!other) return;
  const auto less = [&](const DecimalBound& a, const DecimalBound& b) {
    return upper ? b.value < a.value : a.value < b.value;
  };
  if (!bound || less(*bound, *other) || (!less(*other, *bound) && other->excluded)) bound = other;
}

// OpenAPI 3.0 writes exclusive bounds as true beside the others.
std::optional<DecimalBound> ReadBound(const SchemaAt& schema, const char* keyword,
                                      const char* exclusive, bool upper) {
  std::optional<DecimalBound> bound;
  const SchemaJson* flag = FindKeyword(schema.value, exclusive);
  const bool is_flag = flag != nullptr && flag->is_boolean();
  if (const auto value = ReadDecimal(schema, keyword)) bound = {*value, is_flag && *flag == true};
  if (is_flag) return bound;
  if (const auto value = ReadDecimal(schema, exclusive)) Narrow(bound, {{*value, true}}, upper);
  return bound;
}

std::optional<DecimalMultiple> ReadMultiple(const SchemaAt& schema, bool integer) {
  const auto value = ReadDecimal(schema, "multipleOf");
  if (!value) return std::nullopt;
  const std::string path = schema.path + "/multipleOf";
  if (value->negative || value->is_zero()) RefuseSchema(path, "must be above 0");
  const auto multiple = DecimalMultiple::Of(*value, integer);
  if (!multiple) {
    RefuseSchema(path, "must, without the powers of ten in it, be at most " +
                           std::to_string(kDivisorMax) + ", and have at most " +
                           std::to_string(kExactDigitsMax) + " digits after the point");
  }
  return multiple;
}

std::optional<DecimalBound> BoundOf(std::string_view text) {
  const auto value = text.empty() ? std::nullopt : Decimal::Parse(text);
  if (!value) return std::nullopt;
  return DecimalBound{*value, false};
}

// Formats of strings say nothing of numbers.
void ApplyFormat(const SchemaAt& schema, NumberRules& rules) {
  const SchemaJson* format = FindKeyword(schema.value, "format");
  if (format == nullptr) return;
  const std::string name = format->is_string() ? format->get<std::string>() : "";
  if (FindFormat(name) != nullptr) return;
  std::string names;
  for (const NumberFormat& known : kNumberFormats) {
    if (known.name == name) {
      rules.integer = rules.integer || known.integer;
      Narrow(rules.min, BoundOf(known.min), false);
      Narrow(rules.max, BoundOf(known.max), true);
      return;
    }
    names += (names.empty() ? "" : ", ") + std::string(known.name);
  }
  RefuseSchema(schema.path + "/format", "the format " + format->dump() +
                                            " of numbers is not supported; supported are " + names);
}

NumberRules ReadNumberRules(const SchemaAt& schema, bool integer) {
  NumberRules rules{.integer = integer,
                    .min = ReadBound(schema, "minimum", "exclusiveMinimum", false),
                    .max = ReadBound(schema, "maximum", "exclusiveMaximum", true)};
  ApplyFormat(schema, rules);
  if (rules.min && rules.max && rules.max->value < rules.min->value) {
    RefuseSchema(schema.path, "its minimum is above its maximum");
  }
  rules.multiple = ReadMultiple(schema, rules.integer);
  return rules;
}

bool AllowsNumber(const SchemaAt& schema, const SchemaJson& number) {
  const NumberRules rules = ReadNumberRules(schema, HasType(number, "integer"));
  if (rules.none() && !rules.integer) return true;
  const std::optional<Decimal> value = Decimal::Parse(number.dump());
  return value && rules.Allow(*value);
}

// Whatever the order of members.
bool Holds(const SchemaJson& values, const SchemaJson& value) {
  return std::any_of(values.begin(), values.end(), [&](const SchemaJson& each) {
    return nlohmann::json(each) == nlohmann::json(value);
  });
}

}  // namespace

std::vector<SchemaJson> SchemaCompiler::Listed(const SchemaAt& schema) {
  const SchemaJson* constant = FindKeyword(schema.value, "const");
  const SchemaJson* enumeration = FindKeyword(schema.value, "enum");
  RefuseOthers(schema, {constant != nullptr ? "const" : "enum", "enum", "type", "format", "pattern",
                        "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum",
                        "exclusiveMaximum", "multipleOf"});
  if (enumeration != nullptr &&
      (!enumeration->is_array() || enumeration->empty() || enumeration->size() > kEnumValuesMax)) {
    RefuseSchema(schema.path + "/enum",
                 "must be an array of 1 to " + std::to_string(kEnumValuesMax) + " values");
  }
  std::vector<SchemaJson> values;
  if (constant == nullptr) {
    values.assign(enumeration->begin(), enumeration->end());
  } else if (enumeration == nullptr || Holds(*enumeration, *constant)) {
    values.push_back(*constant);
  }
  const auto has_type = [&](const SchemaJson& value) {
    const std::vector<std::string> types = TypesOf(schema);
    return std::any_of(types.begin(), types.end(),
                       [&](const std::string& type) { return HasType(value, type); });
  };
  if (schema.value.contains("type")) std::erase_if(values, std::not_fn(has_type));
  std::optional<TextRules> texts;
  std::erase_if(values, [&](const SchemaJson& value) {
    if (value.is_number()) return !AllowsNumber(schema, value);
    if (!value.is_string()) return false;
    if (!texts) texts = ReadTextRules(schema);
    return !texts->Allow(value.get<std::string>());
  });
  if (values.empty()) {
    RefuseSchema(schema.path + (constant != nullptr ? "/const" : "/enum"),
                 "no value has the type that is asked for and suits what is beside it");
  }
  return values;
}

NodeId SchemaCompiler::Literals(const SchemaAt& schema) {
  std::vector<NodeId> options;
  for (const SchemaJson& value : Listed(schema)) {
    options.push_back(expression_.Literal(value.dump()));
  }
  return expression_.Choice(options);
}

SchemaCompiler::StringRules SchemaCompiler::ReadStringRules(const SchemaAt& schema) {
  StringRules rules{.pattern = FindKeyword(schema.value, "pattern"),
                    .length_min = ReadCount(schema, "minLength").value_or(0),
                    .length_max = ReadCount(schema, "maxLength").value_or(kUnlimited)};
  if (rules.length_min > rules.length_max) {
    RefuseSchema(schema.path, "minLength is above maxLength");
  }
  if (rules.pattern != nullptr && !rules.pattern->is_string()) {
    RefuseSchema(schema.At("pattern").path, "must be a string");
  }
  if (const SchemaJson* format = FindKeyword(schema.value, "format")) {
    const std::string name = format->is_string() ? format->get<std::string>() : "";
    rules.format = FindFormat(name);
    if (rules.format == nullptr) {
      RefuseSchema(
          schema.At("format").path,
          "the format " + format->dump() + " is not supported; supported are " + FormatNames());
    }
    rules.length_max = std::min(rules.length_max, rules.format->length_max);
  }
  return rules;
}

bool SchemaCompiler::TextRules::Allow(const std::string& text) const {
  const auto count = std::count_if(text.begin(), text.end(),
                                   [](char c) { return (c & 0xC0) != 0x80; });  // Characters.
  return static_cast<size_t>(count) >= length_min && static_cast<size_t>(count) <= length_max &&
         (!machine || machine->Matches(SpelledText(text)));
}

SchemaCompiler::TextRules SchemaCompiler::ReadTextRules(const SchemaAt& schema) {
  const StringRules rules = ReadStringRules(schema);
  TextRules result{.length_min = rules.length_min, .length_max = rules.length_max};
  if (rules.pattern != nullptr || rules.format != nullptr)
    result.machine = MachineOf(rules, schema);
  return result;
}

Machine SchemaCompiler::MachineOf(const StringRules& rules, const SchemaAt& schema) {
  std::optional<Machine> machine;
  const auto narrow = [&](const char* keyword, const std::string& pattern, RegexMatch match) {
    machine = PlacedAt(schema.path + "/" + keyword, [&] {
      const Machine& other = machines_.OfPattern(pattern, match);
      return machine ? machines_.Intersect(*machine, other) : other;
    });
  };
  if (rules.pattern != nullptr) {
    narrow("pattern", rules.pattern->get<std::string>(), RegexMatch::kSearch);
  }
  if (rules.format != nullptr) {
    for (const std::string& pattern : rules.format->patterns) {
      narrow("format", pattern, RegexMatch::kWhole);
    }
  }
  return machine ? *machine : machines_.Any();
}

// The same demands are often made in several places.
NodeId SchemaCompiler::Combined(const StringRules& rules, const SchemaAt& schema) {
  const std::string pattern = rules.pattern != nullptr ? rules.pattern->get<std::string>() : "";
  const auto [entry, is_new] =
      strings_.try_emplace({pattern, rules.format, rules.length_min, rules.length_max}, 0);
  if (!is_new) return entry->second;
  Machine machine = MachineOf(rules, schema);
  if (rules.length_min > 0 || rules.length_max != kUnlimited) {
    machine = PlacedAt(schema.path, [&] {
      return machines_.WithLengths(machine, rules.length_min, rules.length_max);
    });
  }
  if (machine.empty()) {
    RefuseSchema(schema.path, "no string has its pattern, format and lengths all at once");
  }
  return entry->second = values_.Quoted(expression_.Matching(std::move(machine)));
}

NodeId SchemaCompiler::String(const SchemaAt& schema) {
  const StringRules rules = ReadStringRules(schema);
  const bool any_length = rules.length_min == 0 && rules.length_max == kUnlimited;
  if (rules.pattern == nullptr && rules.format == nullptr) {
    return values_.String(rules.length_min, rules.length_max);
  }
  if (any_length && rules.format == nullptr) {
    return PlacedAt(schema.path + "/pattern", [&] {
      return values_.Quoted(ParseRegex(expression_, rules.pattern->get<std::string>(),
                                       Spelling::kJsonString, RegexMatch::kSearch));
    });
  }
  if (any_length && rules.pattern == nullptr && rules.format->patterns.size() == 1) {
    return values_.Quoted(ParseRegex(expression_, rules.format->patterns[0], Spelling::kJsonString,
                                     RegexMatch::kWhole));
  }
  return Combined(rules, schema);
}

NodeId SchemaCompiler::Number(const SchemaAt& schema, bool integer) {
  const NumberRules rules = ReadNumberRules(schema, integer);
  if (rules.none() && !rules.integer) return values_.Number();
  const NodeId number = PlacedAt(schema.path, [&] { return values_.Number(rules); });
  if (!expression_.IsImpossible(number)) return number;
  RefuseSchema(schema.path, "no number of at most " +
                                std::to_string(rules.integer ? kDigitsMax : kExactDigitsMax) +
                                " digits is within its bounds and a multiple as asked for");
}

}  // namespace shoal::text::grammar
