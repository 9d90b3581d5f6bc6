#pragma once

// Whether text is UTF-8, and making it so. Names and texts come from file systems, models and other
// programs; JSON, metrics and clients take nothing else.

#include <string>
#include <string_view>

namespace shoal {

bool IsWellFormedUtf8(std::string_view text);

// Ill-formed UTF-8 replaced by U+FFFD, one for each maximal ill-formed part.
std::string ReplaceIllFormed(std::string_view text);

}  // namespace shoal
