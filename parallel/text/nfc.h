#pragma once

// Unicode's normalization form C, which some vocabularies are trained on.
//
// Source: Unicode Standard Annex 15, with the data of Unicode 14.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/text/tokenizer/tokenizer.h"

namespace shoal::text {

struct NormalizedText {
  std::string text;
  std::vector<ByteRange> plain;  // Where any character that went in was plain.
};

// Normalizes text[range]; `plain` is ordered, disjoint and in terms of `text`. Ill-formed bytes
// stay as they are. Cost: O(n log n).
NormalizedText NormalizeNfc(std::string_view text, ByteRange range,
                            std::span<const ByteRange> plain);

// A canonical decomposition; second is 0 if there is only one character. Only those that `composes`
// come about by composition. Ordered by `code_point`.
struct Decomposition {
  uint32_t code_point;
  uint32_t first;
  uint32_t second;
  bool composes;
};

// Characters [first, first + count) with a combining class other than 0. Ordered.
struct CombiningRange {
  uint32_t first;
  uint16_t count;
  uint8_t combining_class;
};

std::span<const Decomposition> Decompositions();
std::span<const CombiningRange> CombiningRanges();

}  // namespace shoal::text
