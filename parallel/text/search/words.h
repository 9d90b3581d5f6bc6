#pragma once

// The words of a text, as people search for them.

#include <string>
#include <string_view>
#include <vector>

namespace shoal::text {

// Runs of letters, marks and digits in any script, case folded and in NFKC, in order. Scripts that
// write no spaces (Han, Hiragana, Katakana) give a word for each character. Ill-formed UTF-8
// separates words. At most `words_max`; what follows is left out.
std::vector<std::string> SplitWords(std::string_view text, size_t words_max);

}  // namespace shoal::text
