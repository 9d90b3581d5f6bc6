#pragma once

// The process's MPI state and the polling that the mpi_* files share. Nothing else includes this or
// <mpi.h>.

#include <mpi.h>
#include <sched.h>

#include <cstdint>
#include <ctime>
#include <memory>
#include <mutex>
#include <vector>

#include "transport/base/clock.h"
#include "transport/base/error.h"

namespace shoal::comm {

struct MpiRuntime {
  std::mutex mutex;  // Held during every call of MPI: we ask only for MPI_THREAD_SERIALIZED.
  MPI_Comm start_comm = MPI_COMM_NULL;  // For Broadcast and AllGather.
  MPI_Comm end_comm = MPI_COMM_NULL;    // For the last barrier.
  bool failed = false;                  // A communicator failed. Guarded by mutex.
  // What MPI may still write to or read from after a failure: kept until it has ended.
  std::vector<std::shared_ptr<void>> graveyard;  // Guarded by mutex.
};

inline void CheckMpi(int result, const char* call) {
  if (result == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(result, text, &length);
  Throw(ErrorCode::kFailed, call, ": ", std::string(text, static_cast<size_t>(length)));
}

// Polling, because MPI 3 offers no wait with an end: tight first, then lending the core, then
// sleeping for longer and longer, at most 200 us.
class MpiBackoff {
 public:
  void Wait() {
    ++turns_;
    if (turns_ < kTight) return;
    if (turns_ < kYields) {
      sched_yield();
      return;
    }
    const int64_t microseconds = turns_ < kYields + kShortSleeps ? 20 : 200;
    const timespec time{.tv_sec = 0, .tv_nsec = microseconds * 1000};
    nanosleep(&time, nullptr);
  }

 private:
  static constexpr int32_t kTight = 50;
  static constexpr int32_t kYields = 500;
  static constexpr int32_t kShortSleeps = 500;
  int32_t turns_ = 0;
};

}  // namespace shoal::comm
