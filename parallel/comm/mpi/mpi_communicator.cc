#include "parallel/comm/mpi/mpi_communicator.h"

#include <algorithm>
#include <climits>
#include <numeric>
#include <string_view>
#include <utility>

#include "parallel/comm/mpi/mpi_family.h"
#include "parallel/comm/reduce.h"
#include "parallel/comm/split_plan.h"

// Non-blocking calls on memory of our own: a failed operation returns to the caller while MPI may
// still touch its operands, and those must then not be the caller's.

namespace shoal::comm {
namespace {

constexpr int kMessageTag = 0;
// Elements a rank contributes to one call of a reduction; bounds the staging.
constexpr int64_t kReduceElements = 1 << 20;
constexpr int64_t kFloatElements = 1 << 16;
constexpr int64_t kBroadcastBytes = 8 << 20;
// A message of this size leaves its sender before the receiver asks for it. MPI's shared memory
// takes the least: 4 KiB with its own header.
constexpr int64_t kEagerBytes = 3840;

struct Staging {
  std::vector<std::byte> in;
  std::vector<std::byte> out;
  std::vector<int> in_counts, in_offsets, out_counts, out_offsets;
};

int CheckedInt(int64_t value) {
  if (value > INT_MAX) {
    Throw(ErrorCode::kInvalidArgument, "MPI: an operation of ", value,
          " elements, at most 2^31 - 1 are possible: use --comm shm or tcp");
  }
  return static_cast<int>(value);
}

// Fills counts and offsets as MPI wants them; returns the total.
int64_t SetCounts(std::span<const int64_t> counts, std::vector<int>& out,
                  std::vector<int>& offsets) {
  out.clear();
  offsets.clear();
  int64_t total = 0;
  for (const int64_t count : counts) {
    out.push_back(CheckedInt(count));
    offsets.push_back(CheckedInt(total));
    total += count;
  }
  return CheckedInt(total);
}

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(std::shared_ptr<MpiFamily> family, MPI_Comm comm)
      : family_(std::move(family)), comm_(comm), staging_(std::make_shared<Staging>()) {
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }

  ~MpiCommunicator() override {
    if (family_->failure().kind != FailureKind::kNone) return;
    const std::lock_guard lock(family_->runtime().mutex);
    MPI_Comm_free(&comm_);
  }

  int32_t rank() const override { return rank_; }
  int32_t size() const override { return size_; }
  void SetDeadline(Deadline deadline) override { deadline_ = deadline; }
  void Abort() override { family_->Fail({FailureKind::kAborted, rank_}); }

  void AllReduceSum(std::span<int64_t> data) override {
    Begin("AllReduceSum(int64)");
    AllReduce(data, MPI_UINT64_T, MPI_SUM);
  }

  void AllReduceMax(std::span<int64_t> data) override {
    Begin("AllReduceMax");
    AllReduce(data, MPI_INT64_T, MPI_MAX);
  }

  // MPI may add in any order; gathered values are added here in rank order.
  void AllReduceSum(std::span<float> data) override {
    Begin("AllReduceSum(float)");
    const auto total = static_cast<int64_t>(data.size());
    int64_t begin = 0;
    do {
      const int64_t count = std::min(kFloatElements, total - begin);
      const int64_t bytes = count * static_cast<int64_t>(sizeof(float));
      Stage(data.data() + begin, bytes, bytes * size_);
      const int elements = static_cast<int>(count);
      Run([&](MPI_Request* request) {
        return MPI_Iallgather(staging_->in.data(), elements, MPI_FLOAT, staging_->out.data(),
                              elements, MPI_FLOAT, comm_, request);
      });
      const auto* values = reinterpret_cast<const float*>(staging_->out.data());
      CopyBytes(data.data() + begin, values, bytes);
      for (int32_t peer = 1; peer < size_; ++peer) {
        CombineInto<SumFloat>(data.data() + begin, values + peer * count, count);
      }
      begin += count;
    } while (begin < total);
  }

  void ReduceScatterSum(std::span<const int64_t> data, std::span<const int64_t> counts,
                        std::span<int64_t> piece) override {
    CheckPieces(*this, counts, data.size(), piece.size());
    Begin("ReduceScatterSum");
    SetCounts(counts, staging_->in_counts, staging_->in_offsets);
    Stage(data.data(), static_cast<int64_t>(data.size_bytes()),
          static_cast<int64_t>(piece.size_bytes()));
    Run([&](MPI_Request* request) {
      return MPI_Ireduce_scatter(staging_->in.data(), staging_->out.data(),
                                 staging_->in_counts.data(), MPI_UINT64_T, MPI_SUM, comm_, request);
    });
    CopyBytes(piece.data(), staging_->out.data(), static_cast<int64_t>(piece.size_bytes()));
  }

  void AllGather(std::span<const std::byte> piece, std::span<const int64_t> byte_counts,
                 std::span<std::byte> gathered) override {
    CheckPieces(*this, byte_counts, gathered.size(), piece.size());
    Begin("AllGather");
    SetCounts(byte_counts, staging_->out_counts, staging_->out_offsets);
    Stage(piece.data(), static_cast<int64_t>(piece.size()), static_cast<int64_t>(gathered.size()));
    Run([&](MPI_Request* request) {
      return MPI_Iallgatherv(staging_->in.data(), static_cast<int>(piece.size()), MPI_BYTE,
                             staging_->out.data(), staging_->out_counts.data(),
                             staging_->out_offsets.data(), MPI_BYTE, comm_, request);
    });
    CopyBytes(gathered.data(), staging_->out.data(), static_cast<int64_t>(gathered.size()));
  }

  void AllToAllV(std::span<const std::byte> data, std::span<const int64_t> send_counts,
                 std::span<std::byte> received, std::span<const int64_t> receive_counts) override {
    CheckExchange(*this, data.size(), send_counts, received.size(), receive_counts);
    Begin("AllToAllV");
    SetCounts(send_counts, staging_->in_counts, staging_->in_offsets);
    SetCounts(receive_counts, staging_->out_counts, staging_->out_offsets);
    Stage(data.data(), static_cast<int64_t>(data.size()), static_cast<int64_t>(received.size()));
    Run([&](MPI_Request* request) {
      return MPI_Ialltoallv(staging_->in.data(), staging_->in_counts.data(),
                            staging_->in_offsets.data(), MPI_BYTE, staging_->out.data(),
                            staging_->out_counts.data(), staging_->out_offsets.data(), MPI_BYTE,
                            comm_, request);
    });
    CopyBytes(received.data(), staging_->out.data(), static_cast<int64_t>(received.size()));
  }

  void Broadcast(std::span<std::byte> data, int32_t root) override {
    Begin("Broadcast");
    const auto total = static_cast<int64_t>(data.size());
    int64_t begin = 0;
    do {
      const int64_t count = std::min(kBroadcastBytes, total - begin);
      Stage(data.data() + begin, count, 0);
      Run([&](MPI_Request* request) {
        return MPI_Ibcast(staging_->in.data(), static_cast<int>(count), MPI_BYTE, root, comm_,
                          request);
      });
      CopyBytes(data.data() + begin, staging_->in.data(), count);
      begin += count;
    } while (begin < total);
  }

  void Send(std::span<const std::byte> data, int32_t to) override {
    SHOAL_CHECK(to >= 0 && to < size_ && to != rank_, "rank ", rank_, " sends to ", to);
    Begin("Send");
    const int bytes = CheckedInt(static_cast<int64_t>(data.size()));
    Stage(data.data(), bytes, 0);
    Run([&](MPI_Request* request) {
      return MPI_Isend(staging_->in.data(), bytes, MPI_BYTE, to, kMessageTag, comm_, request);
    });
  }

  void Receive(std::span<std::byte> data, int32_t from) override {
    SHOAL_CHECK(from >= 0 && from < size_ && from != rank_, "rank ", rank_, " receives from ",
                from);
    Begin("Receive");
    const int bytes = CheckedInt(static_cast<int64_t>(data.size()));
    Stage(nullptr, 0, bytes);
    const MPI_Status status = Run([&](MPI_Request* request) {
      return MPI_Irecv(staging_->out.data(), bytes, MPI_BYTE, from, kMessageTag, comm_, request);
    });
    int received = 0;
    MPI_Get_count(&status, MPI_BYTE, &received);
    if (received != bytes) Fail({FailureKind::kMismatch, rank_});
    CopyBytes(data.data(), staging_->out.data(), bytes);
  }

  bool HasRoom(int64_t bytes, int32_t) const override { return bytes <= kEagerBytes; }

  void Barrier() override {
    Begin("Barrier");
    Run([&](MPI_Request* request) { return MPI_Ibarrier(comm_, request); });
  }

  std::unique_ptr<Communicator> Split(int32_t color, int32_t key) override {
    Barrier();
    MPI_Comm child = MPI_COMM_NULL;
    {
      const std::lock_guard lock(family_->runtime().mutex);
      // MPI wants colors that are not negative; equal ones stay equal.
      CheckMpi(MPI_Comm_split(comm_, color & INT_MAX, key, &child), "MPI_Comm_split");
    }
    auto communicator = std::make_unique<MpiCommunicator>(family_, child);
    communicator->SetDeadline(deadline_);
    return communicator;
  }

 private:
  void Begin(std::string_view operation) {
    operation_ = operation;
    {
      const std::lock_guard lock(family_->runtime().mutex);
      family_->Poll();
    }
    ThrowIfFailed();
  }

  void ThrowIfFailed() {
    const GroupFailure failure = family_->failure();
    if (failure.kind != FailureKind::kNone) failure.Throw(operation_);
  }

  [[noreturn]] void Fail(GroupFailure failure) {
    family_->Fail(failure);
    family_->failure().Throw(operation_);
  }

  // Sizes the staging and copies the operand in.
  void Stage(const void* data, int64_t in_bytes, int64_t out_bytes) {
    staging_->in.resize(static_cast<size_t>(in_bytes));
    staging_->out.resize(static_cast<size_t>(out_bytes));
    if (data != nullptr) CopyBytes(staging_->in.data(), data, in_bytes);
  }

  void AllReduce(std::span<int64_t> data, MPI_Datatype type, MPI_Op op) {
    const auto total = static_cast<int64_t>(data.size());
    int64_t begin = 0;
    do {
      const int64_t count = std::min(kReduceElements, total - begin);
      const int64_t bytes = count * static_cast<int64_t>(sizeof(int64_t));
      Stage(data.data() + begin, bytes, bytes);
      Run([&](MPI_Request* request) {
        return MPI_Iallreduce(staging_->in.data(), staging_->out.data(), static_cast<int>(count),
                              type, op, comm_, request);
      });
      CopyBytes(data.data() + begin, staging_->out.data(), bytes);
      begin += count;
    } while (begin < total);
  }

  // Starts a request and polls it to its end.
  template <typename Start>
  MPI_Status Run(Start start) {
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Status status{};
    MpiBackoff backoff;
    bool started = false;
    while (true) {
      int done = 0;
      int result = MPI_SUCCESS;
      {
        const std::lock_guard lock(family_->runtime().mutex);
        if (!started) result = start(&request);
        started = true;
        if (result == MPI_SUCCESS) result = MPI_Test(&request, &done, &status);
        family_->Poll();
      }
      if (result == MPI_SUCCESS && done != 0) return status;
      const bool late = deadline_.Passed(clock_);
      if (result != MPI_SUCCESS || late || family_->failure().kind != FailureKind::kNone) {
        Bury();
        Fail({result != MPI_SUCCESS ? FailureKind::kMismatch : FailureKind::kDeadlineExceeded,
              rank_});
      }
      backoff.Wait();
    }
  }

  // Leaves the staging to MPI. No later operation gets as far as needing it.
  void Bury() {
    const std::lock_guard lock(family_->runtime().mutex);
    family_->runtime().graveyard.push_back(staging_);
  }

  // Shared with the communicators split from this one and with its parent, and with MPI after a
  // failure.
  std::shared_ptr<MpiFamily> family_;
  MPI_Comm comm_;
  int rank_ = 0;
  int size_ = 1;
  SteadyClock clock_;
  Deadline deadline_;
  std::string_view operation_;
  std::shared_ptr<Staging> staging_;  // Shared with the graveyard after a failure.
};

}  // namespace

std::unique_ptr<Communicator> MakeMpiCommunicator(MpiEnvironment& environment, Deadline deadline) {
  SHOAL_CHECK(environment.runtime() != nullptr, "MPI is not in use");
  MpiRuntime& runtime = *environment.runtime();
  const std::lock_guard lock(runtime.mutex);
  auto family = std::make_shared<MpiFamily>(runtime);
  MPI_Comm comm = MPI_COMM_NULL;
  CheckMpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
  auto communicator = std::make_unique<MpiCommunicator>(std::move(family), comm);
  communicator->SetDeadline(deadline);
  return communicator;
}

}  // namespace shoal::comm
