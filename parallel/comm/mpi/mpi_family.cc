#include "parallel/comm/mpi/mpi_family.h"

// Aborting across ranks, which MPI itself offers only for whole jobs.

namespace shoal::comm {

MpiFamily::MpiFamily(MpiRuntime& runtime) : runtime_(runtime) {
  CheckMpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
  CheckMpi(MPI_Irecv(&news_, 1, MPI_UINT32_T, MPI_ANY_SOURCE, 0, comm_, &news_request_),
           "MPI_Irecv");
}

MpiFamily::~MpiFamily() {
  const std::lock_guard lock(runtime_.mutex);
  int finalized = 0;
  MPI_Finalized(&finalized);
  // After a failure messages may be under way; MPI_Finalize takes care of them.
  if (finalized != 0 || failure().kind != FailureKind::kNone) return;
  MPI_Cancel(&news_request_);
  MPI_Wait(&news_request_, MPI_STATUS_IGNORE);
  MPI_Comm_free(&comm_);
}

GroupFailure MpiFamily::failure() const {
  return GroupFailure::Unpack(failure_.load(std::memory_order_acquire));
}

void MpiFamily::Fail(GroupFailure failure) {
  uint32_t none = 0;
  if (!failure_.compare_exchange_strong(none, failure.Pack())) return;
  const std::lock_guard lock(runtime_.mutex);
  runtime_.failed = true;
  // MPI reads sent_ and may write news_ until its end.
  runtime_.graveyard.push_back(shared_from_this());
  sent_ = failure.Pack();
  int rank = 0;
  int size = 0;
  MPI_Comm_rank(comm_, &rank);
  MPI_Comm_size(comm_, &size);
  for (int peer = 0; peer < size; ++peer) {
    if (peer == rank) continue;
    MPI_Request request = MPI_REQUEST_NULL;
    // If that fails, the peer finds out by its deadline.
    if (MPI_Isend(&sent_, 1, MPI_UINT32_T, peer, 0, comm_, &request) == MPI_SUCCESS) {
      MPI_Request_free(&request);
    }
  }
}

void MpiFamily::Poll() {
  if (news_request_ == MPI_REQUEST_NULL) return;
  int done = 0;
  if (MPI_Test(&news_request_, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || done == 0) return;
  runtime_.failed = true;
  uint32_t none = 0;
  failure_.compare_exchange_strong(none, news_);
}

}  // namespace shoal::comm
