#include "coordinator/cli/bench/pairs.h"

#include <algorithm>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>
#include <vector>

#include "transport/base/check.h"
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
  return SpreadOf(std::move(ratios));
}

PairedRatio SpreadOf(std::vector<double> values) {
  SHOAL_CHECK(!values.empty(), "a spread of nothing");
  std::ranges::sort(values);
  const size_t middle = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

}  // namespace shoal::cli
