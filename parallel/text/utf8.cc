#include "parallel/text/utf8.h"

// The tables of well-formed UTF-8 are the Unicode standard's (table 3-7).

namespace shoal::text {
namespace {

struct Lead {
  size_t length;       // Of the whole character; 0 if no character starts so.
  uint8_t second_min;  // Bounds of the second byte: they exclude overlong forms, surrogates and
  uint8_t second_max;  // everything past U+10FFFF.
};

Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

bool IsPrintableByte(uint32_t byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

// The byte that the alphabet writes as 256 + rank, or -1.
int ByteOfRank(uint32_t rank) {
  // The unprintable bytes in order: 0..32, 127..160, 173.
  if (rank <= 32) return static_cast<int>(rank);
  if (rank <= 66) return static_cast<int>(rank + 94);
  return rank == 67 ? 173 : -1;
}

}  // namespace

Utf8Step DecodeUtf8(std::string_view text) {
  const auto first = static_cast<uint8_t>(text[0]);
  const Lead lead = LeadOf(first);
  if (lead.length == 0) return {Utf8Step::Kind::kIllFormed, 1, 0};
  if (lead.length == 1) return {Utf8Step::Kind::kCharacter, 1, first};
  char32_t code_point = first & (0x7F >> lead.length);
  for (size_t i = 1; i < lead.length; ++i) {
    if (i == text.size()) return {Utf8Step::Kind::kIncomplete, i, 0};
    const auto byte = static_cast<uint8_t>(text[i]);
    const uint8_t low = i == 1 ? lead.second_min : 0x80;
    const uint8_t high = i == 1 ? lead.second_max : 0xBF;
    if (byte < low || byte > high) return {Utf8Step::Kind::kIllFormed, i, 0};
    code_point = (code_point << 6) | (byte & 0x3F);
  }
  return {Utf8Step::Kind::kCharacter, lead.length, code_point};
}

void AppendUtf8(char32_t code_point, std::string& out) {
  if (code_point < 0x80) {
    out += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    out += static_cast<char>(0xC0 | (code_point >> 6));
    out += static_cast<char>(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    out += static_cast<char>(0xE0 | (code_point >> 12));
    out += static_cast<char>(0x80 | ((code_point >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (code_point & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | (code_point >> 18));
    out += static_cast<char>(0x80 | ((code_point >> 12) & 0x3F));
    out += static_cast<char>(0x80 | ((code_point >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (code_point & 0x3F));
  }
}

size_t AppendRepaired(std::string_view text, std::string& out) {
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Step step = DecodeUtf8(text.substr(at));
    if (step.kind == Utf8Step::Kind::kIncomplete) break;
    if (step.kind == Utf8Step::Kind::kCharacter) {
      out.append(text, at, step.length);
    } else {
      out += "\xEF\xBF\xBD";
    }
    at += step.length;
  }
  return at;
}

bool BytesFromAlphabet(std::string_view token, std::string& out) {
  out.clear();
  for (size_t at = 0; at < token.size();) {
    const Utf8Step step = DecodeUtf8(token.substr(at));
    if (step.kind != Utf8Step::Kind::kCharacter) return false;
    int byte = -1;
    if (step.code_point >= 256) {
      byte = ByteOfRank(step.code_point - 256);
    } else if (IsPrintableByte(step.code_point)) {
      byte = static_cast<int>(step.code_point);
    }
    if (byte < 0) return false;
    out += static_cast<char>(byte);
    at += step.length;
  }
  return true;
}

}  // namespace shoal::text
