#include "transport/base/host/cores.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>

// Asks the kernel, because the standard library's count knows of no quota.

namespace shoal {
namespace {

// Whole cores of the cgroup's CPU quota ("max 100000" or "200000 100000"), at least 1; INT32_MAX
// without one.
int32_t QuotaCores() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  int64_t period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return INT32_MAX;
  const int64_t allowed = std::strtoll(quota.c_str(), nullptr, 10);
  return static_cast<int32_t>(std::clamp<int64_t>(allowed / period, 1, INT32_MAX));
}

}  // namespace

int32_t MachineCores() {
  const int64_t cores = std::clamp<int64_t>(sysconf(_SC_NPROCESSORS_ONLN), 1, INT32_MAX);
  return std::min(static_cast<int32_t>(cores), QuotaCores());
}

int32_t AvailableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int32_t cores = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
  return std::min(std::max(cores, 1), MachineCores());
}

}  // namespace shoal
