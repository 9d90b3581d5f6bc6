#pragma once

// Writes JSON text from front to back: exact binary32 numbers, and no tree in between.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace shoal::gateway {

// The shortest decimal that reads back as the same binary32, always with a '.' or an exponent so
// that the sign of a zero survives; "null" if not finite.
std::string FormatFloat(float value);

// Code points of well-formed text.
int64_t CountCodePoints(std::string_view text);

// Commas are put where they belong; braces must be balanced by the caller.
class JsonWriter {
 public:
  JsonWriter& BeginObject() { return Open('{'); }
  JsonWriter& EndObject() { return Close('}'); }
  JsonWriter& BeginArray() { return Open('['); }
  JsonWriter& EndArray() { return Close(']'); }
  JsonWriter& Key(std::string_view key);
  JsonWriter& String(std::string_view text);
  // A string that is written in parts, of whole characters each.
  JsonWriter& BeginString();
  JsonWriter& StringPart(std::string_view text);
  JsonWriter& EndString();
  JsonWriter& Int(int64_t value);
  JsonWriter& Float(float value);
  JsonWriter& Bool(bool value);
  JsonWriter& Null();
  // Text that is JSON already.
  JsonWriter& Raw(std::string_view json);

  const std::string& text() const { return text_; }
  // What was written since the last Take.
  std::string Take() { return std::exchange(text_, {}); }

 private:
  JsonWriter& Open(char bracket);
  JsonWriter& Close(char bracket);
  void Separate();
  void AppendQuoted(std::string_view text);
  void AppendEscaped(std::string_view text);

  std::string text_;
  bool needs_comma_ = false;
};

}  // namespace shoal::gateway
