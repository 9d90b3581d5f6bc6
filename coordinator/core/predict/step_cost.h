#pragma once

// What a group's steps cost, learned from what its leader counts.

#include <array>

#include "transport/base/scheduler_stats.h"

namespace shoal::core {

// Fits the busy time between two reports as a cost for each step, for each row of a prompt and for
// each token that was chosen, none of them negative, by least squares; what was measured half a
// minute of work ago counts for little. Threading: none.
class StepCost {
 public:
  // Of one group, in order. The first one only tells where its counters stand.
  void Learn(const SchedulerStats& stats);

  // Enough was seen to predict from: a prompt and an answer.
  bool known() const { return rows_seen_ && tokens_seen_; }
  // In seconds; known().
  double step() const { return Solution()[0]; }
  double row() const { return Solution()[1]; }
  double token() const { return Solution()[2]; }
  // Of a step in which so many sequences get a token each.
  double StepOf(double sequences) const { return step() + token() * sequences; }
  // Of the steps that were lately, whatever was in them.
  double mean_step() const { return xx_[0][0] > 0 ? xy_[0] / xx_[0][0] : 0; }

 private:
  using Vector = std::array<double, 3>;

  const Vector& Solution() const;

  SchedulerStats last_{};
  bool has_last_ = false;
  bool rows_seen_ = false;
  bool tokens_seen_ = false;
  // Decaying sums over the samples x (steps, rows, tokens) and y (seconds).
  std::array<Vector, 3> xx_{};
  Vector xy_{};
  mutable Vector solution_{};
  mutable bool solved_ = true;
};

}  // namespace shoal::core
