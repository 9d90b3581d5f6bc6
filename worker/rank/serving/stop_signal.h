#pragma once

// SIGINT and SIGTERM as a word that loops look at.

#include <atomic>
#include <cstdint>

namespace shoal::rank {

enum class StopRequest : uint8_t {
  kNone,
  kDrain,  // SIGTERM: end once others have the group's streams.
  kNow,    // SIGINT, or a second SIGTERM.
};

// Takes the two signals over for the rest of the process, so one is made, in main(). Signals that
// other processes of the job get too (a terminal's, mpirun's) reach every rank.
class StopSignal {
 public:
  StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  // What has arrived so far; it only rises.
  const std::atomic<StopRequest>& request() const;
};

}  // namespace shoal::rank
