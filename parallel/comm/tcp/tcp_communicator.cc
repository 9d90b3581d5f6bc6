#include "parallel/comm/tcp/tcp_communicator.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "parallel/comm/reduce.h"
#include "parallel/comm/split_plan.h"
#include "parallel/comm/tcp/tcp_family.h"
#include "transport/base/error.h"

// Every collective is one or more exchanges of whole messages; the kernel's buffers and the peers
// do the pipelining.

namespace shoal::comm {

enum class TcpCommunicator::Op : uint8_t {
  kAllReduceSum,
  kAllReduceSumFloat,
  kAllReduceMax,
  kReduceScatter,
  kAllGather,
  kAllToAllV,
  kBroadcast,
  kBarrier,
  kMessage,
};

namespace {

constexpr std::string_view kOpNames[] = {
    "AllReduceSum(int64)", "AllReduceSum(float)", "AllReduceMax", "ReduceScatterSum", "AllGather",
    "AllToAllV",           "Broadcast",           "Barrier",      "Send or Receive"};

// What a peer may send for reduction in one exchange.
constexpr int64_t kScratchBytes = 64 << 10;
// Above, moving each byte twice costs more than a second round trip.
constexpr int64_t kDirectBytesMax = 16 << 10;

FailureKind KindOf(link::ExchangeEnd end) {
  switch (end) {
    case link::ExchangeEnd::kPeerLost:
      return FailureKind::kPeerLost;
    case link::ExchangeEnd::kMismatch:
      return FailureKind::kMismatch;
    case link::ExchangeEnd::kDeadlineExceeded:
      return FailureKind::kDeadlineExceeded;
    case link::ExchangeEnd::kDone:
    case link::ExchangeEnd::kWoken:
      break;
  }
  return FailureKind::kAborted;
}

}  // namespace

std::unique_ptr<Communicator> TcpCommunicator::Connect(const link::MeshPlan& plan,
                                                       link::TcpListener& listener,
                                                       int32_t local_ranks,
                                                       int32_t threads_per_rank,
                                                       Deadline deadline) {
  const auto policy =
      link::WaitPolicy::ForThreads(int64_t{local_ranks} * std::max(threads_per_rank, 1));
  std::unique_ptr<TcpCommunicator> comm(new TcpCommunicator(
      std::make_shared<TcpFamily>(), link::ConnectMesh(plan, listener, deadline), plan,
      listener.host(), policy));
  comm->SetDeadline(deadline);
  return comm;
}

TcpCommunicator::TcpCommunicator(std::shared_ptr<TcpFamily> family,
                                 std::vector<link::Socket> sockets, const link::MeshPlan& plan,
                                 std::string host, link::WaitPolicy policy)
    : family_(std::move(family)),
      sockets_(std::move(sockets)),
      rank_(plan.rank),
      size_(static_cast<int32_t>(sockets_.size())),
      token_(plan.token),
      host_(std::move(host)),
      policy_(policy),
      op_(Op::kBarrier),
      counts_(sockets_.size()) {
  for (int32_t peer = 0; peer < size_; ++peer) {
    transfers_.push_back({.peer = peer, .fd = sockets_[static_cast<size_t>(peer)].fd()});
  }
  family_->Add(sockets_);
}

TcpCommunicator::~TcpCommunicator() { family_->Remove(sockets_); }

void TcpCommunicator::Abort() { family_->Fail({FailureKind::kAborted, rank_}); }

void TcpCommunicator::Begin(Op op) {
  op_ = op;
  operation_ = kOpNames[static_cast<size_t>(op)];
  const GroupFailure failure = family_->failure();
  if (failure.kind != FailureKind::kNone) failure.Throw(operation_);
}

void TcpCommunicator::AddSend(int32_t peer, std::span<const std::byte> data) {
  if (peer != rank_) transfers_[static_cast<size_t>(peer)].send = data;
}

void TcpCommunicator::AddReceive(int32_t peer, std::span<std::byte> data) {
  if (peer != rank_) transfers_[static_cast<size_t>(peer)].receive = data;
}

void TcpCommunicator::RunExchange() {
  const link::ExchangeOptions options{.tag = static_cast<uint32_t>(op_),
                                      .deadline = deadline_,
                                      .wake_fd = family_->wake_fd(),
                                      .policy = policy_};
  const link::ExchangeOutcome outcome = link::Exchange(transfers_, options);
  for (link::PeerTransfer& transfer : transfers_) transfer.send = transfer.receive = {};
  if (outcome.end == link::ExchangeEnd::kDone) return;
  const FailureKind kind = KindOf(outcome.end);
  family_->Fail({kind, kind == FailureKind::kPeerLost ? outcome.peer : rank_});
  family_->failure().Throw(operation_);
}

template <typename Value>
std::span<Value> TcpCommunicator::ScratchFor(int32_t peer, int64_t count) {
  if (scratch_.empty()) scratch_.resize(static_cast<size_t>(size_ * kScratchBytes));
  auto* place = reinterpret_cast<Value*>(scratch_.data() + peer * kScratchBytes);
  return {place, static_cast<size_t>(count)};
}

// At most kScratchBytes: all ranks send all they have to all others.
template <typename Reduction>
void TcpCommunicator::AllReduceDirect(std::span<typename Reduction::Value> data) {
  using Value = typename Reduction::Value;
  const auto count = static_cast<int64_t>(data.size());
  for (int32_t peer = 0; peer < size_; ++peer) {
    AddSend(peer, std::as_bytes(data));
    AddReceive(peer, std::as_writable_bytes(ScratchFor<Value>(peer, count)));
  }
  RunExchange();
  CopyBytes(ScratchFor<Value>(rank_, count).data(), data.data(),
            static_cast<int64_t>(data.size_bytes()));
  CopyBytes(data.data(), ScratchFor<Value>(0, count).data(),
            static_cast<int64_t>(data.size_bytes()));
  for (int32_t peer = 1; peer < size_; ++peer) {
    CombineInto<Reduction>(data.data(), ScratchFor<Value>(peer, count).data(), count);
  }
}

template <typename Reduction>
void TcpCommunicator::AllReduce(Op op, std::span<typename Reduction::Value> data) {
  using Value = typename Reduction::Value;
  Begin(op);
  constexpr int64_t kValueBytes = sizeof(Value);
  const auto total = static_cast<int64_t>(data.size());
  if (size_ < 3 || total * kValueBytes <= kDirectBytesMax) {
    constexpr int64_t kStep = kScratchBytes / kValueBytes;
    int64_t begin = 0;
    do {
      const int64_t count = std::min(kStep, total - begin);
      AllReduceDirect<Reduction>(
          data.subspan(static_cast<size_t>(begin), static_cast<size_t>(count)));
      begin += count;
    } while (begin < total);
    return;
  }
  int64_t begin = 0;
  int64_t own_begin = 0;
  for (int32_t r = 0; r < size_; ++r) {
    const int64_t end = total * (r + 1) / size_;
    counts_[static_cast<size_t>(r)] = end - begin;
    if (r == rank_) own_begin = begin;
    begin = end;
  }
  const auto piece = data.subspan(static_cast<size_t>(own_begin),
                                  static_cast<size_t>(counts_[static_cast<size_t>(rank_)]));
  ReduceScatter<Reduction>(data, counts_, piece);
  for (int64_t& count : counts_) count *= kValueBytes;
  AllGather(std::as_bytes(piece), counts_, std::as_writable_bytes(data));
}

// `piece` may be this rank's part of `data`: an exchange is complete before the same part of
// `piece` is written, and other parts are not touched.
template <typename Reduction>
void TcpCommunicator::ReduceScatter(std::span<const typename Reduction::Value> data,
                                    std::span<const int64_t> counts,
                                    std::span<typename Reduction::Value> piece) {
  using Value = typename Reduction::Value;
  constexpr int64_t kValueBytes = sizeof(Value);
  constexpr int64_t kStep = kScratchBytes / kValueBytes;
  const int64_t largest = *std::max_element(counts.begin(), counts.end());
  const int64_t own_count = counts[static_cast<size_t>(rank_)];
  int64_t begin = 0;
  do {
    const auto now = [&](int64_t count) { return std::clamp<int64_t>(count - begin, 0, kStep); };
    const int64_t own_now = now(own_count);
    int64_t offset = 0;
    for (int32_t peer = 0; peer < size_; ++peer) {
      const int64_t count = counts[static_cast<size_t>(peer)];
      const auto part = data.subspan(static_cast<size_t>(offset + std::min(begin, count)),
                                     static_cast<size_t>(now(count)));
      AddSend(peer, std::as_bytes(part));
      AddReceive(peer, std::as_writable_bytes(ScratchFor<Value>(peer, own_now)));
      if (peer == rank_) {
        CopyBytes(ScratchFor<Value>(peer, own_now).data(), part.data(), own_now * kValueBytes);
      }
      offset += count;
    }
    RunExchange();
    if (own_now > 0) {
      Value* total = piece.data() + begin;
      CopyBytes(total, ScratchFor<Value>(0, own_now).data(), own_now * kValueBytes);
      for (int32_t peer = 1; peer < size_; ++peer) {
        CombineInto<Reduction>(total, ScratchFor<Value>(peer, own_now).data(), own_now);
      }
    }
    begin += kStep;
  } while (begin < largest);
}

void TcpCommunicator::AllReduceSum(std::span<int64_t> data) {
  AllReduce<SumInt64>(Op::kAllReduceSum, data);
}

void TcpCommunicator::AllReduceSum(std::span<float> data) {
  AllReduce<SumFloat>(Op::kAllReduceSumFloat, data);
}

void TcpCommunicator::AllReduceMax(std::span<int64_t> data) {
  AllReduce<MaxInt64>(Op::kAllReduceMax, data);
}

void TcpCommunicator::ReduceScatterSum(std::span<const int64_t> data,
                                       std::span<const int64_t> counts, std::span<int64_t> piece) {
  CheckPieces(*this, counts, data.size(), piece.size());
  Begin(Op::kReduceScatter);
  ReduceScatter<SumInt64>(data, counts, piece);
}

void TcpCommunicator::AllGather(std::span<const std::byte> piece,
                                std::span<const int64_t> byte_counts,
                                std::span<std::byte> gathered) {
  CheckPieces(*this, byte_counts, gathered.size(), piece.size());
  Begin(Op::kAllGather);
  size_t offset = 0;
  for (int32_t peer = 0; peer < size_; ++peer) {
    const auto count = static_cast<size_t>(byte_counts[static_cast<size_t>(peer)]);
    const auto place = gathered.subspan(offset, count);
    AddSend(peer, piece);
    AddReceive(peer, place);
    if (peer == rank_ && place.data() != piece.data()) {
      CopyBytes(place.data(), piece.data(), static_cast<int64_t>(count));
    }
    offset += count;
  }
  RunExchange();
}

void TcpCommunicator::AllToAllV(std::span<const std::byte> data,
                                std::span<const int64_t> send_counts, std::span<std::byte> received,
                                std::span<const int64_t> receive_counts) {
  CheckExchange(*this, data.size(), send_counts, received.size(), receive_counts);
  Begin(Op::kAllToAllV);
  size_t send_offset = 0;
  size_t receive_offset = 0;
  for (size_t peer = 0; peer < static_cast<size_t>(size_); ++peer) {
    const auto part = data.subspan(send_offset, static_cast<size_t>(send_counts[peer]));
    const auto place = received.subspan(receive_offset, static_cast<size_t>(receive_counts[peer]));
    AddSend(static_cast<int32_t>(peer), part);
    AddReceive(static_cast<int32_t>(peer), place);
    if (peer == static_cast<size_t>(rank_)) {
      CopyBytes(place.data(), part.data(), static_cast<int64_t>(part.size()));
    }
    send_offset += part.size();
    receive_offset += place.size();
  }
  RunExchange();
}

void TcpCommunicator::Broadcast(std::span<std::byte> data, int32_t root) {
  SHOAL_CHECK(root >= 0 && root < size_, "root ", root, " of ", size_);
  Begin(Op::kBroadcast);
  if (rank_ == root) {
    for (int32_t peer = 0; peer < size_; ++peer) AddSend(peer, data);
  } else {
    AddReceive(root, data);
  }
  RunExchange();
}

void TcpCommunicator::Barrier() {
  Begin(Op::kBarrier);
  for (int32_t peer = 0; peer < size_; ++peer) {
    AddSend(peer, {});
    AddReceive(peer, {});
  }
  RunExchange();
}

void TcpCommunicator::Send(std::span<const std::byte> data, int32_t to) {
  SHOAL_CHECK(to >= 0 && to < size_ && to != rank_, "rank ", rank_, " sends to ", to);
  Begin(Op::kMessage);
  AddSend(to, data);
  RunExchange();
}

void TcpCommunicator::Receive(std::span<std::byte> data, int32_t from) {
  SHOAL_CHECK(from >= 0 && from < size_ && from != rank_, "rank ", rank_, " receives from ", from);
  Begin(Op::kMessage);
  AddReceive(from, data);
  RunExchange();
}

bool TcpCommunicator::HasRoom(int64_t bytes, int32_t to) const {
  // Headers of a few messages.
  constexpr int64_t kHeadersBytes = 64;
  return link::HasRoom(sockets_[static_cast<size_t>(to)], bytes + kHeadersBytes);
}

std::unique_ptr<Communicator> TcpCommunicator::Split(int32_t color, int32_t key) {
  const SplitPlan plan = PlanSplit(*this, color, key);
  link::TcpListener listener = link::TcpListener::Bind(host_);
  // New connections, because operations of parent and child may interleave differently on two
  // ranks.
  using Address = std::array<char, 128>;
  SHOAL_CHECK(listener.address().size() < Address{}.size(), listener.address());
  Address own{};
  listener.address().copy(own.data(), own.size() - 1);
  std::vector<Address> addresses(static_cast<size_t>(size_));
  const std::vector<int64_t> counts(addresses.size(), sizeof(Address));
  AllGather(std::as_bytes(std::span(own)), counts, std::as_writable_bytes(std::span(addresses)));
  link::MeshPlan mesh{.rank = plan.rank,
                      .addresses = {},
                      .token = Str(token_, "/", split_count_++, "/", color),
                      .wake_fd = family_->wake_fd()};
  for (const int32_t member : plan.members) {
    mesh.addresses.emplace_back(addresses[static_cast<size_t>(member)].data());
  }
  std::unique_ptr<TcpCommunicator> child(new TcpCommunicator(
      family_, link::ConnectMesh(mesh, listener, deadline_), mesh, host_, policy_));
  child->SetDeadline(deadline_);
  return child;
}

}  // namespace shoal::comm
