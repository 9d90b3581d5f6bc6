#pragma once

// Which process a pid meant when it was written down.

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

// Whether it still runs, or is stopped. A zombie does not run: its parent may never collect it.
bool IsAlive(const ProcessIdentity& process);

}  // namespace shoal::link
