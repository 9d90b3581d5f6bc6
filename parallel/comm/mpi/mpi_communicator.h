#pragma once

// Collectives through MPI, to compare the others with and for networks that only MPI knows.

#include <memory>

#include "parallel/comm/communicator.h"
#include "parallel/comm/mpi/mpi_environment.h"

namespace shoal::comm {

// All ranks of the job, over a duplicate of its world. Collective.
// Differs:   copies its operands into memory of its own, which grows with the largest operation.
// One operation moves
//            less than 2 GiB. Split blocks in MPI until all ranks call it. When a rank is killed,
//            the promise is mpirun's: the job ends with a non-zero status and no process is left.
//            Different operations are noticed only as messages of different size.
// Waiting:   polls, yields, then sleeps up to 200 us at a time.
std::unique_ptr<Communicator> MakeMpiCommunicator(MpiEnvironment& environment, Deadline deadline);

}  // namespace shoal::comm
