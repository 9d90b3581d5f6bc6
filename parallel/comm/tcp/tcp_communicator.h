#pragma once

// Collectives over TCP connections between each two ranks.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/comm/group_failure.h"
#include "transport/link/tcp/tcp_exchange.h"
#include "transport/link/tcp/tcp_mesh.h"
#include "transport/link/tcp/tcp_socket.h"

namespace shoal::comm {

class TcpFamily;

// Every operation exchanges messages with all the peers it needs at the same time. All operations
// of a pair of ranks, Send and Receive among them, share one stream in the order they are called.
// Errors:    besides Communicator's: kFailed when ranks are seen to call different operations. A
//            rank that destroys its communicator closes its connections: peers that still wait for
//            it see kPeerLost, as do all ranks once one has failed for any reason. Split waits for
//            a rank that dies meanwhile until the deadline.
// Cost:      all-reduce: size - 1 messages of the whole from each rank while that is at most 16 KiB
//            or there are two ranks; else two rounds of messages of a size-th. Bounded scratch.
class TcpCommunicator : public Communicator {
 public:
  // Connects to the other ranks of `plan`, which listens on `listener`. Collective.
  // `threads_per_rank`: how many threads of each of `local_ranks` ranks of this machine compute.
  // Errors: those of link::ConnectMesh.
  static std::unique_ptr<Communicator> Connect(const link::MeshPlan& plan,
                                               link::TcpListener& listener, int32_t local_ranks,
                                               int32_t threads_per_rank, Deadline deadline);
  ~TcpCommunicator() override;

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
  enum class Op : uint8_t;

  TcpCommunicator(std::shared_ptr<TcpFamily> family, std::vector<link::Socket> sockets,
                  const link::MeshPlan& plan, std::string host, link::WaitPolicy policy);

  void Begin(Op op);
  // The transfers of one exchange are collected first, then run together.
  void AddSend(int32_t peer, std::span<const std::byte> data);
  void AddReceive(int32_t peer, std::span<std::byte> data);
  void RunExchange();
  template <typename Reduction>
  void AllReduce(Op op, std::span<typename Reduction::Value> data);
  template <typename Reduction>
  void AllReduceDirect(std::span<typename Reduction::Value> data);
  template <typename Reduction>
  void ReduceScatter(std::span<const typename Reduction::Value> data,
                     std::span<const int64_t> counts, std::span<typename Reduction::Value> piece);
  template <typename Value>
  std::span<Value> ScratchFor(int32_t peer, int64_t count);

  // Shared with the communicators split from this one and with its parent: one failure ends all.
  std::shared_ptr<TcpFamily> family_;
  std::vector<link::Socket> sockets_;  // By rank; this rank's own is closed.
  int32_t rank_;
  int32_t size_;
  std::string token_;
  std::string host_;  // Where listeners of split communicators bind.
  link::WaitPolicy policy_;
  Deadline deadline_;
  int32_t split_count_ = 0;
  Op op_;
  std::string_view operation_;
  std::vector<link::PeerTransfer> transfers_;  // By rank.
  std::vector<int64_t> counts_;                // Scratch of AllReduce.
  std::vector<std::byte> scratch_;             // kScratchBytes for each rank.
};

}  // namespace shoal::comm
