#pragma once

// The file of --breaker-rules: configs/breaker_rules.yaml shows and explains one.

#include <string>

#include "coordinator/core/guard/guard_rules.h"

namespace shoal::gateway {

// Errors of both: kInvalidArgument, "FILE, line N: KEY: expected ..., found ...".
core::GuardRules ReadBreakerRules(const std::string& path);
// For tests: `name` stands for the file's.
core::GuardRules ParseBreakerRules(const std::string& text, const std::string& name);

}  // namespace shoal::gateway
