#include "worker/rank/serving/parent_watch.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdlib>

namespace shoal::rank {

void EndWithLauncher() {
  if (std::getenv("OMPI_COMM_WORLD_RANK") == nullptr) return;
  // Read before the kernel is asked, so that an end in between is seen below.
  const pid_t launcher = getppid();
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return;  // Kernels before 2.1.57.
  // It ended before the line above: init has this process now, or a subreaper.
  if (launcher == 1 || getppid() != launcher) _exit(1);
}

}  // namespace shoal::rank
