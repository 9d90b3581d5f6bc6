// A mistyped name's nearest neighbour.

#include <algorithm>
#include <numeric>

#include "transport/config/options.h"

namespace shoal::config {
namespace {

// Insertions, deletions and replacements that turn one into the other.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string Suggestion(std::string_view word, const std::vector<std::string>& words) {
  std::string nearest;
  size_t nearest_distance = word.size() / 3 + 1;  // Farther than that is another word.
  for (const std::string& candidate : words) {
    const size_t distance = EditDistance(word, candidate);
    if (distance >= nearest_distance + (nearest.empty() ? 1 : 0)) continue;
    nearest = candidate;
    nearest_distance = distance;
  }
  return nearest.empty() ? "" : ", did you mean " + nearest + "?";
}

}  // namespace shoal::config
