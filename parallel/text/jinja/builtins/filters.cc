// The filters of `x | filter`: those of one value, and the table of all. Those of sequences are in
// sequence_filters.cc.

#include "parallel/text/jinja/builtins/filters.h"

#include <charconv>
#include <cmath>
#include <map>

#include "parallel/text/jinja/builtins/characters.h"
#include "parallel/text/jinja/operators.h"

namespace shoal::text::jinja {
namespace {

using Bound = std::vector<std::optional<Value>>;

Value Default(Evaluator& e, const Value& input, const Arguments& arguments) {
  const Bound bound = arguments.Bind(e, {"default_value", "boolean"});
  const bool falsy = bound[1] && Truth(*bound[1]) && !Truth(input);
  return input.IsUndefined() || falsy ? bound[0].value_or(Text()) : input;
}

Value Trim(Evaluator& e, const Value& input, const Arguments& arguments) {
  const Bound bound = arguments.Bind(e, {"chars"});
  const Text text = ToText(e, input);
  if (!bound[0] || bound[0]->IsNone()) return Strip(text, Side::kBoth, nullptr);
  const std::string characters = ToText(e, *bound[0]).bytes;
  return Strip(text, Side::kBoth, &characters);
}

Value ReplaceFilter(Evaluator& e, const Value& input, const Arguments& arguments) {
  const Bound bound = arguments.Bind(e, {"old", "new", "count"});
  if (!bound[0] || !bound[1]) e.Fail("replace needs two arguments");
  const int64_t count = bound[2] && bound[2]->IsInteger() ? bound[2]->integer() : -1;
  return Replace(e, ToText(e, input), ToText(e, *bound[0]), ToText(e, *bound[1]), count);
}

// Jinja's, which begins words after white space, hyphens and opening brackets.
Value Title(Evaluator& e, const Value& input, const Arguments& arguments) {
  arguments.Bind(e, {});
  const Text text = ToText(e, input);
  Text out;
  bool begins = true;
  const std::vector<size_t> offsets = CharacterOffsets(text.bytes);
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    const Text character = text.Slice(offsets[i], offsets[i + 1]);
    out.Append(ChangeCase(e, character, begins ? Case::kUpper : Case::kLower));
    begins = std::string_view("-({[< \t\n\r\f\v").find(character.bytes) != std::string_view::npos;
  }
  return out;
}

Value ToInteger(Evaluator& e, const Value& input, const Arguments& arguments) {
  const Bound bound = arguments.Bind(e, {"default"});
  const Value otherwise = bound[0].value_or(int64_t{0});
  if (input.IsInteger()) return input.integer();
  double number = 0;
  if (input.IsText()) {
    const std::string text = Strip(input.text(), Side::kBoth, nullptr).bytes;
    int64_t integer = 0;
    const char* end = text.data() + text.size();
    const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
    const auto parsed = std::from_chars(begin, end, integer);
    if (parsed.ec == std::errc() && parsed.ptr == end) return integer;
    const auto as_float = std::from_chars(begin, end, number);
    if (as_float.ec != std::errc() || as_float.ptr != end) return otherwise;
  } else if (input.IsFloat()) {
    number = input.number();
  } else if (input.IsUndefined()) {
    e.Fail(input.undefined());
  } else {
    return otherwise;
  }
  if (!(std::abs(number) < 9e18)) return otherwise;
  return static_cast<int64_t>(number);
}

Value ToFloat(Evaluator& e, const Value& input, const Arguments& arguments) {
  const Bound bound = arguments.Bind(e, {"default"});
  if (input.IsNumber()) return input.number();
  if (input.IsUndefined()) e.Fail(input.undefined());
  const Value otherwise = bound[0].value_or(0.0);
  if (!input.IsText()) return otherwise;
  const std::string text = Strip(input.text(), Side::kBoth, nullptr).bytes;
  double number = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + (text.starts_with('+') ? 1 : 0), end, number);
  return parsed.ec == std::errc() && parsed.ptr == end ? Value(number) : otherwise;
}

Value Round(Evaluator& e, const Value& input, const Arguments& arguments) {
  const Bound bound = arguments.Bind(e, {"precision", "method"});
  if (!input.IsNumber()) e.Fail(std::string("cannot round a ") + input.type_name());
  const int64_t precision = bound[0] && bound[0]->IsInteger() ? bound[0]->integer() : 0;
  const std::string method = bound[1] ? ToText(e, *bound[1]).bytes : "common";
  if (precision < 0 || precision > 15) e.Fail("round to this precision is not supported");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return std::ceil(input.number() * scale) / scale;
  if (method == "floor") return std::floor(input.number() * scale) / scale;
  if (method != "common") e.Fail("method must be common, ceil or floor");
  if (input.IsInteger()) return input.integer();
  // printf rounds the exact decimal value, as Python does.
  char buffer[400];
  std::snprintf(buffer, sizeof(buffer), "%.*f", static_cast<int>(precision), input.number());
  return std::strtod(buffer, nullptr);
}

Value Absolute(Evaluator& e, const Value& input, const Arguments& arguments) {
  arguments.Bind(e, {});
  if (input.IsFloat()) return std::abs(input.number());
  if (!input.IsInteger()) e.Fail(std::string("bad operand type for abs(): ") + input.type_name());
  return input.integer() < 0 ? Arithmetic(e, "-", int64_t{0}, input) : Value(input.integer());
}

Value Length(Evaluator& e, const Value& input, const Arguments& arguments) {
  arguments.Bind(e, {});
  if (input.IsUndefined()) return int64_t{0};
  if (input.IsText()) {
    e.ChargeBytes(input.text().bytes.size());
    return static_cast<int64_t>(CharacterOffsets(input.text().bytes).size()) - 1;
  }
  if (input.IsMapping()) return static_cast<int64_t>(input.mapping().items.size());
  if (input.IsSequence() && input.sequence().kind != Sequence::Kind::kGenerator) {
    return static_cast<int64_t>(input.sequence().items.size());
  }
  e.Fail(std::string("object of type '") + input.type_name() + "' has no len()");
}

Value Json(Evaluator& e, const Value& input, const Arguments& arguments) {
  const Bound bound = arguments.Bind(e, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = bound[0] && Truth(*bound[0]);
  style.sort_keys = bound[3] && Truth(*bound[3]);
  if (bound[1] && !bound[1]->IsNone()) {
    if (!bound[1]->IsInteger() || bound[1]->integer() < 0 || bound[1]->integer() > 64) {
      e.Fail("tojson needs an indent from 0 to 64");
    }
    style.indent = bound[1]->integer();
    style.between_items = Text(",");
  }
  if (bound[2] && !bound[2]->IsNone()) {
    const std::vector<Value> separators = Items(e, *bound[2]);
    if (separators.size() != 2 || !separators[0].IsText() || !separators[1].IsText()) {
      e.Fail("tojson needs two strings as separators");
    }
    style.between_items = separators[0].text();
    style.after_key = separators[1].text();
  }
  return ToJson(e, input, style);
}

Value Format(Evaluator& e, const Value& input, const Arguments& arguments) {
  if (!arguments.keywords.empty()) e.Fail("format with named arguments is not supported");
  return FormatText(e, ToText(e, input),
                    MakeSequence(arguments.positional, Sequence::Kind::kTuple));
}

// All lines but the first, and not the blank ones, unless asked otherwise.
Value Indent(Evaluator& e, const Value& input, const Arguments& arguments) {
  const Bound bound = arguments.Bind(e, {"width", "first", "blank"});
  Text margin(std::string(4, ' '));
  if (bound[0] && bound[0]->IsText()) {
    margin = bound[0]->text();
  } else if (bound[0]) {
    if (!bound[0]->IsInteger() || bound[0]->integer() > 1000) e.Fail("indent needs a small width");
    margin = Text(std::string(static_cast<size_t>(std::max<int64_t>(bound[0]->integer(), 0)), ' '));
  }
  const bool blank = bound[2] && Truth(*bound[2]);
  Text text = ToText(e, input);
  text.Append("\n", false);  // Jinja's own way of keeping a last empty line.
  Text out;
  bool first = true;
  for (const Value& line : SplitLines(e, text, false)) {
    e.ChargeBytes(line.text().bytes.size() + margin.bytes.size());
    if (!first) out.Append("\n", false);
    const bool indents = first ? bound[1] && Truth(*bound[1]) : blank || Truth(line);
    if (indents) out.Append(margin);
    out.Append(line.text());
    first = false;
  }
  return out;
}

const std::map<std::string, Filter, std::less<>>& Filters() {
  using E = Evaluator&;
  using V = const Value&;
  using A = const Arguments&;
  static const std::map<std::string, Filter, std::less<>> filters = [] {
    std::map<std::string, Filter, std::less<>> table = {
        {"default", Default},
        {"d", Default},
        {"trim", Trim},
        {"replace", ReplaceFilter},
        {"title", Title},
        {"int", ToInteger},
        {"float", ToFloat},
        {"round", Round},
        {"abs", Absolute},
        {"length", Length},
        {"count", Length},
        {"tojson", Json},
        {"indent", Indent},
        {"string", [](E e, V v, A a) { return a.Bind(e, {}), Value(ToText(e, v)); }},
        // Nothing is escaped, so that all is safe.
        {"safe", [](E e, V v, A a) { return a.Bind(e, {}), Value(ToText(e, v)); }},
        {"format", Format},
        {"upper",
         [](E e, V v, A a) {
           return a.Bind(e, {}), Value(ChangeCase(e, ToText(e, v), Case::kUpper));
         }},
        {"lower",
         [](E e, V v, A a) {
           return a.Bind(e, {}), Value(ChangeCase(e, ToText(e, v), Case::kLower));
         }},
        {"capitalize",
         [](E e, V v, A a) { return a.Bind(e, {}), Value(Capitalize(e, ToText(e, v))); }},
    };
    AddSequenceFilters(table);
    return table;
  }();
  return filters;
}

}  // namespace

bool IsFilter(const std::string& name) { return Filters().contains(name); }

Value ApplyFilter(Evaluator& evaluator, const std::string& name, const Value& input,
                  const Arguments& arguments) {
  const auto found = Filters().find(name);
  if (found == Filters().end()) evaluator.Fail("the filter '" + name + "' is not supported");
  evaluator.Charge(1);
  return found->second(evaluator, input, arguments);
}

}  // namespace shoal::text::jinja
