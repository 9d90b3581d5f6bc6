// Cuts a template into output text and the tokens of its tags. White space control is decided here:
// `-` strips all space on its side, trim_blocks the newline after a block or comment, lstrip_blocks
// the blanks before one that begins its line, unless a `+` stands there.

#include "parallel/text/jinja/syntax/lexer.h"

#include <algorithm>
#include <array>

#include "parallel/text/utf8.h"
#include "transport/base/error.h"

namespace shoal::text::jinja {
namespace {

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

// All newlines become \n, and one at the very end is dropped.
std::string NormalizedNewlines(const std::string& source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(NormalizedNewlines(source)) {}

  std::vector<Token> Run() {
    while (at_ < source_.size()) Data();
    Push(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  std::string_view Rest() const { return std::string_view(source_).substr(at_); }
  char Peek(size_t ahead = 0) const {
    return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0';
  }

  void Advance(size_t count) {
    line_ +=
        static_cast<int>(std::count(source_.begin() + at_, source_.begin() + at_ + count, '\n'));
    at_ += count;
  }

  void Push(Token::Kind kind, std::string text) {
    tokens_.push_back({kind, std::move(text), line_});
  }

  void SkipSpaces() {
    while (at_ < source_.size() && IsSpace(source_[at_])) Advance(1);
  }

  // Whether the characters before `at_` end a line; the start of the source counts as one.
  bool AtLineStart(size_t position) const { return position == 0 || source_[position - 1] == '\n'; }

  void PushData(size_t begin, size_t end, char sign, bool is_block) {
    if (sign == '-') {
      while (end > begin && IsSpace(source_[end - 1])) --end;
    } else if (sign != '+' && is_block) {
      size_t blank = end;
      while (blank > begin && IsSpace(source_[blank - 1]) && source_[blank - 1] != '\n') --blank;
      // What was swallowed before `begin` may have ended with the newline.
      if (AtLineStart(blank)) end = blank;
    }
    if (end > begin) {
      tokens_.push_back({Token::Kind::kData, source_.substr(begin, end - begin), line_});
    }
  }

  // Text up to the next tag, and the tag.
  void Data() {
    const size_t begin = at_;
    size_t open = source_.find('{', at_);
    while (open != std::string::npos && open + 1 < source_.size() && source_[open + 1] != '{' &&
           source_[open + 1] != '%' && source_[open + 1] != '#') {
      open = source_.find('{', open + 1);
    }
    if (open == std::string::npos || open + 1 >= source_.size()) {
      PushData(begin, source_.size(), '+', false);
      Advance(source_.size() - at_);
      return;
    }
    const char kind = source_[open + 1];
    const char sign = open + 2 < source_.size() ? source_[open + 2] : '\0';
    const bool has_sign = sign == '-' || sign == '+';
    PushData(begin, open, has_sign ? sign : '\0', kind != '{');
    Advance(open + 2 + (has_sign ? 1 : 0) - at_);
    if (kind == '#') {
      Comment();
    } else if (kind == '{') {
      Push(Token::Kind::kVariableBegin, "");
      Tag("}}", Token::Kind::kVariableEnd);
    } else if (!Raw()) {
      Push(Token::Kind::kBlockBegin, "");
      Tag("%}", Token::Kind::kBlockEnd);
    }
  }

  // After the end of a block or comment at `at_`, whose sign was `sign`.
  void AfterBlock(char sign) {
    if (sign == '-') {
      SkipSpaces();
    } else if (sign != '+' && Peek() == '\n') {
      Advance(1);
    }
  }

  void Comment() {
    const size_t end = source_.find("#}", at_);
    if (end == std::string::npos) Refuse(line_, "a comment without its end");
    const char sign = end > at_ ? source_[end - 1] : '\0';
    Advance(end + 2 - at_);
    AfterBlock(sign);
  }

  // {% raw %} ... {% endraw %}; false if this block is another one.
  bool Raw() {
    size_t at = at_;
    const auto skip = [&] {
      while (at < source_.size() && IsSpace(source_[at])) ++at;
    };
    const auto take = [&](std::string_view text) {
      if (std::string_view(source_).substr(at, text.size()) != text) return false;
      at += text.size();
      return true;
    };
    skip();
    if (!take("raw")) return false;
    skip();
    const bool strip = take("-");
    if (!take("%}")) return false;
    Advance(at - at_);
    if (strip) SkipSpaces();
    for (size_t open = source_.find("{%", at_); open != std::string::npos;
         open = source_.find("{%", open + 2)) {
      at = open + 2;
      const char begin_sign = take("-") ? '-' : take("+") ? '+' : '\0';
      skip();
      if (!take("endraw")) continue;
      skip();
      const char end_sign = take("-") ? '-' : take("+") ? '+' : '\0';
      if (!take("%}")) continue;
      PushData(at_, open, begin_sign, true);
      Advance(at - at_);
      AfterBlock(end_sign);
      return true;
    }
    Refuse(line_, "raw without its endraw");
  }

  // The tokens of a tag up to its end.
  void Tag(std::string_view end, Token::Kind end_kind) {
    std::string brackets;
    while (true) {
      SkipSpaces();
      if (at_ >= source_.size()) Refuse(line_, "a tag without its end");
      if (brackets.empty() && TagEnd(end, end_kind)) return;
      const char c = Peek();
      if (IsNameStart(c)) {
        Name();
      } else if (IsDigit(c)) {
        Number();
      } else if (c == '"' || c == '\'') {
        String(c);
      } else {
        Operator(brackets);
      }
    }
  }

  bool TagEnd(std::string_view end, Token::Kind end_kind) {
    const char sign = Peek();
    const bool has_sign = sign == '-' || (sign == '+' && end == "%}");
    if (!Rest().substr(has_sign ? 1 : 0).starts_with(end)) return false;
    Push(end_kind, "");
    Advance(end.size() + (has_sign ? 1 : 0));
    if (end_kind == Token::Kind::kBlockEnd) {
      AfterBlock(has_sign ? sign : '\0');
    } else if (has_sign) {
      SkipSpaces();
    }
    return true;
  }

  void Name() {
    size_t length = 1;
    while (IsNameStart(Peek(length)) || IsDigit(Peek(length))) ++length;
    Push(Token::Kind::kName, source_.substr(at_, length));
    Advance(length);
  }

  void Number() {
    size_t length = 0;
    bool is_float = false;
    const auto digits = [&] {
      while (IsDigit(Peek(length)) || (Peek(length) == '_' && IsDigit(Peek(length + 1)))) ++length;
    };
    digits();
    if (Peek(length) == '.' && IsDigit(Peek(length + 1))) {
      is_float = true;
      ++length;
      digits();
    }
    const size_t sign = Peek(length + 1) == '+' || Peek(length + 1) == '-' ? 1 : 0;
    if ((Peek(length) == 'e' || Peek(length) == 'E') && IsDigit(Peek(length + 1 + sign))) {
      is_float = true;
      length += 1 + sign;
      digits();
    }
    if (IsNameStart(Peek(length))) Refuse(line_, "this kind of number is not supported");
    std::string text = source_.substr(at_, length);
    std::erase(text, '_');
    Push(is_float ? Token::Kind::kFloat : Token::Kind::kInteger, text);
    Advance(length);
  }

  void String(char quote) {
    std::string text;
    size_t at = at_ + 1;
    for (; at < source_.size() && source_[at] != quote;) {
      if (source_[at] != '\\') {
        text += source_[at++];
      } else {
        Escape(at, text);
      }
    }
    if (at >= source_.size()) Refuse(line_, "a string without its end");
    Push(Token::Kind::kString, std::move(text));
    Advance(at + 1 - at_);
  }

  // Python's escapes; an unknown one stays as it is written.
  void Escape(size_t& at, std::string& text) {
    if (at + 1 >= source_.size()) Refuse(line_, "a string without its end");
    const char c = source_[at + 1];
    static constexpr std::string_view kFrom = "ntrbfva\\'\"";
    static constexpr std::string_view kTo = "\n\t\r\b\f\v\a\\'\"";
    if (const size_t index = kFrom.find(c); index != std::string_view::npos) {
      text += kTo[index];
      at += 2;
    } else if (c == '\n') {
      at += 2;
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const size_t count = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      const std::string digits = source_.substr(at + 2, count);
      if (digits.size() != count ||
          digits.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
        Refuse(line_, "a string with an incomplete escape");
      }
      const unsigned long code = std::stoul(digits, nullptr, 16);
      if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
        Refuse(line_, "a string with an escape that is no character");
      }
      AppendUtf8(static_cast<char32_t>(code), text);
      at += 2 + count;
    } else if (IsDigit(c) || c == 'N') {
      Refuse(line_, std::string("the escape \\") + c + " is not supported");
    } else {
      text += source_.substr(at, 2);
      at += 2;
    }
  }

  void Operator(std::string& brackets) {
    static constexpr std::array<std::string_view, 26> kOperators = {
        "==", "!=", ">=", "<=", "//", "**", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    const auto* found = std::find_if(kOperators.begin(), kOperators.end(),
                                     [this](auto text) { return Rest().starts_with(text); });
    if (found == kOperators.end()) {
      Refuse(line_, std::string("unexpected character '") + Peek() + "'");
    }
    const char c = (*found)[0];
    if (c == '(' || c == '[' || c == '{') {
      brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
      if (brackets.empty() || brackets.back() != c) {
        Refuse(line_, std::string("unexpected '") + c + "'");
      }
      brackets.pop_back();
    }
    Push(Token::Kind::kOperator, std::string(*found));
    Advance(found->size());
  }

  const std::string source_;
  size_t at_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> Lex(std::string source) { return Lexer(std::move(source)).Run(); }

void Refuse(int line, const std::string& message) {
  Throw(ErrorCode::kInvalidArgument, "chat template, line ", line, ": ", message);
}

}  // namespace shoal::text::jinja
