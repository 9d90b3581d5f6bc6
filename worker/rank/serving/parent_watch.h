#pragma once

// Ties a rank's life to that of whoever started it.

namespace shoal::rank {

// If an MPI launcher started this process: the kernel kills it when the launcher ends, however that
// ends; and if the launcher has ended already, it ends here, with status 1. Otherwise nothing. Call
// it first in main().
void EndWithLauncher();

}  // namespace shoal::rank
