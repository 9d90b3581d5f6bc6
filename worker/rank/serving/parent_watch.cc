#include "worker/rank/serving/parent_watch.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdlib>

namespace shoal::rank {

void EndWithLauncher() {
  if (std::getenv("OMPI_COMM_WORLD_RANK") == nullptr) return;
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return;  // Kernels before 2.1.57.
  if (getppid() == 1) _exit(1);  // It ended before the line above: init has this process now.
}

}  // namespace shoal::rank
