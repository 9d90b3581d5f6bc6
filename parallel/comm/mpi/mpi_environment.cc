#include "parallel/comm/mpi/mpi_environment.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string_view>

#include "parallel/comm/mpi/mpi_runtime.h"

// Starting and ending MPI such that no rank's failure leaves the others hanging.

namespace shoal::comm {
namespace {

constexpr int64_t kLeaveAfterFailureMs = 1000;
constexpr int64_t kLeaveMs = 10'000;

const char* FirstSet(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (const char* value = std::getenv(name)) return value;
  }
  return nullptr;
}

// Whether a launcher made this process one of several ranks. Asking MPI itself would start a
// runtime of its own around a process that no launcher started.
bool IsRankOfJob() {
  if (const char* size = FirstSet({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"})) {
    return std::string_view(size) != "1";
  }
  if (FirstSet({"PMIX_RANK", "PMI_RANK"}) != nullptr) return true;
  const char* tasks = FirstSet({"SLURM_STEP_NUM_TASKS"});
  if (tasks != nullptr && std::string_view(tasks) != "1") {
    Throw(ErrorCode::kInvalidArgument, "Slurm started ", tasks,
          " ranks without MPI's knowledge, so each believes to be alone: use srun --mpi=pmix, or "
          "mpirun inside the allocation");
  }
  return false;
}

// Polls until `request` is done. False if the deadline came first.
bool TryFinish(MpiRuntime& runtime, MPI_Request& request, Deadline deadline, const char* call) {
  const SteadyClock clock;
  MpiBackoff backoff;
  while (true) {
    int done = 0;
    {
      const std::lock_guard lock(runtime.mutex);
      CheckMpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), call);
    }
    if (done != 0) return true;
    if (deadline.Passed(clock)) return false;
    backoff.Wait();
  }
}

}  // namespace

MpiEnvironment::MpiEnvironment() {
  if (!IsRankOfJob()) return;
  int provided = 0;
  CheckMpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
  SHOAL_CHECK(provided >= MPI_THREAD_SERIALIZED, "MPI offers thread level ", provided);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &size_);
  MPI_Comm local = MPI_COMM_NULL;
  CheckMpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local),
           "MPI_Comm_split_type");
  MPI_Comm_rank(local, &local_rank_);
  MPI_Comm_size(local, &local_size_);
  MPI_Comm_free(&local);
  runtime_ = std::make_unique<MpiRuntime>();
  CheckMpi(MPI_Comm_dup(MPI_COMM_WORLD, &runtime_->start_comm), "MPI_Comm_dup");
  CheckMpi(MPI_Comm_dup(MPI_COMM_WORLD, &runtime_->end_comm), "MPI_Comm_dup");
}

MpiEnvironment::~MpiEnvironment() {
  if (runtime_ != nullptr) Leave();
}

void MpiEnvironment::Leave() {
  const bool failed = runtime_->failed || std::uncaught_exceptions() > 0;
  MPI_Request request = MPI_REQUEST_NULL;
  if (MPI_Ibarrier(runtime_->end_comm, &request) != MPI_SUCCESS) return;
  const Deadline deadline =
      Deadline::After(SteadyClock(), failed ? kLeaveAfterFailureMs : kLeaveMs);
  bool together = false;
  // A destructor may not throw: a rank whose barrier fails leaves without MPI_Finalize, and mpirun
  // ends the job.
  try {
    together = TryFinish(*runtime_, request, deadline, "MPI_Ibarrier");
  } catch (const Error&) {
    together = false;
  }
  if (together) MPI_Finalize();
}

void MpiEnvironment::Broadcast(std::span<std::byte> data, int32_t root, Deadline deadline) {
  if (runtime_ == nullptr) return;
  // Not the caller's memory: MPI may still write to it when this throws.
  const auto copy = std::make_shared<std::vector<std::byte>>(data.begin(), data.end());
  MPI_Request request = MPI_REQUEST_NULL;
  {
    const std::lock_guard lock(runtime_->mutex);
    CheckMpi(MPI_Ibcast(copy->data(), static_cast<int>(copy->size()), MPI_BYTE, root,
                        runtime_->start_comm, &request),
             "MPI_Ibcast");
  }
  if (!TryFinish(*runtime_, request, deadline, "MPI_Ibcast")) {
    const std::lock_guard lock(runtime_->mutex);
    runtime_->failed = true;
    runtime_->graveyard.push_back(copy);
    Throw(ErrorCode::kDeadlineExceeded, "MPI_Ibcast: not all ranks of the job took part in time");
  }
  std::copy(copy->begin(), copy->end(), data.begin());
}

std::vector<std::string> MpiEnvironment::AllGather(const std::string& text, Deadline deadline) {
  // A length and a text from each rank in turn: few and short, so their number does not matter.
  std::vector<std::string> texts(static_cast<size_t>(size_));
  for (int32_t root = 0; root < size_; ++root) {
    std::string& out = texts[static_cast<size_t>(root)];
    if (root == rank_) out = text;
    uint64_t length = out.size();
    Broadcast(std::as_writable_bytes(std::span(&length, 1)), root, deadline);
    out.resize(length);
    Broadcast(std::as_writable_bytes(std::span(out)), root, deadline);
  }
  return texts;
}

}  // namespace shoal::comm
