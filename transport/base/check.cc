#include "transport/base/check.h"

#include <cstdio>
#include <cstdlib>
#include <sstream>

namespace shoal {

namespace {

struct Append {
  void operator()(std::string_view text) const { out += text; }
  void operator()(char character) const { out += character; }
  void operator()(long long number) const { out += std::to_string(number); }
  void operator()(unsigned long long number) const { out += std::to_string(number); }
  void operator()(double number) const {
    char digits[32];
    std::snprintf(digits, sizeof(digits), "%g", number);
    out += digits;
  }
  void operator()(const StrPart::Streamed& other) const {
    std::ostringstream stream;
    other.print(stream, other.value);
    out += stream.view();
  }

  std::string& out;
};

}  // namespace

std::string Concatenated(std::initializer_list<StrPart> parts) {
  std::string text;
  for (const StrPart& part : parts) std::visit(Append{text}, part.value());
  return text;
}

void CheckFailed(const char* file, int line, const char* condition,
                 std::initializer_list<StrPart> context) {
  std::fprintf(stderr, "%s:%d: bug: expected %s. %s\n", file, line, condition,
               Concatenated(context).c_str());
  std::abort();
}

}  // namespace shoal
