#pragma once

// The tables of filters.

#include <functional>
#include <map>
#include <string>

#include "parallel/text/jinja/builtins/builtins.h"
#include "parallel/text/jinja/evaluator.h"

namespace shoal::text::jinja {

using Filter = Value (*)(Evaluator&, const Value&, const Arguments&);

// Adds the filters that take or give sequences.
void AddSequenceFilters(std::map<std::string, Filter, std::less<>>& table);

}  // namespace shoal::text::jinja
