// Runs between spaces and borders of what is plain are copied whole.

#include "parallel/text/tokenizer/normalizer.h"

#include <algorithm>

namespace shoal::text {

NormalizedText MarkSpaces(std::string_view text, ByteRange range, std::span<const ByteRange> plain,
                          SpacePrefix prefix, bool first) {
  NormalizedText marked;
  if (range.begin == range.end) return marked;
  const std::string_view rest = text.substr(range.begin, range.end - range.begin);
  const bool missing = rest[0] != ' ' && !rest.starts_with(kSpaceMark);
  if (prefix == SpacePrefix::kAlways || (prefix == SpacePrefix::kWhereMissing && missing) ||
      (prefix == SpacePrefix::kFirstWhereMissing && missing && first)) {
    marked.Append(kSpaceMark, false);
  }
  auto next_plain = FirstEndingAfter(plain, range.begin);
  for (size_t at = range.begin; at < range.end;) {
    while (next_plain != plain.end() && next_plain->end <= at) ++next_plain;
    const bool is_plain = next_plain != plain.end() && next_plain->begin <= at;
    size_t border = range.end;
    if (next_plain != plain.end()) border = is_plain ? next_plain->end : next_plain->begin;
    const size_t end = std::min({border, range.end, text.find(' ', at)});
    if (end > at) {
      marked.Append(text.substr(at, end - at), is_plain);
      at = end;
    } else {
      marked.Append(kSpaceMark, is_plain);
      ++at;
    }
  }
  return marked;
}

}  // namespace shoal::text
