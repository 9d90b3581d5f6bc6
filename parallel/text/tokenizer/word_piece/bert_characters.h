#pragma once

// The kinds of characters that BERT's normalization and words depend on.

namespace shoal::text {

// The characters with the property White_Space.
bool IsBertSpace(char32_t c);
// What cleaning drops: control, format and private-use characters, and U+FFFD.
bool IsBertControl(char32_t c);
bool IsBertPunctuation(char32_t c);
// Marks that take no space of their own.
bool IsBertAccent(char32_t c);
bool IsBertChinese(char32_t c);

}  // namespace shoal::text
