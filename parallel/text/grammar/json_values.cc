#include "parallel/text/grammar/json_values.h"

#include <algorithm>

#include "parallel/text/utf8.h"

namespace shoal::text::grammar {
namespace {

enum Piece : size_t {
  kSpace,
  kCharacter,
  kFreeString,
  kFraction,
  kExponent,
  kNumber,
  kNotAscii,
  kAnyName,
};

std::u32string CodePoints(std::string_view text) {
  std::u32string result;
  while (!text.empty()) {
    const Utf8Step step = DecodeUtf8(text);
    result += step.code_point;
    text.remove_prefix(step.length);
  }
  return result;
}

}  // namespace

NodeId JsonValues::Piece(size_t which, NodeId (JsonValues::*make)()) {
  if (!pieces_[which]) pieces_[which] = (this->*make)();
  return *pieces_[which];
}

NodeId JsonValues::Space() { return Piece(kSpace, &JsonValues::MakeSpace); }

NodeId JsonValues::MakeSpace() {
  Expression& e = expression_;
  const NodeId line = e.Sequence({e.Literal("\n"), e.Repeat(e.Literal(" "), 0, kIndentMax)});
  return e.Optional(e.Choice({e.Literal(" "), line}));
}

NodeId JsonValues::Any() {
  if (any_) return *any_;
  const NodeId rule = expression_.Rule();
  any_ = rule;
  const NodeId array = Array({}, rule, 0, kUnlimited);
  expression_.Define(rule, expression_.Choice({String(0, kUnlimited), Number(), AnyObject(), array,
                                               Boolean(), Null()}));
  return rule;
}

NodeId JsonValues::AnyObject() { return Object({}, OtherMember({}, Any())); }

NodeId JsonValues::Boolean() {
  return expression_.Choice({expression_.Literal("true"), expression_.Literal("false")});
}

// \u escapes of surrogates come in pairs only, which are one character.
NodeId JsonValues::MakeCharacter() {
  Expression& e = expression_;
  const auto set = [&](std::string_view characters) {
    ByteSet bytes;
    for (const char c : characters) bytes.Add(static_cast<uint8_t>(c));
    return e.Bytes(bytes);
  };
  const NodeId hex = set("0123456789abcdefABCDEF");
  const NodeId d = set("dD");
  const NodeId single =
      e.Choice({e.Sequence({set("0123456789abcefABCEF"), hex}), e.Sequence({d, set("01234567")})});
  const NodeId high = e.Sequence({d, set("89abAB"), hex, hex});
  const NodeId low = e.Sequence({d, set("cdefCDEF"), hex, hex});
  const NodeId unicode =
      e.Choice({e.Sequence({single, hex, hex}), e.Sequence({high, e.Literal("\\u"), low})});
  const NodeId escape = e.Sequence(
      {e.Literal("\\"), e.Choice({set("\"\\/bfnrt"), e.Sequence({e.Literal("u"), unicode})})});
  CharacterSet plain;
  plain.Add(0x20, '"' - 1);
  plain.Add('"' + 1, '\\' - 1);
  plain.Add('\\' + 1, 0x10FFFF);
  return e.Choice({OneOf(e, plain, Spelling::kUtf8), escape});
}

NodeId JsonValues::MakeFreeString() {
  return Quoted(expression_.Repeat(Piece(kCharacter, &JsonValues::MakeCharacter), 0, kUnlimited));
}

NodeId JsonValues::String(uint32_t length_min, uint32_t length_max) {
  if (length_min == 0 && length_max == kUnlimited) {
    return Piece(kFreeString, &JsonValues::MakeFreeString);
  }
  return Quoted(
      expression_.Repeat(Piece(kCharacter, &JsonValues::MakeCharacter), length_min, length_max));
}

NodeId JsonValues::Quoted(NodeId content) {
  const NodeId quote = expression_.Literal("\"");
  return expression_.Sequence({quote, content, quote});
}

NodeId JsonValues::Digit() { return expression_.Bytes(ByteSet::Range('0', '9')); }

NodeId JsonValues::MakeFraction() {
  return expression_.Sequence(
      {expression_.Literal("."), expression_.Repeat(Digit(), 1, kDigitsMax)});
}

NodeId JsonValues::MakeExponent() {
  Expression& e = expression_;
  ByteSet letters;
  letters.Add('e');
  letters.Add('E');
  ByteSet signs;
  signs.Add('+');
  signs.Add('-');
  return e.Sequence({e.Bytes(letters), e.Optional(e.Bytes(signs)), e.Repeat(Digit(), 1, 2)});
}

NodeId JsonValues::Integer() { return SignedNumber({}, false); }

NodeId JsonValues::Number() { return Piece(kNumber, &JsonValues::MakeNumber); }

NodeId JsonValues::MakeNumber() {
  return expression_.Sequence({expression_.Optional(expression_.Literal("-")),
                               IntegersBetween(expression_, 0, kIntegerMax),
                               expression_.Optional(Piece(kFraction, &JsonValues::MakeFraction)),
                               expression_.Optional(Piece(kExponent, &JsonValues::MakeExponent))});
}

NodeId JsonValues::BoundedInteger(const NumberBounds& bounds) {
  NumberBounds closed = bounds;
  if (bounds.min && bounds.above_min) ++*closed.min;
  if (bounds.max && bounds.below_max) --*closed.max;
  closed.above_min = closed.below_max = false;
  return SignedNumber(closed, false);
}

NodeId JsonValues::BoundedNumber(const NumberBounds& bounds) { return SignedNumber(bounds, true); }

NodeId JsonValues::SignedNumber(const NumberBounds& bounds, bool fractions) {
  Expression& e = expression_;
  const int64_t min = bounds.min.value_or(-kIntegerMax);
  const int64_t max = bounds.max.value_or(kIntegerMax);
  std::vector<NodeId> options;
  if (max >= 0) {
    NumberBounds positive;
    positive.min = std::max<int64_t>(min, 0);
    positive.max = bounds.max;
    positive.above_min = bounds.above_min && min >= 0;
    positive.below_max = bounds.below_max;
    options.push_back(Magnitude(positive, fractions));
  }
  if (min < 0) {
    NumberBounds negative;
    negative.min = std::max<int64_t>(-max, 0);
    if (bounds.min) negative.max = -*bounds.min;
    negative.above_min = max < 0 && bounds.below_max;
    negative.below_max = bounds.above_min;
    if (max >= 0) negative.above_min = true;  // No -0.
    if (!fractions && negative.above_min) ++*negative.min;
    if (!fractions) negative.above_min = false;
    options.push_back(e.Sequence({e.Literal("-"), Magnitude(negative, fractions)}));
  }
  return e.Choice(options);
}

// Fractions stand after the integers inside the bounds. At an excluded minimum one of the digits is
// not 0; at an included maximum there is none.
NodeId JsonValues::Magnitude(const NumberBounds& bounds, bool fractions) {
  Expression& e = expression_;
  const int64_t min = *bounds.min;
  const int64_t max = bounds.max.value_or(kIntegerMax);
  const auto integers = [&](int64_t from, int64_t to) { return IntegersBetween(e, from, to); };
  if (!fractions) return integers(min, max);
  const NodeId fraction = Piece(kFraction, &JsonValues::MakeFraction);
  const NodeId nonzero = e.Sequence(
      {e.Literal("."), e.Repeat(Digit(), 0, kDigitsMax - 1), e.Bytes(ByteSet::Range('1', '9'))});
  // Up to here a fraction may follow.
  const int64_t last = bounds.max ? max - 1 : max;
  std::vector<NodeId> options;
  if (min <= last) {
    options.push_back(
        e.Sequence({integers(min, min), bounds.above_min ? nonzero : e.Optional(fraction)}));
    options.push_back(e.Sequence({integers(min + 1, last), e.Optional(fraction)}));
  }
  if (bounds.max && !bounds.below_max && (max > min || !bounds.above_min)) {
    options.push_back(integers(std::max(max, min), max));
  }
  return e.Choice(options);
}

NodeId JsonValues::Member(const std::string& name, NodeId value) {
  std::string spelled = "\"";
  for (const char32_t c : CodePoints(name)) spelled += Spell(c, Spelling::kJsonString);
  return expression_.Sequence({expression_.Literal(spelled + "\":"), Space(), value});
}

NodeId JsonValues::OtherMember(std::span<const std::string> names, NodeId value) {
  NodeId name = String(0, kUnlimited);
  if (!names.empty()) {
    std::vector<std::u32string> sorted;
    for (const std::string& text : names) sorted.push_back(CodePoints(text));
    std::sort(sorted.begin(), sorted.end());
    name = Quoted(NameOtherThan(sorted, 0));
  }
  return expression_.Sequence({name, expression_.Literal(":"), Space(), value});
}

NodeId JsonValues::MakeAnyName() {
  const NodeId character = OneOf(expression_, CharacterSet::All(), Spelling::kJsonString);
  return expression_.Repeat(character, 0, kUnlimited);
}

NodeId JsonValues::MakeNotAscii() {
  CharacterSet ascii;
  ascii.Add(0x20, 0x7F);
  return OneOf(expression_, ascii.Complement(), Spelling::kJsonString);
}

// Names are mostly ASCII; what is not is then the same everywhere, and is made once.
NodeId JsonValues::CharacterOtherThan(const CharacterSet& taken) {
  CharacterSet ascii;
  ascii.Add(0x20, 0x7F);
  if (!taken.And(ascii.Complement()).ranges().empty()) {
    return OneOf(expression_, taken.Complement(), Spelling::kJsonString);
  }
  const NodeId rest = OneOf(expression_, ascii.And(taken.Complement()), Spelling::kJsonString);
  return expression_.Choice({rest, Piece(kNotAscii, &JsonValues::MakeNotAscii)});
}

// What may follow `at` characters that the sorted, distinct names have in common. Each character is
// spelled in one way only, so no name can slip in under another spelling.
NodeId JsonValues::NameOtherThan(std::span<const std::u32string> names, size_t at) {
  Expression& e = expression_;
  std::vector<NodeId> options;
  CharacterSet taken;
  bool ends_here = false;
  for (size_t begin = 0; begin < names.size();) {
    if (names[begin].size() == at) {
      ends_here = true;
      ++begin;
      continue;
    }
    const char32_t next = names[begin][at];
    size_t end = begin;
    while (end < names.size() && names[end][at] == next) ++end;
    taken.Add(next, next);
    options.push_back(e.Sequence({e.Literal(Spell(next, Spelling::kJsonString)),
                                  NameOtherThan(names.subspan(begin, end - begin), at + 1)}));
    begin = end;
  }
  options.push_back(
      e.Sequence({CharacterOtherThan(taken), Piece(kAnyName, &JsonValues::MakeAnyName)}));
  if (!ends_here) options.push_back(Expression::kEmpty);
  return e.Choice(options);
}

NodeId JsonValues::Between(char open, NodeId content, bool may_be_empty, char close) {
  Expression& e = expression_;
  NodeId inside = e.Sequence({Space(), content, Space()});
  if (may_be_empty) inside = e.Optional(inside);
  return e.Sequence({e.Literal(std::string(1, open)), inside, e.Literal(std::string(1, close))});
}

// From the back: what may follow where a member stands before, and the ways to begin where none
// does.
NodeId JsonValues::Object(std::span<const ObjectPart> members, std::optional<NodeId> more) {
  Expression& e = expression_;
  const NodeId comma = Comma();
  NodeId after = Expression::kEmpty;
  std::vector<NodeId> begins;
  if (more) {
    after = e.Repeat(e.Sequence({comma, *more}), 0, kUnlimited);
    begins.push_back(e.Sequence({*more, after}));
  }
  bool may_be_empty = true;
  for (size_t i = members.size(); i-- > 0;) {
    const ObjectPart& member = members[i];
    if (member.required) {
      begins.clear();
      may_be_empty = false;
    }
    begins.push_back(e.Sequence({member.node, after}));
    const NodeId here = e.Sequence({comma, member.node});
    after = e.Sequence({member.required ? here : e.Optional(here), after});
  }
  std::reverse(begins.begin(), begins.end());
  return Between('{', e.Choice(begins), may_be_empty, '}');
}

NodeId JsonValues::Array(std::span<const NodeId> items, std::optional<NodeId> more, uint32_t min,
                         uint32_t max) {
  Expression& e = expression_;
  const auto count = static_cast<uint32_t>(std::min<size_t>(items.size(), max));
  const uint32_t more_min = min > count ? min - count : 0;
  const uint32_t more_max = max == kUnlimited ? kUnlimited : max - count;
  const NodeId comma = Comma();
  // Without `more`, more items than there are cannot be: nothing matches.
  const NodeId none = e.Choice({});
  const NodeId rest = more ? e.Sequence({comma, *more}) : none;
  if (count == 0) {
    if (max == 0) return e.Sequence({e.Literal("["), e.Literal("]")});
    const uint32_t rest_max = more_max == kUnlimited ? kUnlimited : more_max - 1;
    const NodeId content = e.Sequence(
        {more.value_or(none), e.Repeat(rest, more_min > 0 ? more_min - 1 : 0, rest_max)});
    return Between('[', content, min == 0, ']');
  }
  NodeId after = e.Repeat(rest, more_min, more_max);
  for (uint32_t i = count; i-- > 1;) {
    after = e.Sequence({comma, items[i], after});
    if (i >= min) after = e.Optional(after);
  }
  return Between('[', e.Sequence({items[0], after}), min == 0, ']');
}

namespace {

// Numbers of as many digits as both bounds have.
class DigitRange {
 public:
  explicit DigitRange(Expression& expression) : expression_(expression) {}

  NodeId Between(std::string_view low, std::string_view high) {
    if (low.empty()) return Expression::kEmpty;
    const std::string nines(low.size() - 1, '9');
    const std::string zeros(low.size() - 1, '0');
    if (low[0] == high[0]) return With(low[0], low[0], Between(low.substr(1), high.substr(1)));
    const bool whole_low = low.substr(1) == zeros;
    const bool whole_high = high.substr(1) == nines;
    std::vector<NodeId> options;
    if (!whole_low) options.push_back(With(low[0], low[0], Between(low.substr(1), nines)));
    const char from = static_cast<char>(low[0] + (whole_low ? 0 : 1));
    const char to = static_cast<char>(high[0] - (whole_high ? 0 : 1));
    if (from <= to) {
      const auto count = static_cast<uint32_t>(low.size() - 1);
      const NodeId digit = expression_.Bytes(ByteSet::Range('0', '9'));
      options.push_back(With(from, to, expression_.Repeat(digit, count, count)));
    }
    if (!whole_high) options.push_back(With(high[0], high[0], Between(zeros, high.substr(1))));
    return expression_.Choice(options);
  }

 private:
  NodeId With(char from, char to, NodeId rest) {
    const auto range = ByteSet::Range(static_cast<uint8_t>(from), static_cast<uint8_t>(to));
    return expression_.Sequence({expression_.Bytes(range), rest});
  }

  Expression& expression_;
};

}  // namespace

NodeId IntegersBetween(Expression& expression, int64_t min, int64_t max) {
  std::vector<NodeId> options;
  if (min == 0 && max == kIntegerMax) {
    const NodeId digit = expression.Bytes(ByteSet::Range('0', '9'));
    return expression.Choice({expression.Literal("0"),
                              expression.Sequence({expression.Bytes(ByteSet::Range('1', '9')),
                                                   expression.Repeat(digit, 0, kDigitsMax - 1)})});
  }
  // One length after the other.
  for (int64_t first = 0, last = 9; first <= max; first = last + 1, last = last * 10 + 9) {
    const int64_t from = std::max(first, min);
    const int64_t to = std::min(last, max);
    if (from > to) continue;
    options.push_back(DigitRange(expression).Between(std::to_string(from), std::to_string(to)));
  }
  return expression.Choice(options);
}

}  // namespace shoal::text::grammar
