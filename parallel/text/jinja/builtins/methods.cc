// Methods of strings and mappings, and the global functions.

#include <algorithm>
#include <array>
#include <ctime>
#include <map>

#include "parallel/text/jinja/builtins/builtins.h"
#include "parallel/text/jinja/builtins/characters.h"
#include "parallel/text/jinja/objects.h"
#include "parallel/text/jinja/operators.h"

namespace shoal::text::jinja {
namespace {

using Bound = std::vector<std::optional<Value>>;

const std::string& String(const Evaluator& evaluator, const Value& value) {
  if (!value.IsText()) {
    evaluator.Fail(std::string("expected a str argument, found ") + value.type_name());
  }
  return value.text().bytes;
}

const Value& Required(const Evaluator& evaluator, const std::optional<Value>& value) {
  if (!value) evaluator.Fail("a required argument is missing");
  return *value;
}

// The characters or separator given, or null where it is absent or None.
const std::string* OptionalString(const Evaluator& evaluator, const std::optional<Value>& value) {
  return !value || value->IsNone() ? nullptr : &String(evaluator, *value);
}

int64_t Integer(const Evaluator& evaluator, const std::optional<Value>& value, int64_t otherwise) {
  if (!value) return otherwise;
  if (!value->IsInteger()) {
    evaluator.Fail(std::string("expected an int argument, found ") + value->type_name());
  }
  return value->integer();
}

Value StripMethod(Evaluator& evaluator, const Text& self, const Arguments& arguments, Side side) {
  const Bound bound = arguments.Bind(evaluator, {"chars"});
  evaluator.ChargeBytes(self.bytes.size());
  return Strip(self, side, OptionalString(evaluator, bound[0]));
}

// startswith and endswith, of one string or any of a tuple.
Value AffixMethod(Evaluator& evaluator, const Text& self, const Arguments& arguments, bool front) {
  const Bound bound = arguments.Bind(evaluator, {"affix"});
  const Value& affix = Required(evaluator, bound[0]);
  const auto matches = [&](const Value& value) {
    const std::string& text = String(evaluator, value);
    return front ? self.bytes.starts_with(text) : self.bytes.ends_with(text);
  };
  if (!affix.IsSequence()) return matches(affix);
  const auto& any = affix.sequence().items;
  return std::any_of(any.begin(), any.end(), matches);
}

Value RemoveAffix(Evaluator& evaluator, const Text& self, const Arguments& arguments, bool front) {
  const Bound bound = arguments.Bind(evaluator, {"affix"});
  const std::string& affix = String(evaluator, Required(evaluator, bound[0]));
  const size_t size = self.bytes.size();
  if (front) return self.Slice(self.bytes.starts_with(affix) ? affix.size() : 0, size);
  return self.Slice(0, self.bytes.ends_with(affix) ? size - affix.size() : size);
}

Value SplitMethod(Evaluator& evaluator, const Text& self, const Arguments& arguments, bool right) {
  const Bound bound = arguments.Bind(evaluator, {"sep", "maxsplit"});
  const std::string* separator = OptionalString(evaluator, bound[0]);
  const int64_t count = Integer(evaluator, bound[1], -1);
  if (!right) return MakeSequence(Split(evaluator, self, separator, count));
  if (separator == nullptr) evaluator.Fail("rsplit without a separator is not supported");
  return MakeSequence(SplitFromRight(evaluator, self, *separator, count));
}

// The index of a character, -1 if it is not found.
Value FindMethodOf(Evaluator& evaluator, const Text& self, const Arguments& arguments, bool last) {
  const Bound bound = arguments.Bind(evaluator, {"sub"});
  const std::string& wanted = String(evaluator, Required(evaluator, bound[0]));
  const size_t found = last ? self.bytes.rfind(wanted) : self.bytes.find(wanted);
  if (found == std::string::npos) return int64_t{-1};
  return static_cast<int64_t>(CharacterOffsets(self.bytes.substr(0, found)).size()) - 1;
}

Value TitleMethod(Evaluator& evaluator, const Text& self) {
  Text out;
  bool in_word = false;
  for (size_t i = 0; i < self.bytes.size(); ++i) {
    const char c = self.bytes[i];
    if (static_cast<unsigned char>(c) >= 0x80)
      evaluator.Fail("title of non-ASCII text is not supported");
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    out.Append(ChangeCase(evaluator, self.Slice(i, i + 1), in_word ? Case::kLower : Case::kUpper));
    in_word = letter;
  }
  return out;
}

Value IsMethod(const Evaluator& evaluator, const Text& self, const std::string& name) {
  const auto holds = [&](char c) {
    if (static_cast<unsigned char>(c) >= 0x80) {
      evaluator.Fail(name + " of characters outside ASCII is not supported");
    }
    const bool digit = c >= '0' && c <= '9';
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (name == "isdigit" || name == "isnumeric") return digit;
    if (name == "isalpha") return letter;
    if (name == "isalnum") return letter || digit;
    return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x1F);
  };
  return !self.bytes.empty() && std::all_of(self.bytes.begin(), self.bytes.end(), holds);
}

Value CountMethod(Evaluator& evaluator, const Text& self, const Arguments& arguments) {
  const Bound bound = arguments.Bind(evaluator, {"sub"});
  const std::string& wanted = String(evaluator, Required(evaluator, bound[0]));
  if (wanted.empty()) evaluator.Fail("counting the empty string is not supported");
  int64_t count = 0;
  for (size_t at = self.bytes.find(wanted); at != std::string::npos;
       at = self.bytes.find(wanted, at + wanted.size())) {
    ++count;
  }
  return count;
}

Value JoinMethod(Evaluator& evaluator, const Text& self, const Arguments& arguments) {
  const Bound bound = arguments.Bind(evaluator, {"iterable"});
  Text out;
  bool first = true;
  for (const Value& item : Items(evaluator, Required(evaluator, bound[0]))) {
    if (!std::exchange(first, false)) out.Append(self);
    String(evaluator, item);
    evaluator.ChargeBytes(item.text().bytes.size() + self.bytes.size());
    out.Append(item.text());
  }
  return out;
}

Value ReplaceMethod(Evaluator& evaluator, const Text& self, const Arguments& arguments) {
  const Bound bound = arguments.Bind(evaluator, {"old", "new", "count"});
  String(evaluator, Required(evaluator, bound[0]));
  String(evaluator, Required(evaluator, bound[1]));
  return Replace(evaluator, self, bound[0]->text(), bound[1]->text(),
                 Integer(evaluator, bound[2], -1));
}

using TextMethod = Value (*)(Evaluator&, const Text&, const Arguments&);

const std::map<std::string, TextMethod, std::less<>>& TextMethods() {
  using E = Evaluator&;
  using T = const Text&;
  using A = const Arguments&;
  static const std::map<std::string, TextMethod, std::less<>> methods = {
      {"strip", [](E e, T t, A a) { return StripMethod(e, t, a, Side::kBoth); }},
      {"lstrip", [](E e, T t, A a) { return StripMethod(e, t, a, Side::kLeft); }},
      {"rstrip", [](E e, T t, A a) { return StripMethod(e, t, a, Side::kRight); }},
      {"split", [](E e, T t, A a) { return SplitMethod(e, t, a, false); }},
      {"rsplit", [](E e, T t, A a) { return SplitMethod(e, t, a, true); }},
      {"startswith", [](E e, T t, A a) { return AffixMethod(e, t, a, true); }},
      {"endswith", [](E e, T t, A a) { return AffixMethod(e, t, a, false); }},
      {"removeprefix", [](E e, T t, A a) { return RemoveAffix(e, t, a, true); }},
      {"removesuffix", [](E e, T t, A a) { return RemoveAffix(e, t, a, false); }},
      {"find", [](E e, T t, A a) { return FindMethodOf(e, t, a, false); }},
      {"rfind", [](E e, T t, A a) { return FindMethodOf(e, t, a, true); }},
      {"count", CountMethod},
      {"join", JoinMethod},
      {"replace", ReplaceMethod},
      {"upper", [](E e, T t, A a) { return a.Bind(e, {}), Value(ChangeCase(e, t, Case::kUpper)); }},
      {"lower", [](E e, T t, A a) { return a.Bind(e, {}), Value(ChangeCase(e, t, Case::kLower)); }},
      {"capitalize", [](E e, T t, A a) { return a.Bind(e, {}), Value(Capitalize(e, t)); }},
      {"title", [](E e, T t, A a) { return a.Bind(e, {}), TitleMethod(e, t); }},
      {"isdigit", [](E e, T t, A a) { return a.Bind(e, {}), IsMethod(e, t, "isdigit"); }},
      {"isnumeric", [](E e, T t, A a) { return a.Bind(e, {}), IsMethod(e, t, "isnumeric"); }},
      {"isalpha", [](E e, T t, A a) { return a.Bind(e, {}), IsMethod(e, t, "isalpha"); }},
      {"isalnum", [](E e, T t, A a) { return a.Bind(e, {}), IsMethod(e, t, "isalnum"); }},
      {"isspace", [](E e, T t, A a) { return a.Bind(e, {}), IsMethod(e, t, "isspace"); }},
      {"splitlines",
       [](E e, T t, A a) {
         const Bound bound = a.Bind(e, {"keepends"});
         e.ChargeBytes(t.bytes.size());
         return MakeSequence(SplitLines(e, t, bound[0] && Truth(*bound[0])));
       }},
  };
  return methods;
}

// Names that Python's types have and these do not. A template that uses one is refused then; as an
// undefined value it might go unnoticed.
bool IsOtherMethod(const Value& self, const std::string& name) {
  static constexpr std::string_view kText[] = {
      "casefold", "center",   "encode",    "expandtabs", "format",       "format_map",
      "index",    "isascii",  "isdecimal", "islower",    "isidentifier", "istitle",
      "isupper",  "ljust",    "maketrans", "partition",  "rpartition",   "rindex",
      "rjust",    "swapcase", "translate", "zfill",      "isprintable"};
  static constexpr std::string_view kMapping[] = {"clear",   "copy",       "fromkeys", "pop",
                                                  "popitem", "setdefault", "update"};
  static constexpr std::string_view kList[] = {"append", "clear",   "copy",   "count",
                                               "extend", "index",   "insert", "pop",
                                               "remove", "reverse", "sort"};
  const auto has = [&name](const auto& names) {
    return std::find(std::begin(names), std::end(names), name) != std::end(names);
  };
  if (self.IsText()) return has(kText);
  if (self.IsMapping()) return has(kMapping);
  return self.IsSequence() && has(kList);
}

Value MappingMethod(Evaluator& evaluator, const Mapping& self, const std::string& name,
                    const Arguments& arguments) {
  if (name == "get") {
    const Bound bound = arguments.Bind(evaluator, {"key", "default"});
    const Value& key = Required(evaluator, bound[0]);
    if (key.IsText()) evaluator.ChargeBytes(key.text().bytes.size());
    const Value* item = key.IsText() ? self.Find(key.text().bytes) : nullptr;
    return item != nullptr ? *item : bound[1].value_or(None{});
  }
  arguments.Bind(evaluator, {});
  std::vector<Value> items;
  for (const auto& [key, value] : self.items) {
    evaluator.Charge(1);
    if (name == "items") {
      items.push_back(MakeSequence({Value(key), value}, Sequence::Kind::kTuple));
    } else {
      items.push_back(name == "keys" ? Value(key) : value);
    }
  }
  return MakeSequence(std::move(items), Sequence::Kind::kView);
}

Value Range(Evaluator& evaluator, const Arguments& arguments) {
  const Bound bound = arguments.Bind(evaluator, {"start", "stop", "step"});
  Required(evaluator, bound[0]);
  const int64_t first = bound[1] ? Integer(evaluator, bound[0], 0) : 0;
  const int64_t stop = Integer(evaluator, bound[1] ? bound[1] : bound[0], 0);
  const int64_t step = Integer(evaluator, bound[2], 1);
  if (step == 0) evaluator.Fail("range() arg 3 must not be zero");
  // Jinja's sandbox has the same bound.
  constexpr size_t kRangeMax = 100'000;
  std::vector<Value> items;
  for (int64_t at = first; step > 0 ? at < stop : at > stop;) {
    evaluator.Charge(1);
    if (items.size() == kRangeMax) evaluator.Fail("range too big");
    items.emplace_back(at);
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  // A view, because Python's range is no list either: it prints differently.
  return MakeSequence(std::move(items), Sequence::Kind::kView);
}

// datetime.strftime of the time given, in UTC and in the C locale, which nothing here changes.
Value FormatNow(Evaluator& evaluator, const Arguments& arguments) {
  const Bound bound = arguments.Bind(evaluator, {"format"});
  const std::string& format = String(evaluator, Required(evaluator, bound[0]));
  if (format.empty()) return Text();
  const std::time_t seconds = *evaluator.unix_seconds();
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 256> buffer;
  const size_t size = std::strftime(buffer.data(), buffer.size(), format.c_str(), &parts);
  if (size == 0) evaluator.Fail("strftime_now needs a format for 1 to 255 characters");
  return Text(std::string_view(buffer.data(), size));
}

}  // namespace

std::vector<std::optional<Value>> Arguments::Bind(
    Evaluator& evaluator, std::initializer_list<std::string_view> parameters) const {
  std::vector<std::optional<Value>> bound(parameters.size());
  if (positional.size() > parameters.size()) {
    evaluator.Fail("expected at most " + std::to_string(parameters.size()) + " arguments, found " +
                   std::to_string(positional.size()));
  }
  std::copy(positional.begin(), positional.end(), bound.begin());
  for (const auto& [name, value] : keywords) {
    const auto* found = std::find(parameters.begin(), parameters.end(), name);
    if (found == parameters.end()) evaluator.Fail("unexpected argument '" + name + "'");
    if (bound[found - parameters.begin()]) evaluator.Fail("argument '" + name + "' is given twice");
    bound[found - parameters.begin()] = value;
  }
  return bound;
}

std::optional<Value> FindMethod(const Value& self, const std::string& name) {
  const auto* loop = self.IsObject() ? dynamic_cast<LoopObject*>(self.object().get()) : nullptr;
  const bool known = (self.IsText() && TextMethods().contains(name)) ||
                     (self.IsMapping() &&
                      (name == "items" || name == "keys" || name == "values" || name == "get")) ||
                     (loop != nullptr && (name == "cycle" || name == "changed")) ||
                     IsOtherMethod(self, name);
  if (!known) return std::nullopt;
  return Value(ObjectPtr(std::make_shared<MethodObject>(self, name)));
}

Value CallMethod(Evaluator& evaluator, const Value& self, const std::string& name,
                 const Arguments& arguments) {
  if (IsOtherMethod(self, name) || name == "changed") {
    evaluator.Fail(std::string("the method '") + name + "' of a " + self.type_name() +
                   " is not supported");
  }
  if (self.IsText()) {
    evaluator.ChargeBytes(self.text().bytes.size());
    return TextMethods().find(name)->second(evaluator, self.text(), arguments);
  }
  if (self.IsMapping()) return MappingMethod(evaluator, self.mapping(), name, arguments);
  const auto& loop = dynamic_cast<const LoopObject&>(*self.object());  // Its cycle.
  if (arguments.positional.empty()) evaluator.Fail("no items for cycling given");
  return arguments.positional[static_cast<size_t>(loop.index) % arguments.positional.size()];
}

Value FindFunction(const Evaluator& evaluator, const std::string& name) {
  const bool tells_time = name == "strftime_now" && evaluator.unix_seconds();
  if (name == "range" || name == "namespace" || name == "dict" || name == "raise_exception" ||
      tells_time) {
    return ObjectPtr(std::make_shared<FunctionObject>(name));
  }
  return Undefined{"'" + name + "' is undefined"};
}

Value CallFunction(Evaluator& evaluator, const std::string& name, const Arguments& arguments) {
  if (name == "range") return Range(evaluator, arguments);
  if (name == "strftime_now") return FormatNow(evaluator, arguments);
  if (name == "raise_exception") {
    const Bound bound = arguments.Bind(evaluator, {"message"});
    evaluator.Fail("the template refuses the messages: " +
                   ToText(evaluator, Required(evaluator, bound[0])).bytes);
  }
  if (!arguments.positional.empty()) evaluator.Fail(name + " takes only named arguments here");
  if (name == "namespace") {
    const auto space = evaluator.MakeNamespace();
    for (const auto& [key, value] : arguments.keywords) {
      evaluator.Set(space->members, key, value);
    }
    return ObjectPtr(space);
  }
  Mapping mapping;
  for (const auto& [key, value] : arguments.keywords) mapping.Set(Text(key), value);
  return MakeMapping(std::move(mapping));
}

}  // namespace shoal::text::jinja
