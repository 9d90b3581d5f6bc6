#include "coordinator/core/predict/wait_errors.h"

#include <algorithm>
#include <iterator>

namespace shoal::core {

void WaitErrors::Note(double error) {
  const auto bound = std::ranges::lower_bound(kWaitErrorRatios, error);
  ++counts_.counts[static_cast<size_t>(bound - std::begin(kWaitErrorRatios))];
  counts_.sum += error;
  if (last_.size() < kKept) {
    last_.push_back(error);
  } else {
    last_[next_] = error;
    next_ = (next_ + 1) % kKept;
  }
}

WaitErrorStatus WaitErrors::status() const {
  WaitErrorStatus status = counts_;
  if (last_.empty()) return status;
  std::vector<double> sorted = last_;
  const auto middle = sorted.begin() + std::ssize(sorted) / 2;
  std::ranges::nth_element(sorted, middle);
  status.median = *middle;
  return status;
}

}  // namespace shoal::core
