#include "transport/link/process_identity.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

// Reads /proc/<pid>/stat: "pid (name) state ppid ... starttime ...", where the name may hold
// anything.

namespace shoal::link {
namespace {

struct ProcStat {
  char state = 'X';  // X: no such process.
  uint64_t start_ticks = 0;
};

ProcStat ReadProcStat(pid_t pid) {
  char path[32];
  std::snprintf(path, sizeof(path), "/proc/%d/stat", static_cast<int>(pid));
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  char text[1024];
  const ssize_t length = read(fd, text, sizeof(text) - 1);
  close(fd);
  if (length <= 0) return {};
  text[length] = '\0';
  const char* at = std::strrchr(text, ')');
  if (at == nullptr || at[1] == '\0') return {};
  ProcStat stat{.state = at[2]};
  // The state is field 3 and the start time field 22; a space precedes each.
  at += 1;
  for (int field = 3; field < 22 && at != nullptr; ++field) at = std::strchr(at + 1, ' ');
  if (at == nullptr) return {};
  stat.start_ticks = std::strtoull(at, nullptr, 10);
  return stat;
}

}  // namespace

ProcessIdentity ThisProcess() {
  const pid_t pid = getpid();
  return {pid, ReadProcStat(pid).start_ticks};
}

bool IsAlive(const ProcessIdentity& process) {
  const ProcStat stat = ReadProcStat(process.pid);
  return stat.state != 'X' && stat.state != 'Z' && stat.start_ticks == process.start_ticks;
}

}  // namespace shoal::link
