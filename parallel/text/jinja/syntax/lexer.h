#pragma once

// Cuts a template into output text and the tokens of its tags.
//
// Source: Jinja2's lexer with trim_blocks and lstrip_blocks on and its default delimiters.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::text::jinja {

struct Token {
  enum class Kind : uint8_t {
    kData,           // Text between tags; never empty.
    kBlockBegin,     // {%
    kBlockEnd,       // %}
    kVariableBegin,  // {{
    kVariableEnd,    // }}
    kName,
    kString,  // `text` has its escapes replaced.
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };
  Kind kind = Kind::kEnd;
  std::string text;
  int line = 1;

  bool Is(Kind wanted, std::string_view wanted_text) const {
    return kind == wanted && text == wanted_text;
  }
};

// Errors: kInvalidArgument with the line.
// Result: ends with kEnd.
std::vector<Token> Lex(std::string source);

// "chat template, line 7: <message>".
[[noreturn]] void Refuse(int line, const std::string& message);

}  // namespace shoal::text::jinja
