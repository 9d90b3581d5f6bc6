#pragma once

// Assertions about this process's own code, and the string building that messages share.

#include <concepts>
#include <initializer_list>
#include <iosfwd>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

namespace shoal {

// One argument of Str, for as long as the call. Not a stream, so that what has messages need not
// compile <sstream>.
class StrPart {
 public:
  // Whatever else has a stream's operator.
  struct Streamed {
    const void* value;
    void (*print)(std::ostream& out, const void* value);
  };
  using Value =
      std::variant<std::string_view, char, long long, unsigned long long, double, Streamed>;

  StrPart(std::string_view text) : value_(text) {}
  StrPart(const std::string& text) : value_(std::string_view(text)) {}
  StrPart(const char* text) : value_(std::string_view(text)) {}
  StrPart(double number) : value_(number) {}
  template <std::integral Number>
  StrPart(Number number) : value_(static_cast<Widest<Number>>(number)) {}
  template <typename Other>
  requires std::is_class_v<Other> StrPart(const Other& other)
      : value_(Streamed{&other, [](std::ostream& out, const void* value) {
                          out << *static_cast<const Other*>(value);
                        }}) {}

  const Value& value() const { return value_; }

 private:
  // Of one byte are characters, as for streams.
  template <typename Number>
  using Widest = std::conditional_t<
      sizeof(Number) == 1 && !std::is_same_v<Number, bool>, char,
      std::conditional_t<std::is_signed_v<Number>, long long, unsigned long long>>;

  Value value_;
};

std::string Concatenated(std::initializer_list<StrPart> parts);

// The arguments one after the other, as a stream prints them.
template <typename... Args>
std::string Str(const Args&... args) {
  return Concatenated({args...});
}

// Prints the failed condition with its context and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition,
                              std::initializer_list<StrPart> context);

}  // namespace shoal

// Aborts if `condition` is false, in every build type. For what only a bug in this process can make
// false; bad input and lost peers are Errors (error.h). The other arguments are context, evaluated
// only on failure: SHOAL_CHECK(slot < slots_.size(), "slot ", slot, " of ", slots_.size()).
#define SHOAL_CHECK(condition, ...) \
  (static_cast<bool>(condition)     \
       ? static_cast<void>(0)       \
       : ::shoal::CheckFailed(__FILE__, __LINE__, #condition, {__VA_ARGS__}))
