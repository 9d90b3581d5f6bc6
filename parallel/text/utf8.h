#pragma once

// UTF-8: decoding, repair, and the printable alphabet that byte-level vocabularies are written in.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace shoal::text {

// One step of decoding at the front of a non-empty text.
struct Utf8Step {
  enum class Kind : uint8_t {
    kCharacter,   // `length` bytes are one well-formed character.
    kIllFormed,   // `length` bytes are a maximal ill-formed part: one U+FFFD.
    kIncomplete,  // All `length` remaining bytes begin a character that is cut off.
  };
  Kind kind = Kind::kCharacter;
  size_t length = 0;
  char32_t code_point = 0;
};

Utf8Step DecodeUtf8(std::string_view text);

// Appends the UTF-8 of a code point (not a surrogate).
void AppendUtf8(char32_t code_point, std::string& out);

// Appends `text` up to a character that is cut off at its end, with one U+FFFD for each maximal
// ill-formed part, as Python's errors="replace" and the Unicode standard do it.
// Result: the number of bytes read; less than all only if the end is cut off.
size_t AppendRepaired(std::string_view text, std::string& out);

// The bytes of a token written in GPT-2's alphabet, where each byte is one printable character:
// itself in 33..126, 161..172 and 174..255, and else 256 + its rank among the others.
// Result: false, and `out` unspecified, if `token` holds any other character.
bool BytesFromAlphabet(std::string_view token, std::string& out);

}  // namespace shoal::text
