#include "parallel/text/grammar/json_values.h"

#include <algorithm>
#include <functional>
#include <map>

#include "parallel/text/grammar/string_machines.h"

namespace shoal::text::grammar {
namespace {

enum Piece : size_t {
  kSpace,
  kCharacter,
  kFreeString,
  kFraction,
  kExponent,
  kNumber,
};

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

NodeId JsonValues::AnyObject() { return Object({}, OtherMember(String(0, kUnlimited), Any())); }

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

NodeId JsonValues::Number() { return Piece(kNumber, &JsonValues::MakeNumber); }

NodeId JsonValues::MakeNumber() {
  Expression& e = expression_;
  const NodeId digits =
      e.Sequence({e.Bytes(ByteSet::Range('1', '9')), e.Repeat(Digit(), 0, kDigitsMax - 1)});
  return e.Sequence({e.Optional(e.Literal("-")), e.Choice({e.Literal("0"), digits}),
                     e.Optional(Piece(kFraction, &JsonValues::MakeFraction)),
                     e.Optional(Piece(kExponent, &JsonValues::MakeExponent))});
}

NodeId JsonValues::Number(const NumberRules& rules) {
  Expression& e = expression_;
  const NodeId whole = e.Matching(NonNegativeNumbers(rules, e.machine_budget()));
  const NodeId negated = e.Matching(NegatedNumbers(rules, e.machine_budget()));
  return e.Choice({whole, e.Sequence({e.Literal("-"), negated})});
}

NodeId JsonValues::Member(const std::string& name, NodeId value) {
  const NodeId spelled = expression_.Literal("\"" + SpelledText(name) + "\"");
  return OtherMember(spelled, value);
}

NodeId JsonValues::OtherMember(NodeId name, NodeId value) {
  return expression_.Sequence({name, expression_.Literal(":"), Space(), value});
}

NodeId JsonValues::Between(char open, NodeId content, bool may_be_empty, char close) {
  Expression& e = expression_;
  NodeId inside = e.Sequence({Space(), content, Space()});
  if (may_be_empty) inside = e.Optional(inside);
  return e.Sequence({e.Literal(std::string(1, open)), inside, e.Literal(std::string(1, close))});
}

// The others come last. Two of the same name are one member to a reader of the JSON.
NodeId JsonValues::MoreMembers(NodeId more, uint32_t count, uint32_t min, uint32_t max) {
  Expression& e = expression_;
  if (count >= max) return count >= min ? Expression::kEmpty : e.Choice({});
  if (count + 1 < min) return e.Choice({});
  return e.Repeat(e.Sequence({Comma(), more}), count >= min ? 0 : 1,
                  max == kUnlimited ? kUnlimited : max - count);
}

// Built from the last member to the first: for each count, what may follow after so many members,
// and the ways to begin the object. Counts that no bound tells apart share one entry.
NodeId JsonValues::Object(std::span<const ObjectPart> members, std::optional<NodeId> more,
                          uint32_t min, uint32_t max) {
  Expression& e = expression_;
  const NodeId comma = Comma();
  const auto declared = static_cast<uint32_t>(members.size());
  if (!more && max >= declared) max = kUnlimited;
  const uint32_t count_max = std::min(declared, max == kUnlimited ? std::max(min, 1U) : max);
  std::vector<NodeId> after(count_max + 1, e.Choice({}));
  for (uint32_t count = 1; count <= count_max; ++count) {
    if (more) {
      after[count] = MoreMembers(*more, count, min, max);
    } else if (count >= min) {
      after[count] = Expression::kEmpty;
    }
  }
  std::vector<NodeId> begins;
  if (more && max > 0 && min <= 1) {
    begins.push_back(e.Sequence({*more, MoreMembers(*more, 1, min, max)}));
  }
  bool may_be_empty = min == 0;
  for (size_t i = members.size(); i-- > 0 && count_max > 0;) {
    const ObjectPart& member = members[i];
    if (member.required) {
      begins.clear();
      may_be_empty = false;
    }
    begins.push_back(e.Sequence({member.node, after[1]}));
    const NodeId here = e.Sequence({comma, member.node});
    for (uint32_t count = 1; count <= count_max; ++count) {
      const bool full = count == count_max && max != kUnlimited;
      const uint32_t next = std::min(count + 1, count_max);
      const NodeId with = full ? e.Choice({}) : e.Sequence({here, after[next]});
      after[count] = member.required ? with : e.Choice({with, after[count]});
    }
  }
  std::reverse(begins.begin(), begins.end());
  return Between('{', e.Choice(begins), may_be_empty, '}');
}

std::optional<NodeId> JsonValues::DistinctArray(std::span<const NodeId> values, uint32_t min,
                                                uint32_t max) {
  Expression& e = expression_;
  const size_t count_max = std::min<size_t>(max, values.size());
  double steps = 0;
  double sets = 1;  // The sets of so many values.
  for (size_t count = 0; count < count_max && steps <= kDistinctStepsMax; ++count) {
    steps += sets * static_cast<double>(values.size() - count);
    sets *= static_cast<double>(values.size() - count) / static_cast<double>(count + 1);
  }
  if (steps > kDistinctStepsMax) return std::nullopt;
  const NodeId comma = Comma();
  std::map<std::vector<size_t>, NodeId> known;
  // By the sorted values that are used: what may follow them.
  const std::function<NodeId(const std::vector<size_t>&)> after =
      [&](const std::vector<size_t>& used) {
        if (const auto found = known.find(used); found != known.end()) return found->second;
        std::vector<NodeId> options;
        for (size_t i = 0; i < values.size() && used.size() < count_max; ++i) {
          const auto place = std::lower_bound(used.begin(), used.end(), i);
          if (place != used.end() && *place == i) continue;
          std::vector<size_t> more = used;
          more.insert(more.begin() + (place - used.begin()), i);
          const NodeId rest = after(more);
          options.push_back(used.empty() ? e.Sequence({values[i], rest})
                                         : e.Sequence({comma, values[i], rest}));
        }
        if (!used.empty() && used.size() >= min) options.push_back(Expression::kEmpty);
        return known[used] = e.Choice(options);
      };
  return Between('[', after({}), min == 0, ']');
}

NodeId JsonValues::Array(std::span<const NodeId> items, std::optional<NodeId> more, uint32_t min,
                         uint32_t max) {
  Expression& e = expression_;
  const auto count = static_cast<uint32_t>(std::min<size_t>(items.size(), max));
  const uint32_t more_min = min > count ? min - count : 0;
  const uint32_t more_max = max == kUnlimited ? kUnlimited : max - count;
  const NodeId comma = Comma();
  // Without `more`, an array that needs more items than `items` has matches nothing.
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

}  // namespace shoal::text::grammar
