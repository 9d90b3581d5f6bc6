#pragma once

// Builds expressions for the pieces of JSON that schemas describe: strings, numbers, objects,
// arrays.
//
// White space is bounded, so that an answer cannot go on in it: at most one space, or one line
// break and up to kIndentMax spaces, after { [ , : and before } and ]; none elsewhere. Numbers have
// at most kDigitsMax digits before and after the point and two in the exponent: each is a finite
// binary64 (decimals.h says how those with bounds differ). Values of no particular shape nest up to
// kRuleDepthMax deep.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "parallel/text/grammar/regular/characters.h"
#include "parallel/text/grammar/regular/decimals.h"
#include "parallel/text/grammar/regular/expression.h"

namespace shoal::text::grammar {

constexpr uint32_t kIndentMax = 24;
// Bound on the transitions from one value of an array without duplicates to another.
constexpr size_t kDistinctStepsMax = size_t{1} << 15;

// One member of an object.
struct ObjectPart {
  NodeId node = Expression::kEmpty;
  bool required = false;
};

// Makes each piece once. Keeps a reference to the expression.
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
  // Integers, and numbers with bounds or a divisor. Without a match: an empty choice.
  NodeId Number(const NumberRules& rules);

  // "name": value
  NodeId Member(const std::string& name, NodeId value);
  // A member whose name, with its quotes, is `name`.
  NodeId OtherMember(NodeId name, NodeId value);
  // The members in order, those that are not required left out at will, then any number of `more`
  // (nothing: none). At least `min` and at most `max` in all, where those of `more`, which may have
  // the same name, count as one for `min`.
  NodeId Object(std::span<const ObjectPart> members, std::optional<NodeId> more, uint32_t min = 0,
                uint32_t max = kUnlimited);
  // The items in order, at least `min` and at most `max` of them with those of `more` (nothing:
  // none) that follow.
  NodeId Array(std::span<const NodeId> items, std::optional<NodeId> more, uint32_t min,
               uint32_t max);
  // At least `min` and at most `max` of the values, each at most once, in any order. Result:
  // nothing if that takes more than kDistinctStepsMax.
  std::optional<NodeId> DistinctArray(std::span<const NodeId> values, uint32_t min, uint32_t max);

 private:
  NodeId Piece(size_t which, NodeId (JsonValues::*make)());
  NodeId MakeSpace();
  NodeId MakeCharacter();
  NodeId MakeFreeString();
  NodeId MakeFraction();
  NodeId MakeExponent();
  NodeId MakeNumber();
  NodeId Digit();
  NodeId Comma() { return expression_.Sequence({expression_.Literal(","), Space()}); }
  NodeId Between(char open, NodeId content, bool may_be_empty, char close);
  // What may follow `count` members where no declared one is left.
  NodeId MoreMembers(NodeId more, uint32_t count, uint32_t min, uint32_t max);

  Expression& expression_;
  std::array<std::optional<NodeId>, 6> pieces_;
  std::optional<NodeId> any_;
};

}  // namespace shoal::text::grammar
