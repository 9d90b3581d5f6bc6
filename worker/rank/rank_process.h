#pragma once

// The process of one rank, from its command line to its exit status.

#include "worker/rank/serving/stop_signal.h"

namespace shoal::rank {

struct ProcessEnd {
  int status = 0;
  // A thread still runs that cannot be ended, and ordinary exit would destroy what it uses: use
  // _exit.
  bool abruptly = false;
};

// Prints an error once for all ranks if they can agree on one. `argv[0]` is skipped.
ProcessEnd RunRankProcess(int argc, const char* const* argv, const StopSignal& stop);

}  // namespace shoal::rank
