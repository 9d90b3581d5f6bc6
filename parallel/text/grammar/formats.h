#pragma once

// Regular expressions for the strings that each `format` of JSON schemas allows.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/text/grammar/regular/expression.h"

namespace shoal::text::grammar {

struct StringFormat {
  std::vector<std::string> patterns;  // All match the whole string.
  uint32_t length_max = kUnlimited;
};

// Null if there is none of that name.
const StringFormat* FindFormat(std::string_view name);

// "date, date-time, ...", for messages.
std::string FormatNames();

}  // namespace shoal::text::grammar
