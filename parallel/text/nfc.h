#pragma once

// Unicode's normalization forms C and D, which some vocabularies are trained on.
//
// Source: Unicode Standard Annex 15. The characters' properties are utf8proc's.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/text/tokenizer/tokenizer.h"

namespace shoal::text {

struct NormalizedText {
  std::string text;
  std::vector<ByteRange> plain;  // Where any character that went in was plain.

  void Append(std::string_view bytes, bool is_plain);
};

// Normalizes text[range]; `plain` is ordered, disjoint and in terms of `text`. Ill-formed bytes
// stay as they are. Cost: O(n log n).
NormalizedText NormalizeNfc(std::string_view text, ByteRange range,
                            std::span<const ByteRange> plain);

// The same without composing.
NormalizedText NormalizeNfd(std::string_view text, ByteRange range,
                            std::span<const ByteRange> plain);

}  // namespace shoal::text
