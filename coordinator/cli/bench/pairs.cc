#include "coordinator/cli/bench/pairs.h"

#include <algorithm>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "transport/base/error.h"

namespace shoal::cli {
namespace {

double FigureOf(const nlohmann::ordered_json& run, const std::string& figure) {
  const auto found = run.find(figure);
  if (found == run.end() || !found->is_number() || !(found->get<double>() > 0)) {
    Throw(ErrorCode::kFailed, "a run lacks the figure ", figure, ": ", run.dump());
  }
  return found->get<double>();
}

}  // namespace

nlohmann::ordered_json PairedRatio::ToJson() const {
  return {{"median", median}, {"lowest", lowest}, {"highest", highest}};
}

std::string PairedRatio::ToText() const {
  std::ostringstream text;
  text << std::fixed << std::setprecision(3) << median << " (" << lowest << " to " << highest
       << ")";
  return text.str();
}

PairedRatio ComparePairs(std::span<const nlohmann::ordered_json> runs,
                         std::span<const nlohmann::ordered_json> others,
                         const std::string& figure) {
  SHOAL_CHECK(!runs.empty() && runs.size() == others.size(), runs.size(), " and ", others.size());
  std::vector<double> ratios;
  for (size_t i = 0; i < runs.size(); ++i) {
    ratios.push_back(FigureOf(runs[i], figure) / FigureOf(others[i], figure));
  }
  std::sort(ratios.begin(), ratios.end());
  const size_t middle = ratios.size() / 2;
  const double median =
      ratios.size() % 2 == 1 ? ratios[middle] : (ratios[middle - 1] + ratios[middle]) / 2;
  return {median, ratios.front(), ratios.back()};
}

}  // namespace shoal::cli
