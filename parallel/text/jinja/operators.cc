// Python's operators, indexing and iteration on values.

#include "parallel/text/jinja/operators.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "parallel/text/jinja/objects.h"

namespace shoal::text::jinja {
namespace {

[[noreturn]] void FailTypes(const Evaluator& evaluator, const std::string& op, const Value& left,
                            const Value& right) {
  for (const Value* value : {&left, &right}) {
    if (value->IsUndefined()) evaluator.Fail(value->undefined());
  }
  if (op == "+" && left.IsText()) {
    evaluator.Fail(std::string("can only concatenate str (not \"") + right.type_name() +
                   "\") to str");
  }
  evaluator.Fail("unsupported operand type(s) for " + op + ": '" + left.type_name() + "' and '" +
                 right.type_name() + "'");
}

int64_t FloorDivide(int64_t a, int64_t b) {
  const int64_t quotient = a / b;
  return quotient * b != a && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Value IntegerPower(const Evaluator& evaluator, int64_t base, int64_t exponent) {
  if (exponent < 0) return std::pow(static_cast<double>(base), static_cast<double>(exponent));
  if (base == 0 || base == 1) return exponent == 0 ? int64_t{1} : base;
  if (base == -1) return exponent % 2 == 0 ? int64_t{1} : int64_t{-1};
  int64_t result = 1;
  for (; exponent > 0; --exponent) {  // At most 63 rounds: the base is 2 or more.
    if (__builtin_mul_overflow(result, base, &result)) evaluator.Fail("integer overflow");
  }
  return result;
}

Value OnIntegers(const Evaluator& evaluator, const std::string& op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (op == "**") {
    return IntegerPower(evaluator, a, b);
  } else if (b == 0) {
    evaluator.Fail("division by zero");
  } else if (op == "/") {
    return static_cast<double>(a) / static_cast<double>(b);
  } else if (b == -1) {  // The smallest integer has no positive counterpart.
    overflow = op == "//" && __builtin_sub_overflow(int64_t{0}, a, &result);
  } else {
    result = FloorDivide(a, b);
    if (op == "%") result = a - result * b;
  }
  if (overflow) evaluator.Fail("integer overflow");
  return result;
}

Value OnFloats(const Evaluator& evaluator, const std::string& op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") return std::pow(a, b);
  if (b == 0) evaluator.Fail("float division by zero");
  if (op == "/") return a / b;
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
  if (op == "%") return remainder;
  return std::floor((a - remainder) / b + 0.5);  // Exact but for the division's rounding.
}

Value Repeat(Evaluator& evaluator, const Value& value, int64_t count) {
  const auto times = static_cast<size_t>(std::max<int64_t>(count, 0));
  if (value.IsText()) {
    Text text;
    for (size_t i = 0; i < times && !value.text().bytes.empty(); ++i) {
      evaluator.ChargeBytes(value.text().bytes.size());
      text.Append(value.text());
    }
    return text;
  }
  std::vector<Value> items;
  const auto& once = value.sequence().items;
  for (size_t i = 0; i < times && !once.empty(); ++i) {
    evaluator.Charge(once.size());
    items.insert(items.end(), once.begin(), once.end());
  }
  return MakeSequence(std::move(items), value.sequence().kind);
}

bool IsRepeatable(const Value& value) {
  return value.IsText() || (value.IsSequence() && !value.sequence().lazy());
}

// Python's clamping of slice bounds.
int64_t SliceBound(const Evaluator& evaluator, const Value& part, int64_t otherwise, int64_t size,
                   int64_t low, int64_t high) {
  if (part.IsUndefined() || part.IsNone()) return otherwise;
  if (!part.IsInteger()) evaluator.Fail("slice indices must be integers or None");
  int64_t index = part.integer();
  if (index < 0) index = index < -size ? -1 : index + size;
  return std::clamp(index, low, high);
}

Value LoopAttribute(const LoopObject& loop, const std::string& name) {
  const auto& items = loop.items.sequence().items;
  const auto count = static_cast<int64_t>(items.size());
  if (name == "index") return loop.index + 1;
  if (name == "index0") return loop.index;
  if (name == "revindex") return count - loop.index;
  if (name == "revindex0") return count - loop.index - 1;
  if (name == "length") return count;
  if (name == "first") return loop.index == 0;
  if (name == "last") return loop.index + 1 == count;
  if (name == "depth") return loop.nesting + 1;
  if (name == "depth0") return loop.nesting;
  if (name == "previtem" && loop.index > 0) return items[loop.index - 1];
  if (name == "nextitem" && loop.index + 1 < count) return items[loop.index + 1];
  return Undefined{name == "previtem"   ? "there is no previous item"
                   : name == "nextitem" ? "there is no next item"
                                        : "'loop' has no attribute '" + name + "'"};
}

Value NoAttribute(const Value& self, const std::string& name) {
  return Undefined{std::string("'") + self.type_name() + " object' has no attribute '" + name +
                   "'"};
}

// Hashes the key, however long it is.
const Value* FindItem(Evaluator& evaluator, const Mapping& mapping, const Text& key) {
  evaluator.ChargeBytes(key.bytes.size());
  return mapping.Find(key.bytes);
}

}  // namespace

Value Arithmetic(Evaluator& evaluator, const std::string& op, const Value& left,
                 const Value& right) {
  if (op == "~" || (op == "+" && left.IsText() && right.IsText())) {
    Text text = ToText(evaluator, left);
    text.Append(ToText(evaluator, right));
    evaluator.ChargeBytes(text.bytes.size());
    return text;
  }
  if (left.IsInteger() && right.IsInteger()) {
    return OnIntegers(evaluator, op, left.integer(), right.integer());
  }
  if (left.IsNumber() && right.IsNumber()) {
    return OnFloats(evaluator, op, left.number(), right.number());
  }
  if (op == "%" && left.IsText()) return FormatText(evaluator, left.text(), right);
  if (op == "*" && IsRepeatable(left) && right.IsInteger()) {
    return Repeat(evaluator, left, right.integer());
  }
  if (op == "*" && left.IsInteger() && IsRepeatable(right)) {
    return Repeat(evaluator, right, left.integer());
  }
  if (op == "+" && left.IsSequence() && right.IsSequence() && !left.sequence().lazy() &&
      left.sequence().kind == right.sequence().kind) {
    std::vector<Value> items = left.sequence().items;
    const auto& more = right.sequence().items;
    evaluator.Charge(items.size() + more.size());
    items.insert(items.end(), more.begin(), more.end());
    return MakeSequence(std::move(items), left.sequence().kind);
  }
  FailTypes(evaluator, op, left, right);
}

// Charged item by item: values may share their parts, and then be far larger than they cost to
// make.
bool Equal(Evaluator& evaluator, const Value& left, const Value& right) {
  evaluator.Charge(1);
  if (left.IsUndefined() || right.IsUndefined()) return left.IsUndefined() && right.IsUndefined();
  if (left.IsNone() || right.IsNone()) return left.IsNone() && right.IsNone();
  if (left.IsInteger() && right.IsInteger()) return left.integer() == right.integer();
  if (left.IsNumber() && right.IsNumber()) return left.number() == right.number();
  if (left.IsText() && right.IsText()) {
    const std::string& bytes = left.text().bytes;
    if (bytes.size() != right.text().bytes.size()) return false;
    evaluator.ChargeBytes(bytes.size());
    return bytes == right.text().bytes;
  }
  const auto equal = [&](const Value& a, const Value& b) { return Equal(evaluator, a, b); };
  if (left.IsSequence() && right.IsSequence()) {
    const Sequence& a = left.sequence();
    const Sequence& b = right.sequence();
    if (a.lazy() || b.lazy()) return &a == &b;
    return a.kind == b.kind &&
           std::equal(a.items.begin(), a.items.end(), b.items.begin(), b.items.end(), equal);
  }
  if (left.IsMapping() && right.IsMapping()) {
    const Mapping& a = left.mapping();
    const Mapping& b = right.mapping();
    if (a.items.size() != b.items.size()) return false;
    return std::all_of(a.items.begin(), a.items.end(), [&](const auto& item) {
      const Value* other = FindItem(evaluator, b, item.first);
      return other != nullptr && equal(item.second, *other);
    });
  }
  return left.IsObject() && right.IsObject() && left.object() == right.object();
}

int Compare(Evaluator& evaluator, const Value& left, const Value& right) {
  if (left.IsInteger() && right.IsInteger()) {
    return left.integer() < right.integer() ? -1 : left.integer() > right.integer();
  }
  if (left.IsNumber() && right.IsNumber()) {
    return left.number() < right.number() ? -1 : left.number() > right.number();
  }
  // UTF-8 sorts as its code points do.
  if (left.IsText() && right.IsText()) {
    evaluator.ChargeBytes(std::min(left.text().bytes.size(), right.text().bytes.size()));
    return left.text().bytes.compare(right.text().bytes);
  }
  if (left.IsSequence() && right.IsSequence() && !left.sequence().lazy() &&
      left.sequence().kind == right.sequence().kind) {
    const auto& a = left.sequence().items;
    const auto& b = right.sequence().items;
    for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
      if (!Equal(evaluator, a[i], b[i])) return Compare(evaluator, a[i], b[i]);
    }
    return a.size() < b.size() ? -1 : a.size() > b.size();
  }
  FailTypes(evaluator, "comparison", left, right);
}

bool Contains(Evaluator& evaluator, const Value& container, const Value& item) {
  if (container.IsText()) {
    if (!item.IsText()) {
      evaluator.Fail(std::string("'in <string>' requires string as left operand, not ") +
                     item.type_name());
    }
    evaluator.ChargeBytes(container.text().bytes.size());
    return container.text().bytes.find(item.text().bytes) != std::string::npos;
  }
  if (container.IsMapping()) {
    return item.IsText() && FindItem(evaluator, container.mapping(), item.text()) != nullptr;
  }
  const std::vector<Value> items = Items(evaluator, container);
  return std::any_of(items.begin(), items.end(),
                     [&](const Value& each) { return Equal(evaluator, each, item); });
}

Value GetAttribute(Evaluator& evaluator, const Value& self, const std::string& name) {
  if (self.IsUndefined()) evaluator.Fail(self.undefined());
  if (name.starts_with('_')) evaluator.Fail("access to attribute '" + name + "' is unsafe");
  if (const auto method = FindMethod(self, name)) return *method;
  if (self.IsMapping()) {
    const Value* item = self.mapping().Find(name);
    return item != nullptr ? *item : NoAttribute(self, name);
  }
  if (self.IsObject()) {
    const Object* object = self.object().get();
    if (const auto* loop = dynamic_cast<const LoopObject*>(object))
      return LoopAttribute(*loop, name);
    if (const auto* space = dynamic_cast<const Namespace*>(object)) {
      const Value* member = evaluator.Find(space->members, name);
      return member != nullptr ? *member : NoAttribute(self, name);
    }
    evaluator.Fail(std::string("attributes of a ") + self.type_name() + " are not supported");
  }
  return NoAttribute(self, name);
}

Value GetItem(Evaluator& evaluator, const Value& self, const Value& key) {
  if (self.IsUndefined()) evaluator.Fail(self.undefined());
  if (key.IsText()) {
    const Value* item =
        self.IsMapping() ? FindItem(evaluator, self.mapping(), key.text()) : nullptr;
    return item != nullptr ? *item : GetAttribute(evaluator, self, key.text().bytes);
  }
  if (key.IsInteger() && (self.IsText() || (self.IsSequence() && !self.sequence().lazy()))) {
    std::vector<size_t> offsets;
    if (self.IsText()) {
      evaluator.ChargeBytes(self.text().bytes.size());
      offsets = CharacterOffsets(self.text().bytes);
    }
    const auto size =
        static_cast<int64_t>(self.IsText() ? offsets.size() - 1 : self.sequence().items.size());
    const int64_t index = key.integer() < 0 ? key.integer() + size : key.integer();
    if (index >= 0 && index < size) {
      if (self.IsText()) return self.text().Slice(offsets[index], offsets[index + 1]);
      return self.sequence().items[index];
    }
  }
  return Undefined{std::string(self.type_name()) + " object has no element " +
                   (key.IsInteger() ? std::to_string(key.integer()) : key.type_name())};
}

Value GetSlice(Evaluator& evaluator, const Value& self, const Value& start, const Value& stop,
               const Value& step) {
  if (self.IsUndefined()) evaluator.Fail(self.undefined());
  if (!IsRepeatable(self)) {
    evaluator.Fail(std::string("'") + self.type_name() + "' object cannot be sliced");
  }
  int64_t stride = 1;
  if (!step.IsUndefined() && !step.IsNone()) {
    if (!step.IsInteger() || step.integer() == 0)
      evaluator.Fail("slice step must be an integer but 0");
    stride = step.integer();
  }
  std::vector<size_t> offsets;
  if (self.IsText()) offsets = CharacterOffsets(self.text().bytes);
  const auto size =
      static_cast<int64_t>(self.IsText() ? offsets.size() - 1 : self.sequence().items.size());
  evaluator.Charge(static_cast<size_t>(size) / 8 + 1);
  const int64_t low = stride > 0 ? 0 : -1;
  const int64_t high = stride > 0 ? size : size - 1;
  int64_t at = SliceBound(evaluator, start, stride > 0 ? 0 : size - 1, size, low, high);
  const int64_t end = SliceBound(evaluator, stop, stride > 0 ? size : -1, size, low, high);
  // A stride past the end is as good as one to the end, and cannot overflow.
  stride = std::clamp(stride, -size - 1, size + 1);
  Text text;
  std::vector<Value> items;
  for (; stride > 0 ? at < end : at > end; at += stride) {
    if (self.IsText()) {
      text.Append(self.text().Slice(offsets[at], offsets[at + 1]));
    } else {
      items.push_back(self.sequence().items[at]);
    }
  }
  if (self.IsText()) return text;
  return MakeSequence(std::move(items), self.sequence().kind);
}

std::vector<Value> Items(Evaluator& evaluator, const Value& value) {
  std::vector<Value> items;
  if (value.IsSequence()) {
    const Sequence& sequence = value.sequence();
    if (!sequence.consumed) items = sequence.items;
    sequence.consumed = sequence.kind == Sequence::Kind::kGenerator;
  } else if (value.IsMapping()) {
    for (const auto& [key, item] : value.mapping().items) items.emplace_back(key);
  } else if (value.IsText()) {
    const std::vector<size_t> offsets = CharacterOffsets(value.text().bytes);
    evaluator.Charge(offsets.size());
    for (size_t i = 0; i + 1 < offsets.size(); ++i) {
      items.emplace_back(value.text().Slice(offsets[i], offsets[i + 1]));
    }
  } else if (!value.IsUndefined()) {
    evaluator.Fail(std::string("'") + value.type_name() + "' object is not iterable");
  }
  evaluator.Charge(items.size());
  return items;
}

}  // namespace shoal::text::jinja
