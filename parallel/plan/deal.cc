#include "parallel/plan/deal.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "transport/base/check.h"

// Integer shares of real proportions, and the balanced partition of a row of layers.

namespace shoal::plan {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// best[stage][end]: the cost of dealing layers [0, end) to stages 0..stage.
using CostTable = std::vector<std::vector<double>>;

class LayerDealer {
 public:
  LayerDealer(const LayerLoads& loads, std::span<const double> speeds)
      : loads_(loads), speeds_(speeds), bytes_before_(1, 0) {
    for (const int64_t bytes : loads.layers) {
      bytes_before_.push_back(bytes_before_.back() + bytes);
    }
  }

  std::vector<Range> Deal() {
    const double bottleneck =
        Fill([](double before, double load) { return std::max(before, load); }, kInfinity);
    Fill([](double before, double load) { return before + load * load; }, bottleneck);
    std::vector<Range> ranges(speeds_.size());
    int64_t end = layer_count();
    for (size_t stage = speeds_.size(); stage-- > 0;) {
      const int64_t begin = begin_[stage][static_cast<size_t>(end)];
      ranges[stage] = {begin, end};
      end = begin;
    }
    return ranges;
  }

 private:
  int64_t layer_count() const { return static_cast<int64_t>(loads_.layers.size()); }

  double Load(size_t stage, int64_t begin, int64_t end) const {
    int64_t bytes =
        bytes_before_[static_cast<size_t>(end)] - bytes_before_[static_cast<size_t>(begin)];
    bytes += stage == 0 ? loads_.first_stage : 0;
    bytes += stage + 1 == speeds_.size() ? loads_.last_stage : 0;
    return static_cast<double>(bytes) / speeds_[stage];
  }

  // Fills best_ and begin_ with the cheapest deal whose loads all stay within `load_max`; the cost
  // of all layers over all stages is returned.
  template <typename Combine>
  double Fill(Combine combine, double load_max) {
    const auto width = static_cast<size_t>(layer_count() + 1);
    best_.assign(speeds_.size(), std::vector<double>(width, kInfinity));
    begin_.assign(speeds_.size(), std::vector<int64_t>(width, 0));
    for (size_t stage = 0; stage < speeds_.size(); ++stage) {
      for (int64_t end = 1; end <= layer_count(); ++end) {
        // The latest begin first: of equal costs it leaves the most layers to earlier stages.
        const int64_t first = stage == 0 ? 0 : 1;
        const int64_t last = stage == 0 ? 0 : end - 1;
        for (int64_t begin = last; begin >= first; --begin) {
          const double before = stage == 0 ? 0 : best_[stage - 1][static_cast<size_t>(begin)];
          const double load = Load(stage, begin, end);
          if (load > load_max || before == kInfinity) {
            continue;
          }
          const double cost = combine(before, load);
          if (cost < best_[stage][static_cast<size_t>(end)]) {
            best_[stage][static_cast<size_t>(end)] = cost;
            begin_[stage][static_cast<size_t>(end)] = begin;
          }
        }
      }
    }
    return best_.back().back();
  }

  const LayerLoads& loads_;
  std::span<const double> speeds_;
  std::vector<int64_t> bytes_before_;
  CostTable best_;
  std::vector<std::vector<int64_t>> begin_;
};

}  // namespace

std::vector<Range> DealUnits(int64_t unit_count, std::span<const double> speeds) {
  const auto rank_count = static_cast<int64_t>(speeds.size());
  SHOAL_CHECK(rank_count >= 1 && unit_count >= rank_count, unit_count, " units, ", rank_count);
  const double total = std::accumulate(speeds.begin(), speeds.end(), 0.0);
  std::vector<double> shares;
  std::vector<int64_t> counts;
  for (const double speed : speeds) {
    shares.push_back(static_cast<double>(unit_count) * speed / total);
    counts.push_back(
        std::clamp(static_cast<int64_t>(std::floor(shares.back())), int64_t{1}, unit_count));
  }
  const auto lacking = [&](size_t rank) {
    return shares[rank] - static_cast<double>(counts[rank]);
  };
  int64_t left = unit_count - std::accumulate(counts.begin(), counts.end(), int64_t{0});
  for (; left > 0; --left) {
    size_t poorest = 0;
    for (size_t rank = 1; rank < counts.size(); ++rank) {
      poorest = lacking(rank) > lacking(poorest) ? rank : poorest;
    }
    ++counts[poorest];
  }
  // The minimum of one can have dealt too many. Then some rank has two, as there are enough units.
  for (; left < 0; ++left) {
    size_t richest = counts.size();
    for (size_t rank = 0; rank < counts.size(); ++rank) {
      if (counts[rank] > 1 && (richest == counts.size() || lacking(rank) <= lacking(richest))) {
        richest = rank;
      }
    }
    --counts[richest];
  }
  std::vector<Range> ranges;
  int64_t begin = 0;
  for (const int64_t count : counts) {
    ranges.push_back({begin, begin + count});
    begin += count;
  }
  return ranges;
}

std::vector<Range> DealLayers(const LayerLoads& loads, std::span<const double> speeds) {
  SHOAL_CHECK(!speeds.empty() && loads.layers.size() >= speeds.size(), loads.layers.size(),
              " layers, ", speeds.size(), " stages");
  return LayerDealer(loads, speeds).Deal();
}

}  // namespace shoal::plan
