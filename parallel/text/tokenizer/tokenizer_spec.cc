#include "parallel/text/tokenizer/tokenizer_spec.h"

#include <charconv>

namespace shoal::text {

std::optional<uint8_t> ByteOfToken(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text.back() != '>') return std::nullopt;
  uint8_t byte = 0;
  const char* end = text.data() + 5;
  const auto parsed = std::from_chars(text.data() + 3, end, byte, 16);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return byte;
}

std::string WithSpaces(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const bool is_mark = text.substr(at).starts_with(kSpaceMark);
    out += is_mark ? ' ' : text[at];
    at += is_mark ? kSpaceMark.size() : 1;
  }
  return out;
}

}  // namespace shoal::text
