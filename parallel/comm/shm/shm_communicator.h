#pragma once

// Collectives among processes of one machine, through memory they share.

#include <memory>
#include <string_view>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/comm/shm/shm_group.h"
#include "transport/link/wait_policy.h"

namespace shoal::comm {

// Works in rounds: a rank puts up to ShmGroup::kBufferBytes into a buffer of its own, publishes it
// and reads the others'. Each rank has two buffers, so a round costs one synchronisation: who has
// published round r has read round r-1, and the buffer of round r-1 may be written again in r+1.
// Send and Receive use a ring for each ordered pair, apart from the rounds.
// Errors:    besides Communicator's: kFailed when ranks are seen to call different operations. A
//            rank that has destroyed its communicator counts as lost to those that still wait for
//            it.
// Cost:      all-reduce: each rank reads (size - 1) * bytes; with at least three ranks and more
// than
//            128 KiB about 2 * bytes.
class ShmCommunicator : public Communicator {
 public:
  // `threads_per_rank`: how many threads of each rank compute, to judge whether spinning can help.
  ShmCommunicator(std::shared_ptr<ShmGroup> group, int32_t rank, int32_t threads_per_rank);
  ~ShmCommunicator() override;

  int32_t rank() const override { return rank_; }
  int32_t size() const override { return size_; }
  void SetDeadline(Deadline deadline) override { deadline_ = deadline; }
  void AllReduceSum(std::span<int64_t> data) override;
  void AllReduceSum(std::span<float> data) override;
  void AllReduceMax(std::span<int64_t> data) override;
  void ReduceScatterSum(std::span<const int64_t> data, std::span<const int64_t> counts,
                        std::span<int64_t> piece) override;
  void AllGather(std::span<const std::byte> piece, std::span<const int64_t> byte_counts,
                 std::span<std::byte> gathered) override;
  void AllToAllV(std::span<const std::byte> data, std::span<const int64_t> send_counts,
                 std::span<std::byte> received, std::span<const int64_t> receive_counts) override;
  void Broadcast(std::span<std::byte> data, int32_t root) override;
  void Send(std::span<const std::byte> data, int32_t to) override;
  void Receive(std::span<std::byte> data, int32_t from) override;
  bool HasRoom(int64_t bytes, int32_t to) const override;
  void Barrier() override;
  std::unique_ptr<Communicator> Split(int32_t color, int32_t key) override;
  void Abort() override;

 private:
  class PeerGuard;
  enum class Op : uint8_t;

  ShmCommunicator(std::shared_ptr<ShmGroup> group, std::shared_ptr<ShmGroup> root, int32_t rank,
                  link::WaitPolicy policy);

  void Begin(Op op, int64_t bytes);
  std::byte* Contribute();
  void Publish();
  const std::byte* Await(int32_t peer);
  void AwaitAll();
  [[noreturn]] void Fail(GroupFailure failure);
  template <typename Reduction>
  void AllReduce(Op op, std::span<typename Reduction::Value> data);
  template <typename Reduction>
  void AllReduceOneShot(Op op, std::span<typename Reduction::Value> data);
  template <typename Reduction>
  void ReduceScatter(std::span<const typename Reduction::Value> data,
                     std::span<const int64_t> counts, std::span<typename Reduction::Value> piece);

  std::shared_ptr<ShmGroup> group_;
  // The group that the first communicator of the family was made with: its failure word is
  // everyone's.
  std::shared_ptr<ShmGroup> root_;
  int32_t rank_;
  int32_t size_;
  link::WaitPolicy policy_;
  SteadyClock clock_;
  Deadline deadline_;
  std::vector<int64_t> counts_;  // Scratch of AllReduce.
  uint32_t round_ = 0;           // Rounds this rank has published.
  uint64_t descriptor_ = 0;      // Of the operation under way.
  std::string_view operation_;
};

}  // namespace shoal::comm
