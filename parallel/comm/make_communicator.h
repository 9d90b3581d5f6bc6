#pragma once

// The communicator of a rank that a launcher started.

#include <cstdint>
#include <memory>
#include <string>

#include "parallel/comm/communicator.h"
#include "parallel/comm/mpi/mpi_environment.h"

namespace shoal::comm {

// kAuto: kShm if all ranks are on one machine, else kTcp.
enum class CommKind : uint8_t { kAuto, kShm, kTcp, kMpi };

struct CommunicatorPlan {
  CommKind kind = CommKind::kAuto;
  // For kTcp: known to this group's ranks only. Rank 0 adds a random part. Shared memory is guarded
  // by its owner and a random token alone, MPI by whatever mpirun does.
  std::string token = {};
  // For kTcp: an address of this machine that the other ranks reach. Empty: 127.0.0.1, if all ranks
  // are on one machine.
  std::string listen_host = {};
  // How many threads of each rank compute.
  int32_t threads_per_rank = 1;
  // For joining, and for all operations until SetDeadline.
  Deadline deadline = {};
};

// MPI only exchanges addresses, unless `kind` is kMpi. Collective. A single rank needs neither MPI
// nor peers, whatever the kind. The environment must outlive the communicator. Errors:
// kInvalidArgument for kShm over several machines, and for kTcp over several machines without
// listen_host; those of joining.
std::unique_ptr<Communicator> MakeCommunicator(MpiEnvironment& environment,
                                               const CommunicatorPlan& plan);

}  // namespace shoal::comm
