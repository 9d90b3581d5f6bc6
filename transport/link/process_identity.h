#pragma once

// A process by its pid and start time: the kernel gives a pid away again, and another process must
// not be taken for the one that ended.

#include <sys/types.h>

#include <cstdint>

namespace shoal::link {

// A pid alone is reused; with its start time it is not.
struct ProcessIdentity {
  pid_t pid = 0;
  uint64_t start_ticks = 0;  // Since boot, as in /proc/<pid>/stat.

  bool operator==(const ProcessIdentity&) const = default;
};

ProcessIdentity ThisProcess();

// True while the process runs or is stopped; false for a zombie, which its parent may never
// collect.
bool IsAlive(const ProcessIdentity& process);

}  // namespace shoal::link
