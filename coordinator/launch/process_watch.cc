#include "coordinator/launch/process_watch.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace shoal::launch {

// The C library has no function for it yet.
ProcessWatch::ProcessWatch(pid_t pid)
    : descriptor_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))) {}

ProcessWatch::~ProcessWatch() {
  if (descriptor_ >= 0) close(descriptor_);
}

bool ProcessWatch::HasEnded() const {
  pollfd file{descriptor_, POLLIN, 0};
  return descriptor_ >= 0 && poll(&file, 1, 0) > 0;
}

}  // namespace shoal::launch
