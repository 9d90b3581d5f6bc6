#include "parallel/text/grammar/regular/characters.h"

#include <algorithm>
#include <iterator>

#include "parallel/text/utf8.h"

namespace shoal::text::grammar {
namespace {

constexpr char32_t kLast = 0x10FFFF;
constexpr CharacterSet::Range kSurrogates{0xD800, 0xDFFF};

// What a JSON string may not hold as it is.
CharacterSet MustEscape() {
  CharacterSet set;
  set.Add(0, 0x1F);
  set.Add('"', '"');
  set.Add('\\', '\\');
  return set;
}

// Appends the spellings of [first, last], whose UTF-8 is `first.size()` bytes long each: a common
// head, then the parts where the rest is not all of a rectangle of continuation bytes.
void AppendUtf8Ranges(Expression& expression, std::string_view first, std::string_view last,
                      NodeId head, std::vector<NodeId>& options) {
  const auto low = static_cast<uint8_t>(first[0]);
  const auto high = static_cast<uint8_t>(last[0]);
  const auto with = [&](uint8_t from, uint8_t to) {
    const NodeId byte = expression.Bytes(ByteSet::Range(from, to));
    return expression.Sequence({head, byte});
  };
  if (first.size() == 1) {
    options.push_back(with(low, high));
    return;
  }
  const std::string least(first.size() - 1, '\x80');
  const std::string most(first.size() - 1, '\xBF');
  const std::string_view first_rest = first.substr(1);
  const std::string_view last_rest = last.substr(1);
  if (low == high) {
    AppendUtf8Ranges(expression, first_rest, last_rest, with(low, low), options);
    return;
  }
  uint8_t from = low;
  uint8_t to = high;
  if (first_rest != least) {
    AppendUtf8Ranges(expression, first_rest, most, with(low, low), options);
    ++from;
  }
  if (last_rest != most) --to;
  if (from <= to) AppendUtf8Ranges(expression, least, most, with(from, to), options);
  if (last_rest != most) {
    AppendUtf8Ranges(expression, least, last_rest, with(high, high), options);
  }
}

NodeId Utf8OneOf(Expression& expression, const CharacterSet& set) {
  std::vector<NodeId> options;
  ByteSet ascii;
  for (const CharacterSet::Range& range : set.ranges()) {
    for (char32_t c = range.first; c <= std::min<char32_t>(range.last, 0x7F); ++c) {
      ascii.Add(static_cast<uint8_t>(c));
    }
  }
  if (!ascii.empty()) options.push_back(expression.Bytes(ascii));
  // Of one length each.
  constexpr CharacterSet::Range kLengths[] = {{0x80, 0x7FF}, {0x800, 0xFFFF}, {0x10000, kLast}};
  for (const CharacterSet::Range& range : set.ranges()) {
    for (const CharacterSet::Range& length : kLengths) {
      const char32_t first = std::max(range.first, length.first);
      const char32_t last = std::min(range.last, length.last);
      if (first > last) continue;
      std::string first_bytes;
      std::string last_bytes;
      AppendUtf8(first, first_bytes);
      AppendUtf8(last, last_bytes);
      AppendUtf8Ranges(expression, first_bytes, last_bytes, Expression::kEmpty, options);
    }
  }
  return expression.Choice(options);
}

std::string JsonEscape(char32_t character) {
  constexpr std::string_view kShort = "\"\\\b\f\n\r\t";
  constexpr std::string_view kLetters = "\"\\bfnrt";
  const size_t at = kShort.find(static_cast<char>(character));
  if (at != std::string_view::npos) return {'\\', kLetters[at]};
  constexpr char kHex[] = "0123456789abcdef";
  return std::string("\\u00") + kHex[character >> 4] + kHex[character & 15];
}

}  // namespace

CharacterSet CharacterSet::All() {
  CharacterSet set;
  set.Add(0, kLast);
  return set;
}

void CharacterSet::Add(char32_t first, char32_t last) {
  if (first < kSurrogates.first && last > kSurrogates.last) {
    Add(first, kSurrogates.first - 1);
    Add(kSurrogates.last + 1, last);
    return;
  }
  if (first >= kSurrogates.first && first <= kSurrogates.last) first = kSurrogates.last + 1;
  if (last >= kSurrogates.first && last <= kSurrogates.last) last = kSurrogates.first - 1;
  if (first > last) return;
  // Those that touch the new range become part of it.
  const auto begin = std::find_if(ranges_.begin(), ranges_.end(),
                                  [&](const Range& range) { return range.last + 1 >= first; });
  auto end = begin;
  Range whole{first, last};
  for (; end != ranges_.end() && end->first <= last + 1; ++end) {
    whole = {std::min(whole.first, end->first), std::max(whole.last, end->last)};
  }
  ranges_.insert(ranges_.erase(begin, end), whole);
}

void CharacterSet::Add(const CharacterSet& other) {
  for (const Range& range : other.ranges_) Add(range.first, range.last);
}

CharacterSet CharacterSet::Complement() const {
  CharacterSet result;
  char32_t next = 0;
  for (const Range& range : ranges_) {
    if (range.first > next) result.Add(next, range.first - 1);
    next = range.last + 1;
  }
  if (next <= kLast) result.Add(next, kLast);
  return result;
}

CharacterSet CharacterSet::And(const CharacterSet& other) const {
  CharacterSet neither = Complement();
  neither.Add(other.Complement());
  return neither.Complement();
}

NodeId OneOf(Expression& expression, const CharacterSet& set, Spelling spelling) {
  if (spelling == Spelling::kUtf8) return Utf8OneOf(expression, set);
  std::vector<NodeId> options = {Utf8OneOf(expression, set.And(MustEscape().Complement()))};
  const CharacterSet escaped = set.And(MustEscape());
  for (const CharacterSet::Range& range : escaped.ranges()) {
    for (char32_t c = range.first; c <= range.last; ++c) {
      options.push_back(expression.Literal(JsonEscape(c)));
    }
  }
  return expression.Choice(options);
}

std::string Spell(char32_t character, Spelling spelling) {
  const bool escape = character < 0x20 || character == '"' || character == '\\';
  if (spelling == Spelling::kJsonString && escape) return JsonEscape(character);
  std::string bytes;
  AppendUtf8(character, bytes);
  return bytes;
}

}  // namespace shoal::text::grammar
