#include "parallel/text/grammar/regular/decimals.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <unordered_map>
#include <vector>

namespace shoal::text::grammar {
namespace {

constexpr size_t kBoundDigitsMax = 40;

uint64_t PowerOfTen(uint32_t exponent) {
  uint64_t power = 1;
  for (; exponent > 0; --exponent) power *= 10;
  return power;
}

bool MagnitudeLess(const Decimal& a, const Decimal& b) {
  if (a.whole.size() != b.whole.size()) return a.whole.size() < b.whole.size();
  return a.whole != b.whole ? a.whole < b.whole : a.fraction < b.fraction;
}

struct MagnitudeBounds {
  std::optional<DecimalBound> low = {};
  std::optional<DecimalBound> high = {};
};

// Walks numbers from their first digit on.
class DigitWalk {
 public:
  DigitWalk(const NumberRules& rules, MagnitudeBounds bounds, MachineBudget& budget)
      : bounds_(std::move(bounds)),
        budget_(budget),
        digits_max_(rules.integer ? kDigitsMax : kExactDigitsMax) {
    const int exponent = rules.multiple ? rules.multiple->exponent : 0;
    if (rules.multiple) divisor_ = rules.multiple->divisor;
    if (exponent > 0) zeros_ = std::min(static_cast<uint32_t>(exponent), digits_max_);
    fraction_max_ = static_cast<uint32_t>(exponent < 0 ? -exponent : 0);
    if (!rules.multiple && !rules.integer) fraction_max_ = digits_max_;
    if (bounds_.high && bounds_.high->value.whole.size() > digits_max_) bounds_.high.reset();
    if (rules.multiple) fraction_told_apart_ = fraction_max_;
    for (const auto& bound : {bounds_.low, bounds_.high}) {
      if (!bound) continue;
      whole_told_apart_ = std::max(whole_told_apart_, bound->value.whole.size());
      fraction_told_apart_ = std::max(fraction_told_apart_, bound->value.fraction.size());
    }
  }

  Machine Run() {
    std::vector<Machine::State> states;
    StateOf({});
    for (size_t i = 0; i < places_.size(); ++i) {
      const Place place = places_[i];
      // Lengths count the point and the digit after it as one character.
      Machine::State state{.accepts = Accepts(place), .inside = place.part == Part::kPoint};
      if (MayBeginFraction(place)) {
        Place point = place;
        point.part = Part::kPoint;
        point.low = AfterWhole(bounds_.low, place.low, place.whole);
        point.high = AfterWhole(bounds_.high, place.high, place.whole);
        state.Append('.', '.', StateOf(point));
      }
      for (uint32_t digit = 0; digit < 10 && MayTakeDigit(place); ++digit) {
        const auto byte = static_cast<uint8_t>('0' + digit);
        state.Append(byte, byte, StateOf(After(place, digit)));
      }
      budget_.Take((1 + state.edges.size()) * MachineBudget::kEdgeWork);
      states.push_back(std::move(state));
    }
    return Machine(states, budget_).WithLengths(1, digits_max_, budget_);
  }

 private:
  enum class Part : uint8_t { kStart, kZero, kWhole, kPoint, kFraction };

  // How the digits so far compare with as many of a bound.
  enum class Order : uint8_t { kEqual, kLess, kGreater };

  struct Place {
    Part part = Part::kStart;
    // Digits before and after the point, as far as they have to be told apart.
    uint32_t whole = 0;
    uint32_t fraction = 0;
    Order low = Order::kEqual;
    Order high = Order::kEqual;
    // The digits but for `zeros` last ones, modulo the divisor. Zeros are counted up to zeros_.
    uint32_t rest = 0;
    uint32_t zeros = 0;

    uint64_t Key() const {
      uint64_t key = rest;
      for (const uint32_t field : {zeros, whole, fraction, static_cast<uint32_t>(part),
                                   static_cast<uint32_t>(low), static_cast<uint32_t>(high)}) {
        key = key * 64 + field;
      }
      return key;
    }
  };

  uint32_t StateOf(const Place& place) {
    const auto [entry, is_new] =
        known_.try_emplace(place.Key(), static_cast<uint32_t>(places_.size()));
    if (is_new) places_.push_back(place);
    return entry->second;
  }

  bool MayBeginFraction(const Place& place) const {
    return (place.part == Part::kZero || place.part == Part::kWhole) && fraction_max_ > 0;
  }

  bool MayTakeDigit(const Place& place) const {
    switch (place.part) {
      case Part::kStart:
      case Part::kWhole:
        return true;
      case Part::kZero:
        return false;
      case Part::kPoint:
      case Part::kFraction:
        break;
    }
    return place.fraction < fraction_max_;
  }

  // A whole part with more digits than the bound's is greater.
  static Order CompareWhole(const std::optional<DecimalBound>& bound, Order order, uint32_t at,
                            char digit) {
    if (!bound) return Order::kEqual;
    if (at >= bound->value.whole.size()) return Order::kGreater;
    return Compare(order, digit, bound->value.whole[at]);
  }

  static Order AfterWhole(const std::optional<DecimalBound>& bound, Order order, uint32_t digits) {
    return bound && digits < bound->value.whole.size() ? Order::kLess : order;
  }

  static Order CompareFraction(const std::optional<DecimalBound>& bound, Order order, uint32_t at,
                               char digit) {
    if (!bound) return Order::kEqual;
    const std::string& fraction = bound->value.fraction;
    return Compare(order, digit, at < fraction.size() ? fraction[at] : '0');
  }

  static Order Compare(Order order, char digit, char other) {
    if (order != Order::kEqual || digit == other) return order;
    return digit < other ? Order::kLess : Order::kGreater;
  }

  Place After(Place place, uint32_t digit) const {
    const char text = static_cast<char>('0' + digit);
    if (place.part == Part::kStart || place.part == Part::kWhole) {
      place.part = place.part == Part::kStart && digit == 0 ? Part::kZero : Part::kWhole;
      place.low = CompareWhole(bounds_.low, place.low, place.whole, text);
      place.high = CompareWhole(bounds_.high, place.high, place.whole, text);
      place.whole = std::min<uint32_t>(place.whole + 1, whole_told_apart_ + 1);
    } else {
      place.part = Part::kFraction;
      place.low = CompareFraction(bounds_.low, place.low, place.fraction, text);
      place.high = CompareFraction(bounds_.high, place.high, place.fraction, text);
      place.fraction = std::min<uint32_t>(place.fraction + 1, fraction_told_apart_ + 1);
    }
    if (digit == 0 && place.zeros < zeros_) {
      ++place.zeros;
      return place;
    }
    const uint64_t shift = digit == 0 ? 10 : PowerOfTen(place.zeros + 1);
    place.rest = static_cast<uint32_t>((place.rest * (shift % divisor_) + digit) % divisor_);
    if (digit != 0) place.zeros = 0;
    return place;
  }

  // Digits that are not there are zeros.
  static Order AtEnd(const std::optional<DecimalBound>& bound, Order order, const Place& place) {
    order = AfterWhole(bound, order, place.whole);
    const bool more = bound && place.fraction < bound->value.fraction.size();
    return order == Order::kEqual && more ? Order::kLess : order;
  }

  bool Accepts(const Place& place) const {
    if (place.part == Part::kStart || place.part == Part::kPoint) return false;
    if (bounds_.low) {
      const Order order = AtEnd(bounds_.low, place.low, place);
      if (order == Order::kLess || (order == Order::kEqual && bounds_.low->excluded)) return false;
    }
    if (bounds_.high) {
      const Order order = AtEnd(bounds_.high, place.high, place);
      if (order == Order::kGreater || (order == Order::kEqual && bounds_.high->excluded)) {
        return false;
      }
    }
    if (divisor_ == 1 && zeros_ == 0) return true;
    if (zeros_ > 0) return place.part == Part::kZero || (place.zeros == zeros_ && place.rest == 0);
    const uint64_t scale = PowerOfTen(fraction_max_ - place.fraction) % divisor_;
    return place.rest * scale % divisor_ == 0;
  }

  MagnitudeBounds bounds_;
  MachineBudget& budget_;
  const uint32_t digits_max_;  // Before and after the point together.
  uint32_t fraction_max_ = 0;
  // Beyond so many digits it does not matter how many there are.
  size_t whole_told_apart_ = 0;
  size_t fraction_told_apart_ = 0;
  uint32_t divisor_ = 1;
  uint32_t zeros_ = 0;  // How many zeros a multiple ends in.
  std::vector<Place> places_;
  std::unordered_map<uint64_t, uint32_t> known_;
};

std::optional<DecimalBound> Negated(const std::optional<DecimalBound>& bound) {
  std::optional<DecimalBound> negated = bound;
  if (negated) negated->value.negative = !negated->value.negative;
  return negated;
}

Machine Nothing(MachineBudget& budget) { return {{}, budget}; }

}  // namespace

std::optional<Decimal> Decimal::Parse(std::string_view text) {
  Decimal result;
  result.negative = text.starts_with('-');
  if (result.negative) text.remove_prefix(1);
  const size_t letter = std::min(text.find_first_of("eE"), text.size());
  int exponent = 0;
  if (letter < text.size()) {
    std::string_view digits = text.substr(letter + 1);
    if (digits.starts_with('+')) digits.remove_prefix(1);
    std::from_chars(digits.data(), digits.data() + digits.size(), exponent);
  }
  const size_t point = std::min(text.find('.'), letter);
  std::string digits(text.substr(0, point));
  if (point < letter) digits += text.substr(point + 1, letter - point - 1);
  const int64_t whole = static_cast<int64_t>(point) + exponent;
  constexpr auto kMax = static_cast<int64_t>(kBoundDigitsMax);
  if (digits.find_first_not_of('0') == std::string::npos) return Decimal{};
  if (whole > kMax || static_cast<int64_t>(digits.size()) - whole > kMax) return std::nullopt;
  if (whole < 0) digits.insert(0, static_cast<size_t>(-whole), '0');
  const auto whole_size = static_cast<size_t>(std::max<int64_t>(whole, 0));
  if (digits.size() < whole_size) digits.resize(whole_size, '0');
  result.whole = digits.substr(0, whole_size);
  result.fraction = digits.substr(whole_size);
  result.whole.erase(0, result.whole.find_first_not_of('0'));
  if (result.whole.empty()) result.whole = "0";
  result.fraction.erase(result.fraction.find_last_not_of('0') + 1);
  return result;
}

bool operator<(const Decimal& a, const Decimal& b) {
  if (a.negative != b.negative) return a.negative;
  return a.negative ? MagnitudeLess(b, a) : MagnitudeLess(a, b);
}

std::optional<DecimalMultiple> DecimalMultiple::Of(const Decimal& value, bool integer) {
  std::string digits = value.whole + value.fraction;
  DecimalMultiple result{.exponent = -static_cast<int>(value.fraction.size())};
  digits.erase(0, digits.find_first_not_of('0'));
  for (; digits.ends_with('0'); digits.pop_back()) ++result.exponent;
  uint64_t divisor = 0;
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), divisor);
  if (read.ec != std::errc() || -result.exponent > static_cast<int>(kExactDigitsMax)) {
    return std::nullopt;
  }
  if (integer && result.exponent < 0) {
    divisor /= std::gcd(divisor, PowerOfTen(static_cast<uint32_t>(-result.exponent)));
    for (result.exponent = 0; divisor % 10 == 0; divisor /= 10) ++result.exponent;
  }
  if (divisor > kDivisorMax) return std::nullopt;
  result.divisor = static_cast<uint32_t>(divisor);
  return result;
}

bool DecimalMultiple::Divides(const Decimal& value) const {
  if (value.is_zero()) return true;
  std::string digits = value.whole + value.fraction;
  int power = -static_cast<int>(value.fraction.size());
  for (; digits.ends_with('0'); digits.pop_back()) ++power;
  uint64_t rest = 0;
  for (const char digit : digits) {
    rest = (rest * 10 + static_cast<uint64_t>(digit - '0')) % divisor;
  }
  for (int i = exponent; i < power; ++i) rest = rest * 10 % divisor;
  return power >= exponent && rest == 0;
}

bool NumberRules::Allow(const Decimal& value) const {
  if (integer && !value.fraction.empty()) return false;
  if (min && (value < min->value || (min->excluded && !(min->value < value)))) return false;
  if (max && (max->value < value || (max->excluded && !(value < max->value)))) return false;
  return !multiple || multiple->Divides(value);
}

Machine NonNegativeNumbers(const NumberRules& rules, MachineBudget& budget) {
  if (rules.max && rules.max->value.negative) return Nothing(budget);
  MagnitudeBounds bounds{.high = rules.max};
  if (rules.min && !rules.min->value.negative) bounds.low = rules.min;
  return DigitWalk(rules, std::move(bounds), budget).Run();
}

Machine NegatedNumbers(const NumberRules& rules, MachineBudget& budget) {
  if (rules.min && !rules.min->value.negative) return Nothing(budget);
  MagnitudeBounds bounds{.low = DecimalBound{Decimal{}, true}, .high = Negated(rules.min)};
  if (rules.max && rules.max->value.negative) bounds.low = Negated(rules.max);
  return DigitWalk(rules, std::move(bounds), budget).Run();
}

}  // namespace shoal::text::grammar
