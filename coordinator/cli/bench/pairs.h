#pragma once

// Ratios of paired measurements: both runs of a pair meet about the same machine, so ratios say
// more than speeds. Pure.

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

namespace shoal::cli {

struct PairedRatio {
  double median = 0;
  double lowest = 0;
  double highest = 0;

  // {"median", "lowest", "highest"}
  nlohmann::ordered_json ToJson() const;
  // "0.97 (0.95 to 0.99)"
  std::string ToText() const;
};

// Of the pairs' figures, whatever was made of each pair. Precondition: not empty.
PairedRatio SpreadOf(std::vector<double> values);

// The ratios runs[i][figure] / others[i][figure]. Preconditions: as many of both, at least one.
// Errors: kFailed if a run lacks the figure.
PairedRatio ComparePairs(std::span<const nlohmann::ordered_json> runs,
                         std::span<const nlohmann::ordered_json> others, const std::string& figure);

}  // namespace shoal::cli
