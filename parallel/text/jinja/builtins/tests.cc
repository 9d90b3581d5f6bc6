// The tests of `x is test`.

#include <functional>
#include <map>

#include "parallel/text/jinja/builtins/builtins.h"
#include "parallel/text/jinja/builtins/characters.h"
#include "parallel/text/jinja/operators.h"

namespace shoal::text::jinja {
namespace {

// A test of two values takes its second from the arguments; the others take none.
struct Test {
  bool binary;
  std::function<bool(Evaluator&, const Value&, const Value&)> holds;
};

int64_t Integer(Evaluator& evaluator, const Value& value) {
  if (!value.IsInteger()) {
    evaluator.Fail(std::string("expected an int to test, found ") + value.type_name());
  }
  return value.integer();
}

Test Unary(bool (*holds)(const Value&)) {
  return {false, [holds](Evaluator&, const Value& value, const Value&) { return holds(value); }};
}

Test Ordered(bool (*holds)(int)) {
  return {true, [holds](Evaluator& evaluator, const Value& left, const Value& right) {
            return holds(Compare(evaluator, left, right));
          }};
}

// Identity, of the values that have only one of theirs.
bool Same(Evaluator& evaluator, const Value& left, const Value& right) {
  const auto single = [](const Value& value) { return value.IsNone() || value.IsBool(); };
  if (!single(left) && !single(right)) {
    evaluator.Fail("sameas of others than none, true and false is not supported");
  }
  if (left.IsNone() || right.IsNone()) return left.IsNone() && right.IsNone();
  return left.IsBool() && right.IsBool() && Truth(left) == Truth(right);
}

const std::map<std::string, Test, std::less<>>& Tests() {
  using V = const Value&;
  const Test equal{true, [](Evaluator& e, V left, V right) { return Equal(e, left, right); }};
  const Test unequal{true, [](Evaluator& e, V left, V right) { return !Equal(e, left, right); }};
  const Test less = Ordered([](int order) { return order < 0; });
  const Test less_equal = Ordered([](int order) { return order <= 0; });
  const Test greater = Ordered([](int order) { return order > 0; });
  const Test greater_equal = Ordered([](int order) { return order >= 0; });
  static const std::map<std::string, Test, std::less<>> tests = {
      {"defined", Unary([](V v) { return !v.IsUndefined(); })},
      {"undefined", Unary([](V v) { return v.IsUndefined(); })},
      {"none", Unary([](V v) { return v.IsNone(); })},
      {"true", Unary([](V v) { return v.IsBool() && Truth(v); })},
      {"false", Unary([](V v) { return v.IsBool() && !Truth(v); })},
      {"boolean", Unary([](V v) { return v.IsBool(); })},
      {"string", Unary([](V v) { return v.IsText(); })},
      {"number", Unary([](V v) { return v.IsNumber(); })},
      {"integer", Unary([](V v) { return v.IsInteger() && !v.IsBool(); })},
      {"float", Unary([](V v) { return v.IsFloat(); })},
      {"mapping", Unary([](V v) { return v.IsMapping(); })},
      {"iterable",
       Unary([](V v) { return v.IsText() || v.IsSequence() || v.IsMapping() || v.IsUndefined(); })},
      {"sequence", Unary([](V v) {
         return v.IsText() || v.IsMapping() || v.IsUndefined() ||
                (v.IsSequence() && !v.sequence().lazy());
       })},
      {"odd", {false, [](Evaluator& e, V v, V) { return Integer(e, v) % 2 != 0; }}},
      {"even", {false, [](Evaluator& e, V v, V) { return Integer(e, v) % 2 == 0; }}},
      {"divisibleby",
       {true,
        [](Evaluator& e, V v, V by) {
          return Integer(e, Arithmetic(e, "%", Value(Integer(e, v)), Value(Integer(e, by)))) == 0;
        }}},
      {"sameas", {true, Same}},
      {"callable", Unary([](V v) { return v.IsObject() && v.object()->callable(); })},
      {"in", {true, [](Evaluator& e, V v, V in) { return Contains(e, in, v); }}},
      {"eq", equal},
      {"equalto", equal},
      {"ne", unequal},
      {"lt", less},
      {"lessthan", less},
      {"le", less_equal},
      {"gt", greater},
      {"greaterthan", greater},
      {"ge", greater_equal},
  };
  return tests;
}

}  // namespace

bool IsTest(const std::string& name) { return Tests().contains(name); }

bool ApplyTest(Evaluator& evaluator, const std::string& name, const Value& input,
               const Arguments& arguments) {
  const auto found = Tests().find(name);
  if (found == Tests().end()) evaluator.Fail("the test '" + name + "' is not supported");
  const Test& test = found->second;
  evaluator.Charge(1);
  if (!test.binary) {
    arguments.Bind(evaluator, {});
    return test.holds(evaluator, input, Value());
  }
  const auto bound = arguments.Bind(evaluator, {"other"});
  if (!bound[0]) evaluator.Fail("the test '" + name + "' needs an argument");
  return test.holds(evaluator, input, *bound[0]);
}

}  // namespace shoal::text::jinja
