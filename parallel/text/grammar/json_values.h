#pragma once

// The pieces of JSON that schemas are made of.
//
// White space is bounded, so that an answer cannot go on in it: at most one space, or one line
// break and up to kIndentMax spaces, after { [ , : and before } and ]; none elsewhere. Numbers have
// at most kDigitsMax digits before and after the point and two in the exponent: each is a finite
// binary64. Values of no particular shape nest up to kRuleDepthMax deep.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "parallel/text/grammar/characters.h"
#include "parallel/text/grammar/expression.h"

namespace shoal::text::grammar {

constexpr uint32_t kIndentMax = 24;
constexpr uint32_t kDigitsMax = 16;
constexpr int64_t kIntegerMax = 9'999'999'999'999'999;  // kDigitsMax digits.

// The bounds of a number, each included unless said otherwise; |bound| <= kIntegerMax.
struct NumberBounds {
  std::optional<int64_t> min;
  std::optional<int64_t> max;
  bool above_min = false;  // The minimum itself is excluded.
  bool below_max = false;
};

// One member of an object.
struct ObjectPart {
  NodeId node = Expression::kEmpty;
  bool required = false;
};

// Makes each piece once. Refers to the expression.
class JsonValues {
 public:
  explicit JsonValues(Expression& expression) : expression_(expression) {}

  Expression& expression() { return expression_; }

  NodeId Space();
  NodeId Any();
  NodeId AnyObject();
  NodeId Boolean();
  NodeId Null() { return expression_.Literal("null"); }
  // Characters are code points; any JSON escape is allowed.
  NodeId String(uint32_t length_min, uint32_t length_max);
  // A string whose content, spelled by OneOf or ParseRegex, is `content`.
  NodeId Quoted(NodeId content);
  NodeId Number();
  NodeId Integer();
  NodeId BoundedInteger(const NumberBounds& bounds);
  NodeId BoundedNumber(const NumberBounds& bounds);

  // "name": value
  NodeId Member(const std::string& name, NodeId value);
  // A member of any name but those.
  NodeId OtherMember(std::span<const std::string> names, NodeId value);
  // The members in order, those that are not required left out at will, then any number of `more`
  // (nothing: none).
  NodeId Object(std::span<const ObjectPart> members, std::optional<NodeId> more);
  // The items in order, at least `min` and at most `max` of them with those of `more` (nothing:
  // none) that follow.
  NodeId Array(std::span<const NodeId> items, std::optional<NodeId> more, uint32_t min,
               uint32_t max);

 private:
  NodeId Piece(size_t which, NodeId (JsonValues::*make)());
  NodeId MakeSpace();
  NodeId MakeCharacter();
  NodeId MakeFreeString();
  NodeId MakeFraction();
  NodeId MakeExponent();
  NodeId MakeNumber();
  NodeId MakeNotAscii();
  NodeId MakeAnyName();
  NodeId Digit();
  NodeId Comma() { return expression_.Sequence({expression_.Literal(","), Space()}); }
  NodeId Between(char open, NodeId content, bool may_be_empty, char close);
  NodeId CharacterOtherThan(const CharacterSet& taken);
  NodeId NameOtherThan(std::span<const std::u32string> names, size_t at);
  NodeId Magnitude(const NumberBounds& bounds, bool fractions);
  NodeId SignedNumber(const NumberBounds& bounds, bool fractions);

  Expression& expression_;
  std::array<std::optional<NodeId>, 8> pieces_;
  std::optional<NodeId> any_;
};

// Non-negative integers from `min` to `max` in decimal, without leading zeros.
NodeId IntegersBetween(Expression& expression, int64_t min, int64_t max);

}  // namespace shoal::text::grammar
