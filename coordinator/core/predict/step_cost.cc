#include "coordinator/core/predict/step_cost.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <utility>

namespace shoal::core {
namespace {

constexpr size_t kCosts = 3;
// After so many seconds of work a sample counts for 1/e.
constexpr double kMemorySeconds = 10;
// Relative to each feature's own weight: splits the cost where two features only ever grow
// together.
constexpr double kRidge = 1e-4;
constexpr double kMicrosecond = 1e-6;

using Vector = std::array<double, kCosts>;
using Matrix = std::array<Vector, kCosts>;

// The least squares solution in which only the features of `subset` (bits) cost anything, by
// elimination. None if one of them would cost less than nothing.
std::optional<Vector> SolveFor(unsigned subset, Matrix a, Vector b) {
  Vector x{};
  for (size_t i = 0; i < kCosts; ++i) {
    const bool in = (subset >> i & 1) != 0 && a[i][i] > 0;
    for (size_t j = 0; j < kCosts && !in; ++j) a[i][j] = a[j][i] = 0;
    if (!in) b[i] = 0;
    a[i][i] = in ? a[i][i] * (1 + kRidge) : 1;
  }
  for (size_t i = 0; i < kCosts; ++i) {
    for (size_t k = i + 1; k < kCosts; ++k) {
      const double factor = a[k][i] / a[i][i];
      for (size_t j = i; j < kCosts; ++j) a[k][j] -= factor * a[i][j];
      b[k] -= factor * b[i];
    }
  }
  for (size_t i = kCosts; i-- > 0;) {
    double sum = b[i];
    for (size_t j = i + 1; j < kCosts; ++j) sum -= a[i][j] * x[j];
    x[i] = sum / a[i][i];
    if (x[i] < 0) return std::nullopt;
  }
  return x;
}

// The squared error but for the samples' own squares, which are the same for all x.
double ErrorOf(const Vector& x, const Matrix& a, const Vector& b) {
  double error = 0;
  for (size_t i = 0; i < kCosts; ++i) {
    for (size_t j = 0; j < kCosts; ++j) error += x[i] * a[i][j] * x[j];
    error -= 2 * x[i] * b[i];
  }
  return error;
}

}  // namespace

void StepCost::Learn(const SchedulerStats& stats) {
  const SchedulerStats before = std::exchange(last_, stats);
  if (!std::exchange(has_last_, true)) return;
  const auto since = [&](int64_t SchedulerStats::*counter) {
    return static_cast<double>(stats.*counter - before.*counter);
  };
  const Vector x = {since(&SchedulerStats::steps_total), since(&SchedulerStats::prompt_rows_total),
                    since(&SchedulerStats::generated_tokens_total)};
  const double seconds = since(&SchedulerStats::busy_us_total) * kMicrosecond;
  // Counters that fall are those of another scheduler; steps without work are no measure of it.
  if (seconds <= 0 || std::ranges::any_of(x, [](double count) { return count < 0; }) ||
      x[1] + x[2] <= 0) {
    return;
  }
  rows_seen_ = rows_seen_ || x[1] > 0;
  tokens_seen_ = tokens_seen_ || x[2] > 0;
  const double decay = std::exp(-seconds / kMemorySeconds);
  for (size_t i = 0; i < kCosts; ++i) {
    for (size_t j = 0; j < kCosts; ++j) xx_[i][j] = xx_[i][j] * decay + x[i] * x[j];
    xy_[i] = xy_[i] * decay + x[i] * seconds;
  }
  solved_ = false;
}

const StepCost::Vector& StepCost::Solution() const {
  if (std::exchange(solved_, true)) return solution_;
  double least = 0;
  for (unsigned subset = 1; subset < 1U << kCosts; ++subset) {
    const std::optional<Vector> x = SolveFor(subset, xx_, xy_);
    if (!x) continue;
    const double error = ErrorOf(*x, xx_, xy_);
    if (error >= least) continue;
    least = error;
    solution_ = *x;
  }
  return solution_;
}

}  // namespace shoal::core
