#include "parallel/text/grammar/regular/regex.h"

#include <optional>
#include <vector>

#include "parallel/text/utf8.h"
#include "transport/base/error.h"

// A recursive descent over the pattern; the depth of groups bounds the recursion.

namespace shoal::text::grammar {
namespace {

constexpr int kGroupDepthMax = 100;
constexpr uint32_t kRepeatMax = 10'000;

CharacterSet Of(std::initializer_list<CharacterSet::Range> ranges) {
  CharacterSet set;
  for (const CharacterSet::Range& range : ranges) set.Add(range.first, range.last);
  return set;
}

// \d, \w, \s and their negations.
std::optional<CharacterSet> NamedClass(char name) {
  switch (name) {
    case 'd':
    case 'D': {
      const CharacterSet set = Of({{'0', '9'}});
      return name == 'd' ? set : set.Complement();
    }
    case 'w':
    case 'W': {
      const CharacterSet set = Of({{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}});
      return name == 'w' ? set : set.Complement();
    }
    case 's':
    case 'S': {
      const CharacterSet set = Of({{'\t', '\r'}, {' ', ' '}});
      return name == 's' ? set : set.Complement();
    }
    default:
      return std::nullopt;
  }
}

class Parser {
 public:
  Parser(Expression& expression, std::string_view pattern, Spelling spelling, RegexMatch match)
      : expression_(expression), pattern_(pattern), spelling_(spelling), match_(match) {}

  NodeId Parse() {
    std::vector<NodeId> options;
    do {
      options.push_back(ParseTopBranch());
    } while (Take('|'));
    if (at_ < pattern_.size()) Refuse("a ) without its (");
    return expression_.Choice(options);
  }

 private:
  [[noreturn]] void Refuse(std::string_view what) const {
    Throw(ErrorCode::kInvalidArgument, "regular expression, byte ", at_, ": ", what);
  }

  bool AtEnd() const { return at_ == pattern_.size(); }
  char Peek(size_t ahead = 0) const {
    return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0';
  }
  bool Take(char c) {
    if (AtEnd() || pattern_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool Take(std::string_view text) {
    if (!pattern_.substr(at_).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }

  // A branch of the outermost alternation, where the anchors may stand.
  NodeId ParseTopBranch() {
    const bool begin = Take('^') || match_ == RegexMatch::kWhole;
    const NodeId body = ParseBranch();
    const bool end = Take('$') || match_ == RegexMatch::kWhole;
    if (!AtEnd() && Peek() != '|' && Peek() != ')') Refuse("$ is supported at the end only");
    if (begin && end) return body;
    const NodeId any =
        expression_.Repeat(OneOf(expression_, CharacterSet::All(), spelling_), 0, kUnlimited);
    return expression_.Sequence(
        {begin ? Expression::kEmpty : any, body, end ? Expression::kEmpty : any});
  }

  NodeId ParseAlternatives() {
    std::vector<NodeId> options;
    do {
      options.push_back(ParseBranch());
      if (Peek() == '$') Refuse("$ is supported at the end of the expression only");
    } while (Take('|'));
    return expression_.Choice(options);
  }

  NodeId ParseBranch() {
    std::vector<NodeId> parts;
    std::string literal;
    const auto flush = [&] {
      parts.push_back(expression_.Literal(literal));
      literal.clear();
    };
    while (!AtEnd() && Peek() != '|' && Peek() != ')' && Peek() != '$') {
      const size_t begin = at_;
      const std::optional<char32_t> character = TryCharacter();
      if (character && !AtQuantifier()) {
        literal += Spell(*character, spelling_);
        continue;
      }
      flush();
      at_ = begin;
      parts.push_back(ParseQuantified());
    }
    flush();
    return expression_.Sequence(parts);
  }

  bool AtQuantifier() const { return Peek() == '*' || Peek() == '+' || Peek() == '?' || AtCount(); }

  // { that begins a count; any other is a literal.
  bool AtCount() const {
    if (Peek() != '{') return false;
    size_t i = 1;
    const auto digits = [&] {
      const size_t begin = i;
      while (Peek(i) >= '0' && Peek(i) <= '9') ++i;
      return i > begin;
    };
    if (!digits()) return false;
    if (Peek(i) == ',') {
      ++i;
      digits();
    }
    return Peek(i) == '}';
  }

  NodeId ParseQuantified() {
    NodeId node = ParseAtom();
    while (AtQuantifier()) {
      uint32_t min = 0;
      uint32_t max = kUnlimited;
      if (Take('{')) {
        min = ParseCount();
        if (!Take(',')) {
          max = min;
        } else if (Peek() != '}') {
          max = ParseCount();
        }
        Take('}');
        if (max < min) Refuse("a count whose maximum is below its minimum");
      } else {
        const char quantifier = pattern_[at_++];
        min = quantifier == '+' ? 1 : 0;
        max = quantifier == '?' ? 1 : kUnlimited;
      }
      if (Peek() == '+') Refuse("possessive quantifiers are not supported");
      Take('?');  // Lazy: the set of matches is the same.
      if (AtQuantifier()) Refuse("a quantifier after a quantifier");
      node = expression_.Repeat(node, min, max);
    }
    return node;
  }

  uint32_t ParseCount() {
    uint32_t value = 0;
    while (Peek() >= '0' && Peek() <= '9') {
      value = value * 10 + static_cast<uint32_t>(pattern_[at_] - '0');
      if (value > kRepeatMax) Refuse(Str("a count above ", kRepeatMax));
      ++at_;
    }
    return value;
  }

  NodeId ParseAtom() {
    if (AtQuantifier()) Refuse("a quantifier without anything to repeat");
    if (Take('(')) return ParseGroup();
    if (Take('[')) return OneOf(expression_, ParseClass(), spelling_);
    if (Take('.')) return OneOf(expression_, Of({{'\n', '\n'}}).Complement(), spelling_);
    if (Peek() == '^') Refuse("^ is supported at the start of the expression only");
    if (Peek() == '\\') {
      if (const auto set = NamedClass(Peek(1))) {
        at_ += 2;
        return OneOf(expression_, *set, spelling_);
      }
    }
    const std::optional<char32_t> character = TryCharacter();
    if (!character) Refuse("something that is no character");
    return expression_.Literal(Spell(*character, spelling_));
  }

  NodeId ParseGroup() {
    if (++depth_ > kGroupDepthMax) Refuse(Str("groups nested deeper than ", kGroupDepthMax));
    if (Peek() == '?' && !Take("?:")) {
      if (Peek(1) == '=' || Peek(1) == '!') Refuse("look-ahead is not supported");
      if (Peek(1) == '<' && (Peek(2) == '=' || Peek(2) == '!')) {
        Refuse("look-behind is not supported");
      }
      if (Peek(1) == '>') Refuse("atomic groups are not supported");
      if (!Take("?<") && !Take("?P<")) Refuse("inline flags and conditions are not supported");
      while (!AtEnd() && Peek() != '>') ++at_;
      if (!Take('>')) Refuse("a group's name without its >");
    }
    const NodeId body = ParseAlternatives();
    if (!Take(')')) Refuse("a ( without its )");
    --depth_;
    return body;
  }

  // After the [.
  CharacterSet ParseClass() {
    CharacterSet set;
    const bool negated = Take('^');
    for (bool first = true; first || Peek() != ']'; first = false) {
      if (AtEnd()) Refuse("a [ without its ]");
      if (first && Peek() == ']') Refuse("an empty class: write \\] for the character");
      if (Peek() == '\\') {
        if (const auto named = NamedClass(Peek(1))) {
          at_ += 2;
          set.Add(*named);
          continue;
        }
      }
      const char32_t low = ClassCharacter();
      if (Peek() != '-' || Peek(1) == ']' || at_ + 1 >= pattern_.size()) {
        set.Add(low, low);
        continue;
      }
      ++at_;
      const char32_t high = ClassCharacter();
      if (high < low) Refuse("a range whose end is before its start");
      set.Add(low, high);
    }
    Take(']');
    return negated ? set.Complement() : set;
  }

  char32_t ClassCharacter() {
    if (Take("\\b")) return '\b';
    if (Peek() == '\\') return ParseEscape();
    return ParsePlain();
  }

  // A character that stands for itself or is escaped; nothing, and no step ahead, for any other
  // atom.
  std::optional<char32_t> TryCharacter() {
    constexpr std::string_view kOthers = "()[.*+?^$|";
    if (AtEnd() || kOthers.find(Peek()) != std::string_view::npos || AtCount()) return std::nullopt;
    if (Peek() != '\\') return ParsePlain();
    if (NamedClass(Peek(1))) return std::nullopt;
    return ParseEscape();
  }

  char32_t ParsePlain() {
    const Utf8Step step = DecodeUtf8(pattern_.substr(at_));
    if (step.kind != Utf8Step::Kind::kCharacter) Refuse("ill-formed UTF-8");
    at_ += step.length;
    return step.code_point;
  }

  char32_t ParseEscape() {
    ++at_;
    if (AtEnd()) Refuse("a \\ at the end");
    const char c = Peek();
    constexpr std::string_view kControls = "ntrfv0";
    constexpr char kValues[] = "\n\t\r\f\v";
    if (const size_t i = kControls.find(c); i != std::string_view::npos) {
      if (c == '0' && Peek(1) >= '0' && Peek(1) <= '9') Refuse("octal escapes are not supported");
      ++at_;
      return static_cast<char32_t>(kValues[i]);
    }
    if (c == 'x' || c == 'u') {
      ++at_;
      return ParseHex(c == 'x' ? 2 : 4, c == 'u');
    }
    if (c >= '1' && c <= '9') Refuse("back references are not supported");
    if (c == 'k') Refuse("back references are not supported");
    if (c == 'b' || c == 'B') Refuse("word boundaries are not supported");
    if (c == 'p' || c == 'P') Refuse("\\p{...} is not supported");
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (letter) Refuse(Str("the escape \\", c, " is not supported"));
    return ParsePlain();
  }

  char32_t ParseHex(int digits, bool braces_allowed) {
    const bool braces = braces_allowed && Take('{');
    char32_t value = 0;
    int count = 0;
    for (; braces ? count < 6 : count < digits; ++count) {
      const char c = Peek();
      const bool decimal = c >= '0' && c <= '9';
      const char lower = static_cast<char>(c | 0x20);
      if (!decimal && (lower < 'a' || lower > 'f')) break;
      value = value * 16 + static_cast<char32_t>(decimal ? c - '0' : lower - 'a' + 10);
      ++at_;
    }
    if (braces ? count == 0 || !Take('}') : count != digits) Refuse("a malformed hex escape");
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
      Refuse("an escape of something that is no character");
    }
    return value;
  }

  Expression& expression_;
  const std::string_view pattern_;
  const Spelling spelling_;
  const RegexMatch match_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

NodeId ParseRegex(Expression& expression, std::string_view pattern, Spelling spelling,
                  RegexMatch match) {
  return Parser(expression, pattern, spelling, match).Parse();
}

}  // namespace shoal::text::grammar
