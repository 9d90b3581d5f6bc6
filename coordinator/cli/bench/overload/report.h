#pragma once

// An overload benchmark's result for people: a table, targets beside what was reached, and which
// layer caught what. Pure.

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace shoal::cli {

// Fills what needs all runs: peak_per_second, each run's goodput_share and ttft_ratio, and targets.
void CompleteResult(nlohmann::ordered_json& result);

// Of a completed result.
std::string OverloadText(const nlohmann::ordered_json& result);

// A plot of goodput over offered load in the steady runs, with a line for each arm that has two of
// them or more, as an SVG file. Both axes are in requests per second; the offered load's is
// logarithmic.
std::string OverloadPlot(const nlohmann::ordered_json& result);

}  // namespace shoal::cli
