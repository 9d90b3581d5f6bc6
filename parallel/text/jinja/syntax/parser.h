#pragma once

// Template text to its tree.

#include <string>

#include "parallel/text/jinja/syntax/ast.h"

namespace shoal::text::jinja {

// Errors: kInvalidArgument with the line, naming the construct, filter or test that is not
// supported.
Body Parse(std::string source);

}  // namespace shoal::text::jinja
