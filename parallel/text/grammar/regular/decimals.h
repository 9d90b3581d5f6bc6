#pragma once

// Machines for decimal numbers that lie between bounds or are multiples of a number.
//
// Integers have at most kDigitsMax digits, bounded numbers at most kExactDigitsMax before and after
// the point together: so many are told apart by binary64, hence whoever reads an answer as binary64
// compares as this does. There is no exponent, no leading zero and no -0.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "parallel/text/grammar/regular/machine.h"

namespace shoal::text::grammar {

constexpr uint32_t kDigitsMax = 16;
constexpr uint32_t kExactDigitsMax = 15;
// The largest divisor for `multipleOf`, without the powers of ten in it.
constexpr uint32_t kDivisorMax = 4096;

// A number by its decimal digits, exactly.
struct Decimal {
  bool negative = false;      // False for 0.
  std::string whole = "0";    // "0", or without leading zeros.
  std::string fraction = "";  // Without trailing zeros.

  // The digits of a number in JSON. Result: nothing if it has more than some dozen digits before or
  // after the point.
  static std::optional<Decimal> Parse(std::string_view text);
  bool is_zero() const { return whole == "0" && fraction.empty(); }
};

bool operator<(const Decimal& a, const Decimal& b);

struct DecimalBound {
  Decimal value;
  bool excluded = false;  // The value itself.
};

// divisor * 10^exponent, where 10 does not divide the divisor.
struct DecimalMultiple {
  uint32_t divisor = 1;
  int exponent = 0;

  // `integer`: the smallest multiple of `value` that is an integer. Result: nothing beyond
  // kDivisorMax, or kExactDigitsMax digits after the point. Precondition: `value` is above 0.
  static std::optional<DecimalMultiple> Of(const Decimal& value, bool integer);
  bool Divides(const Decimal& value) const;
};

struct NumberRules {
  bool integer = false;
  std::optional<DecimalBound> min = {};
  std::optional<DecimalBound> max = {};
  std::optional<DecimalMultiple> multiple = {};

  bool none() const { return !min && !max && !multiple; }
  // Whether a number keeps the rules, however many digits it has.
  bool Allow(const Decimal& value) const;
};

// The numbers that keep the rules: those from 0 up, and those below 0, without their sign.
Machine NonNegativeNumbers(const NumberRules& rules, MachineBudget& budget);
Machine NegatedNumbers(const NumberRules& rules, MachineBudget& budget);

}  // namespace shoal::text::grammar
