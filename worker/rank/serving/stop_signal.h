#pragma once

// SIGINT and SIGTERM as a flag that loops look at.

#include <atomic>

namespace shoal::rank {

// Takes the two signals over for the rest of the process, so one is made, in main(). Signals that
// other processes of the job get too (a terminal's, mpirun's) reach every rank.
class StopSignal {
 public:
  StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  // Whether one of them has arrived.
  const std::atomic<bool>& flag() const;
};

}  // namespace shoal::rank
