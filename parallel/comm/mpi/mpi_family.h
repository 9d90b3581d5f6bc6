#pragma once

// A family: an MPI communicator and all that are split from it. The first failure of one ends all.
// Included by mpi_*.cc only.

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "parallel/comm/group_failure.h"
#include "parallel/comm/mpi/mpi_runtime.h"

namespace shoal::comm {

// News of a failure travels as a message on a communicator of its own, which every waiting rank
// polls. Threading: Fail() and failure() are thread-safe; all other calls with the runtime's mutex
// held.
class MpiFamily : public std::enable_shared_from_this<MpiFamily> {
 public:
  // Collective.
  explicit MpiFamily(MpiRuntime& runtime);
  MpiFamily(const MpiFamily&) = delete;
  ~MpiFamily();

  MpiRuntime& runtime() { return runtime_; }
  GroupFailure failure() const;
  // Keeps the first failure and sends it to all ranks.
  void Fail(GroupFailure failure);
  // Looks for another rank's news.
  void Poll();

 private:
  MpiRuntime& runtime_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  MPI_Request news_request_ = MPI_REQUEST_NULL;
  uint32_t news_ = 0;
  uint32_t sent_ = 0;
  std::atomic<uint32_t> failure_{0};
};

}  // namespace shoal::comm
