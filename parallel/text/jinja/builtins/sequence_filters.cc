// The filters that take or give sequences. Jinja's generators are made at once here: what they
// would compute later, or never, is computed now, which can only refuse more.

#include <algorithm>
#include <charconv>

#include "parallel/text/jinja/builtins/characters.h"
#include "parallel/text/jinja/builtins/filters.h"
#include "parallel/text/jinja/operators.h"

namespace shoal::text::jinja {
namespace {

using E = Evaluator&;
using V = const Value&;
using A = const Arguments&;
using Bound = std::vector<std::optional<Value>>;

Value Generator(std::vector<Value> items) {
  return MakeSequence(std::move(items), Sequence::Kind::kGenerator);
}

// "a.b.0" of a value.
Value Attribute(E e, V self, V path) {
  if (path.IsInteger()) return GetItem(e, self, path);
  if (!path.IsText()) e.Fail("an attribute's name must be a string");
  Value value = self;
  const std::string dot = ".";
  for (const Value& part : Split(e, path.text(), &dot, -1)) {
    const std::string& name = part.text().bytes;
    int64_t index = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), index);
    const bool number = parsed.ec == std::errc() && parsed.ptr == name.data() + name.size();
    value = GetItem(e, value, number ? Value(index) : part);
  }
  return value;
}

// What to sort or compare by: an attribute if one is asked for, and without case unless asked.
Value Key(E e, V item, const std::optional<Value>& attribute, bool case_sensitive) {
  Value key = attribute && !attribute->IsNone() ? Attribute(e, item, *attribute) : item;
  if (key.IsText() && !case_sensitive) return ChangeCase(e, key.text(), Case::kLower);
  return key;
}

std::vector<Value> Sorted(E e, std::vector<Value> items, const std::optional<Value>& attribute,
                          bool case_sensitive, bool reverse) {
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : items) {
    Value key = Key(e, item, attribute, case_sensitive);
    keyed.emplace_back(std::move(key), std::move(item));
  }
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    e.Charge(1);
    const int order = Compare(e, a.first, b.first);
    return reverse ? order > 0 : order < 0;
  });
  for (size_t i = 0; i < keyed.size(); ++i) items[i] = std::move(keyed[i].second);
  return items;
}

bool Flag(const std::optional<Value>& value) { return value && Truth(*value); }

Value Sort(E e, V input, A arguments) {
  const Bound bound = arguments.Bind(e, {"reverse", "case_sensitive", "attribute"});
  return MakeSequence(Sorted(e, Items(e, input), bound[2], Flag(bound[1]), Flag(bound[0])));
}

Value DictSort(E e, V input, A arguments) {
  const Bound bound = arguments.Bind(e, {"case_sensitive", "by", "reverse"});
  if (!input.IsMapping()) e.Fail("dictsort needs a mapping");
  const std::string by = bound[1] ? ToText(e, *bound[1]).bytes : "key";
  if (by != "key" && by != "value") e.Fail("dictsort sorts by key or value");
  std::vector<Value> items;
  for (const auto& [key, value] : input.mapping().items) {
    items.push_back(MakeSequence({Value(key), value}, Sequence::Kind::kTuple));
  }
  const Value index = int64_t{by == "key" ? 0 : 1};
  return MakeSequence(Sorted(e, std::move(items), index, Flag(bound[0]), Flag(bound[2])));
}

Value Unique(E e, V input, A arguments) {
  const Bound bound = arguments.Bind(e, {"case_sensitive", "attribute"});
  std::vector<Value> keys;
  std::vector<Value> kept;
  for (const Value& item : Items(e, input)) {
    Value key = Key(e, item, bound[1], Flag(bound[0]));
    if (std::any_of(keys.begin(), keys.end(), [&](V seen) { return Equal(e, seen, key); }))
      continue;
    keys.push_back(std::move(key));
    kept.push_back(item);
  }
  return Generator(std::move(kept));
}

Value Extreme(E e, V input, A arguments, bool largest) {
  const Bound bound = arguments.Bind(e, {"case_sensitive", "attribute"});
  const std::vector<Value> items = Sorted(e, Items(e, input), bound[1], Flag(bound[0]), largest);
  if (items.empty()) return Undefined{"No aggregated item, sequence was empty."};
  return items[0];
}

Value Sum(E e, V input, A arguments) {
  const Bound bound = arguments.Bind(e, {"attribute", "start"});
  Value sum = bound[1].value_or(int64_t{0});
  for (const Value& item : Items(e, input)) {
    sum = Arithmetic(e, "+", sum,
                     bound[0] && !bound[0]->IsNone() ? Attribute(e, item, *bound[0]) : item);
  }
  return sum;
}

Value Join(E e, V input, A arguments) {
  const Bound bound = arguments.Bind(e, {"d", "attribute"});
  const Text separator = bound[0] ? ToText(e, *bound[0]) : Text();
  Text out;
  bool first = true;
  for (const Value& item : Items(e, input)) {
    if (!std::exchange(first, false)) out.Append(separator);
    e.ChargeBytes(separator.bytes.size());
    out.Append(ToText(e, bound[1] && !bound[1]->IsNone() ? Attribute(e, item, *bound[1]) : item));
  }
  return out;
}

Value First(E e, V input, A arguments) {
  arguments.Bind(e, {});
  if (input.IsUndefined()) return Undefined{"No first item, sequence was empty."};
  const std::vector<Value> items = Items(e, input);
  return items.empty() ? Value(Undefined{"No first item, sequence was empty."}) : items.front();
}

Value Last(E e, V input, A arguments) {
  arguments.Bind(e, {});
  if (input.IsSequence() && input.sequence().kind == Sequence::Kind::kGenerator) {
    e.Fail("'generator' object is not reversible");
  }
  const std::vector<Value> items = Items(e, input);
  return items.empty() ? Value(Undefined{"No last item, sequence was empty."}) : items.back();
}

Value Reverse(E e, V input, A arguments) {
  arguments.Bind(e, {});
  std::vector<Value> items = Items(e, input);
  std::reverse(items.begin(), items.end());
  if (!input.IsText()) return Generator(std::move(items));
  Text out;
  for (const Value& character : items) out.Append(character.text());
  return out;
}

Value MappingItems(E e, V input, A arguments) {
  arguments.Bind(e, {});
  if (input.IsUndefined()) return Generator({});
  if (!input.IsMapping()) e.Fail("Can only get item pairs from a mapping.");
  std::vector<Value> items;
  for (const auto& [key, value] : input.mapping().items) {
    items.push_back(MakeSequence({Value(key), value}, Sequence::Kind::kTuple));
  }
  return Generator(std::move(items));
}

Value Map(E e, V input, A arguments) {
  std::vector<Value> items = Items(e, input);
  if (arguments.positional.empty()) {
    const Bound bound = arguments.Bind(e, {"attribute", "default"});
    if (!bound[0]) e.Fail("map needs a filter or an attribute");
    for (Value& item : items) {
      item = Attribute(e, item, *bound[0]);
      if (item.IsUndefined() && bound[1]) item = *bound[1];
    }
    return Generator(std::move(items));
  }
  const std::string filter = ToText(e, arguments.positional[0]).bytes;
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin());
  for (Value& item : items) item = ApplyFilter(e, filter, item, rest);
  return Generator(std::move(items));
}

// The items, or an attribute of theirs, that pass a test (their truth if none is named), or do not.
Value Choose(E e, V input, A arguments, bool by_attribute, bool wanted) {
  Arguments rest = arguments;
  std::optional<Value> attribute;
  if (by_attribute) {
    if (rest.positional.empty()) e.Fail("an attribute's name is missing");
    attribute = rest.positional[0];
    rest.positional.erase(rest.positional.begin());
  }
  std::string test;
  if (!rest.positional.empty()) {
    test = ToText(e, rest.positional[0]).bytes;
    rest.positional.erase(rest.positional.begin());
    if (test == "==") test = "eq";
    if (test == "!=") test = "ne";
  }
  std::vector<Value> kept;
  for (const Value& item : Items(e, input)) {
    const Value tested = attribute ? Attribute(e, item, *attribute) : item;
    const bool passes = test.empty() ? Truth(tested) : ApplyTest(e, test, tested, rest);
    if (passes == wanted) kept.push_back(item);
  }
  return Generator(std::move(kept));
}

}  // namespace

void AddSequenceFilters(std::map<std::string, Filter, std::less<>>& table) {
  table.insert({
      {"first", First},
      {"last", Last},
      {"join", Join},
      {"sort", Sort},
      {"dictsort", DictSort},
      {"unique", Unique},
      {"sum", Sum},
      {"map", Map},
      {"reverse", Reverse},
      {"items", MappingItems},
      {"min", [](E e, V v, A a) { return Extreme(e, v, a, false); }},
      {"max", [](E e, V v, A a) { return Extreme(e, v, a, true); }},
      {"list", [](E e, V v, A a) { return a.Bind(e, {}), MakeSequence(Items(e, v)); }},
      {"select", [](E e, V v, A a) { return Choose(e, v, a, false, true); }},
      {"reject", [](E e, V v, A a) { return Choose(e, v, a, false, false); }},
      {"selectattr", [](E e, V v, A a) { return Choose(e, v, a, true, true); }},
      {"rejectattr", [](E e, V v, A a) { return Choose(e, v, a, true, false); }},
  });
}

}  // namespace shoal::text::jinja
