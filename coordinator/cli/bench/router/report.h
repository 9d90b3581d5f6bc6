#pragma once

// A router benchmark's result for people: what a decision, an admission and a hop cost, and the
// targets beside what was reached. Pure.

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace shoal::cli {

// What each figure means, as --help shows it.
extern const char* const kRouterFormulas;

// Adds targets: [{target, wanted, reached, met}], null where nothing was measured.
void AddRouterTargets(nlohmann::ordered_json& result);

// Of a result with targets.
std::string RouterText(const nlohmann::ordered_json& result);

}  // namespace shoal::cli
