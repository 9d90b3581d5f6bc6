#pragma once

// The MPI job that this process is a rank of, if it is one.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "transport/base/clock.h"

namespace shoal::comm {

struct MpiRuntime;

// Initialises MPI for its lifetime. A process that no MPI launcher started, and the only rank of a
// job, is rank 0 of 1 and never calls MPI. One at a time, made first and destroyed last in main().
// The end:   ranks leave MPI together. One that ends with an exception, or whose group failed,
//            waits a second for the others, any other rank 10 s; then it leaves without them, and
//            mpirun ends the job with a non-zero status.
// Threading: one thread makes, uses and destroys it.
// Errors:    kInvalidArgument if Slurm started several ranks without telling MPI about it.
class MpiEnvironment {
 public:
  MpiEnvironment();
  MpiEnvironment(const MpiEnvironment&) = delete;
  ~MpiEnvironment();

  int32_t rank() const { return rank_; }
  int32_t size() const { return size_; }
  // Among the ranks of this machine.
  int32_t local_rank() const { return local_rank_; }
  int32_t local_size() const { return local_size_; }

  // For addresses and tokens at the start; data goes through a Communicator. Collective.
  // Errors: kDeadlineExceeded, kFailed.
  void Broadcast(std::span<std::byte> data, int32_t root, Deadline deadline);
  // Every rank's text, in rank order.
  std::vector<std::string> AllGather(const std::string& text, Deadline deadline);

  // For MpiCommunicator. Null when MPI is not in use.
  MpiRuntime* runtime() const { return runtime_.get(); }

 private:
  void Leave();

  std::unique_ptr<MpiRuntime> runtime_;
  int32_t rank_ = 0;
  int32_t size_ = 1;
  int32_t local_rank_ = 0;
  int32_t local_size_ = 1;
};

}  // namespace shoal::comm
