#include "transport/base/utf8.h"

#include <cstddef>

namespace shoal {
namespace {

// Length of the well-formed sequence at the start (Unicode 15, table 3-7), or 0 and in `skip` the
// length of the maximal ill-formed part.
size_t SequenceLength(std::string_view text, size_t& skip) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  skip = 1;
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  unsigned low = 0x80;
  unsigned high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (size_t i = 1; i < length; ++i) {
    if (i >= text.size() || byte(i) < low || byte(i) > high) {
      skip = i;
      return 0;
    }
    low = 0x80;
    high = 0xBF;
  }
  return length;
}

}  // namespace

bool IsWellFormedUtf8(std::string_view text) {
  while (!text.empty()) {
    size_t skip = 0;
    const size_t length = SequenceLength(text, skip);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string ReplaceIllFormed(std::string_view text) {
  std::string replaced;
  while (!text.empty()) {
    size_t skip = 0;
    const size_t length = SequenceLength(text, skip);
    replaced += length > 0 ? text.substr(0, length) : std::string_view("\xEF\xBF\xBD");
    text.remove_prefix(length > 0 ? length : skip);
  }
  return replaced;
}

}  // namespace shoal
