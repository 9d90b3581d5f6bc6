#pragma once

// Rewrites an Oniguruma expression as one that means the same to PCRE2.

#include <string>
#include <string_view>

namespace shoal::text {

// Errors: kInvalidArgument, naming the construct, for anything that is not known to mean the same.
std::string PcrePattern(std::string_view pattern);

}  // namespace shoal::text
