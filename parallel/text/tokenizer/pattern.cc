// Most of the two languages is shared. What differs and occurs is \s: PCRE2's includes U+180E,
// which has not been a space since Unicode 6.3, and Oniguruma's does not; so the class is spelled
// out. Anything else that differs (\h, \w, nested classes, ...) is refused rather than guessed.

#include "parallel/text/tokenizer/pattern.h"

#include "transport/base/error.h"

namespace shoal::text {
namespace {

// The characters with the property White_Space, as the inside of a class.
constexpr std::string_view kSpaces =
    R"(\t-\r\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

class Rewriter {
 public:
  explicit Rewriter(std::string_view pattern) : pattern_(pattern) {}

  std::string Run() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        Escape();
      } else if (in_class_) {
        InClass(c);
      } else if (c == '[') {
        OpenClass();
      } else if (c == '(') {
        Group();
      } else {
        Copy(1);
      }
    }
    if (in_class_) Refuse("a class without its end");
    return out_;
  }

 private:
  [[noreturn]] void Refuse(std::string_view construct) const {
    Throw(ErrorCode::kInvalidArgument, "pre-tokenizer expression ", pattern_, ": byte ", at_, ": ",
          construct, " is not supported; this tokenizer cannot be reproduced");
  }

  char Peek(size_t ahead) const {
    return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : 0;
  }

  void Copy(size_t count) {
    out_ += pattern_.substr(at_, count);
    at_ += count;
  }

  void Escape() {
    const char next = Peek(1);
    if (next == 's' || next == 'S') {
      if (in_class_ && next == 'S') Refuse("\\S inside a class");
      if (in_class_) {
        out_ += kSpaces;
      } else {
        out_ += next == 's' ? "[" : "[^";
        out_ += kSpaces;
        out_ += ']';
      }
      at_ += 2;
    } else if (next == 'p' || next == 'P') {
      const size_t close = pattern_.find('}', at_);
      if (Peek(2) != '{' || close == std::string_view::npos) Refuse("\\p without its braces");
      Copy(close + 1 - at_);
    } else if (next == 'n' || next == 'r' || next == 't' || next == 'x') {
      Copy(2);
    } else if (next != 0 && std::string_view("\\^$.|?*+()[]{}-/'\"#&~ !%,:;<=>@_`").find(next) !=
                                std::string_view::npos) {
      Copy(2);
    } else {
      Refuse(std::string("the escape \\") + next);
    }
  }

  void OpenClass() {
    in_class_ = true;
    Copy(Peek(1) == '^' ? 2 : 1);
    if (Peek(0) == ']') Refuse("] as the first of a class");
  }

  void InClass(char c) {
    if (c == '[') Refuse("a class inside a class");
    if (c == '&' && Peek(1) == '&') Refuse("&& inside a class");
    if (c == ']') in_class_ = false;
    Copy(1);
  }

  void Group() {
    for (const std::string_view known : {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (pattern_.substr(at_).starts_with(known)) return Copy(known.size());
    }
    if (Peek(1) == '?' || Peek(1) == '*') Refuse("this kind of group");
    Copy(1);
  }

  const std::string_view pattern_;
  size_t at_ = 0;
  bool in_class_ = false;
  std::string out_;
};

}  // namespace

std::string PcrePattern(std::string_view pattern) { return Rewriter(pattern).Run(); }

}  // namespace shoal::text
