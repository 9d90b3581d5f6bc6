#pragma once

// What happens to a text before it is cut and merged, by the rules of its tokenizer.

#include <span>
#include <string_view>

#include "parallel/text/nfc.h"
#include "parallel/text/tokenizer/tokenizer.h"
#include "parallel/text/tokenizer/tokenizer_spec.h"

namespace shoal::text {

// text[range] with spaces written U+2581 and, where `prefix` says so, one in front (never of an
// empty text; `first`: whether text[range] begins the whole text). `plain` is ordered, disjoint and
// in terms of `text`; the one in front is not plain.
NormalizedText MarkSpaces(std::string_view text, ByteRange range, std::span<const ByteRange> plain,
                          SpacePrefix prefix, bool first);

}  // namespace shoal::text
