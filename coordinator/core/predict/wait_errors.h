#pragma once

// How well waits were predicted.

#include <cstddef>
#include <vector>

#include "transport/base/group.h"

namespace shoal::core {

// Threading: none; owned by WaitPredictor.
class WaitErrors {
 public:
  // As a share of the wait that it was. Of the last kKept, the median is told.
  void Note(double error);
  WaitErrorStatus status() const;

 private:
  static constexpr size_t kKept = 512;

  std::vector<double> last_;
  size_t next_ = 0;  // Where the next one goes once there are kKept.
  WaitErrorStatus counts_;
};

}  // namespace shoal::core
