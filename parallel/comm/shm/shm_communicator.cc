#include "parallel/comm/shm/shm_communicator.h"

#include <emmintrin.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "parallel/comm/reduce.h"
#include "parallel/comm/split_plan.h"
#include "transport/base/error.h"

// Every collective is a loop over rounds whose number all ranks compute alike from the sizes.

namespace shoal::comm {

enum class ShmCommunicator::Op : uint8_t {
  kAllReduceSum,
  kAllReduceSumFloat,
  kAllReduceMax,
  kReduceScatter,
  kAllGather,
  kAllToAllV,
  kBroadcast,
  kBarrier,
  kSend,
  kReceive,
};

namespace {

constexpr std::string_view kOpNames[] = {"AllReduceSum(int64)",
                                         "AllReduceSum(float)",
                                         "AllReduceMax",
                                         "ReduceScatterSum",
                                         "AllGather",
                                         "AllToAllV",
                                         "Broadcast",
                                         "Barrier",
                                         "Send",
                                         "Receive"};

int64_t Largest(std::span<const int64_t> counts) {
  return counts.empty() ? 0 : *std::max_element(counts.begin(), counts.end());
}

// Rounds for `count` things, `per_round` at a time. At least one: an empty operation synchronises.
int64_t RoundCount(int64_t count, int64_t per_round) {
  return std::max<int64_t>(1, (count + per_round - 1) / per_round);
}

// With at least three ranks and more bytes than this, each rank sums a part for all.
constexpr int64_t kOneShotBytesMax = 128 << 10;

// Copies to shared memory, much of it past the caches: the other cores hold these lines, as they
// read them last, and a store to a line waits until they have given it up, which takes 2 to 8 times
// as long. A few lines are left to the caches.
void StreamToShared(void* to, const void* from, int64_t bytes) {
  constexpr int64_t kLine = 64;
  constexpr int64_t kWord = sizeof(__m128i);
  constexpr int64_t kStreamedMin = 16 * kLine;
  if (bytes < kStreamedMin) return CopyBytes(to, from, bytes);
  auto* target = static_cast<std::byte*>(to);
  const auto* source = static_cast<const std::byte*>(from);
  const int64_t head = -reinterpret_cast<intptr_t>(to) & (kLine - 1);
  CopyBytes(target, source, head);
  int64_t at = head;
  for (; at + kWord <= bytes; at += kWord) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(target + at),
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + at)));
  }
  CopyBytes(target + at, source + at, bytes - at);
  _mm_sfence();  // Publishing orders ordinary stores only.
}

// Copies to or from an array at an offset that is outside of it where nothing is left to copy.
void CopyFrom(std::byte* to, const std::byte* from, int64_t offset, int64_t bytes) {
  if (bytes > 0) StreamToShared(to, from + offset, bytes);
}
void CopyTo(std::byte* to, int64_t offset, const std::byte* from, int64_t bytes) {
  if (bytes > 0) CopyBytes(to + offset, from, bytes);
}

}  // namespace

// Ends a wait for one peer.
class ShmCommunicator::PeerGuard : public link::WaitGuard {
 public:
  PeerGuard(ShmCommunicator& comm, int32_t peer) : comm_(comm), peer_(peer) {}

  TimeNs Check() override {
    const GroupFailure failure = comm_.root_->failure();
    if (failure.kind != FailureKind::kNone) failure.Throw(comm_.operation_);
    // One more look after the peer was found gone: what it published before its end counts.
    if (gone_) comm_.Fail({FailureKind::kPeerLost, peer_});
    gone_ = !comm_.group_->IsPresent(peer_);
    if (gone_) return 0;
    const TimeNs left = comm_.deadline_.at - comm_.clock_.now();
    if (left <= 0) comm_.Fail({FailureKind::kDeadlineExceeded, comm_.rank_});
    return left;
  }

 private:
  ShmCommunicator& comm_;
  int32_t peer_;
  bool gone_ = false;
};

ShmCommunicator::ShmCommunicator(std::shared_ptr<ShmGroup> group, int32_t rank,
                                 int32_t threads_per_rank)
    : ShmCommunicator(
          group, group, rank,
          link::WaitPolicy::ForThreads(int64_t{group->size()} * std::max(threads_per_rank, 1))) {}

ShmCommunicator::ShmCommunicator(std::shared_ptr<ShmGroup> group, std::shared_ptr<ShmGroup> root,
                                 int32_t rank, link::WaitPolicy policy)
    : group_(std::move(group)),
      root_(std::move(root)),
      rank_(rank),
      size_(group_->size()),
      policy_(policy),
      counts_(static_cast<size_t>(size_)) {
  SHOAL_CHECK(rank >= 0 && rank < size_, "rank ", rank, " of ", size_);
  group_->Join(rank_);
}

ShmCommunicator::~ShmCommunicator() { group_->Leave(rank_); }

void ShmCommunicator::Fail(GroupFailure failure) {
  root_->Fail(failure);
  group_->WakeAll();
  // Another rank's failure may have been first; then that is the reason for all.
  root_->failure().Throw(operation_);
}

void ShmCommunicator::Abort() {
  root_->Fail({FailureKind::kAborted, rank_});
  group_->WakeAll();
}

void ShmCommunicator::Begin(Op op, int64_t bytes) {
  operation_ = kOpNames[static_cast<size_t>(op)];
  descriptor_ = (uint64_t{static_cast<uint8_t>(op)} << 56) | static_cast<uint64_t>(bytes);
  const GroupFailure failure = root_->failure();
  if (failure.kind != FailureKind::kNone) failure.Throw(operation_);
}

// This rank's buffer for the coming round; waits until nobody reads what it held two rounds ago.
std::byte* ShmCommunicator::Contribute() {
  for (int32_t peer = 0; peer < size_; ++peer) {
    link::SharedCounter& rounds = group_->rounds(peer);
    if (peer == rank_ || rounds.Reached(round_)) continue;
    PeerGuard guard(*this, peer);
    link::WaitUntilReached(rounds, round_, policy_, guard);
  }
  group_->descriptor(rank_, round_).store(descriptor_, std::memory_order_relaxed);
  return group_->buffer(rank_, round_);
}

void ShmCommunicator::Publish() { group_->rounds(rank_).Publish(++round_); }

// What the peer contributed to the round published last.
const std::byte* ShmCommunicator::Await(int32_t peer) {
  link::SharedCounter& rounds = group_->rounds(peer);
  if (peer != rank_ && !rounds.Reached(round_)) {
    PeerGuard guard(*this, peer);
    link::WaitUntilReached(rounds, round_, policy_, guard);
  }
  if (group_->descriptor(peer, round_ - 1).load(std::memory_order_relaxed) != descriptor_) {
    Fail({FailureKind::kMismatch, rank_});
  }
  return group_->buffer(peer, round_ - 1);
}

void ShmCommunicator::AwaitAll() {
  for (int32_t peer = 0; peer < size_; ++peer) Await(peer);
}

template <typename Reduction>
void ShmCommunicator::AllReduceOneShot(Op op, std::span<typename Reduction::Value> data) {
  using Value = typename Reduction::Value;
  Begin(op, static_cast<int64_t>(data.size_bytes()));
  const int64_t per_round = ShmGroup::kBufferBytes / static_cast<int64_t>(sizeof(Value));
  const int64_t rounds = RoundCount(static_cast<int64_t>(data.size()), per_round);
  for (int64_t i = 0; i < rounds; ++i) {
    Value* total = data.data() + i * per_round;
    const int64_t count = std::min(per_round, static_cast<int64_t>(data.size()) - i * per_round);
    const int64_t bytes = count * static_cast<int64_t>(sizeof(Value));
    StreamToShared(Contribute(), total, bytes);
    Publish();
    for (int32_t peer = 0; peer < size_; ++peer) {
      // `total` already holds this rank's own values, which is all a free order needs.
      if (Reduction::kAnyOrder && peer == rank_) continue;
      const auto* more = reinterpret_cast<const Value*>(Await(peer));
      if (!Reduction::kAnyOrder && peer == 0) {
        CopyBytes(total, more, bytes);
      } else {
        CombineInto<Reduction>(total, more, count);
      }
    }
  }
}

template <typename Reduction>
void ShmCommunicator::AllReduce(Op op, std::span<typename Reduction::Value> data) {
  using Value = typename Reduction::Value;
  if (size_ < 3 || static_cast<int64_t>(data.size_bytes()) <= kOneShotBytesMax) {
    return AllReduceOneShot<Reduction>(op, data);
  }
  const int64_t total = static_cast<int64_t>(data.size());
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
  Begin(op, static_cast<int64_t>(data.size_bytes()));
  ReduceScatter<Reduction>(data, counts_, piece);
  for (int64_t& count : counts_) count *= static_cast<int64_t>(sizeof(Value));
  AllGather(std::as_bytes(piece), counts_, std::as_writable_bytes(data));
}

// `piece` may be this rank's part of `data`: a round copies data to shared memory before it
// overwrites it, and the parts of later rounds and of other ranks are not touched. Where the order
// of adding is free, a rank starts from its own part and writes only the others' to shared memory.
template <typename Reduction>
void ShmCommunicator::ReduceScatter(std::span<const typename Reduction::Value> data,
                                    std::span<const int64_t> counts,
                                    std::span<typename Reduction::Value> piece) {
  using Value = typename Reduction::Value;
  constexpr int64_t kValueBytes = sizeof(Value);
  constexpr bool kWritesOwn = !Reduction::kAnyOrder;
  const int64_t parts = kWritesOwn ? size_ : std::max(size_ - 1, 1);
  const int64_t share = ShmGroup::kBufferBytes / kValueBytes / parts;
  // Where rank `owner` finds its part in the buffer of rank `writer`.
  const auto offset = [&](int32_t writer, int32_t owner) {
    return (!kWritesOwn && owner > writer ? owner - 1 : owner) * share;
  };
  const int64_t own_count = counts[static_cast<size_t>(rank_)];
  const Value* own = data.data();
  for (int32_t r = 0; r < rank_; ++r) own += counts[static_cast<size_t>(r)];
  const int64_t rounds = RoundCount(Largest(counts), share);
  for (int64_t i = 0; i < rounds; ++i) {
    const auto in_round = [&](int64_t count) {
      return std::clamp<int64_t>(count - i * share, 0, share);
    };
    auto* buffer = reinterpret_cast<Value*>(Contribute());
    const Value* part = data.data();
    for (int32_t r = 0; r < size_; ++r) {
      const int64_t count = counts[static_cast<size_t>(r)];
      const int64_t now = in_round(count);
      if (now > 0 && (kWritesOwn || r != rank_)) {
        StreamToShared(buffer + offset(rank_, r), part + i * share, now * kValueBytes);
      }
      part += count;
    }
    Publish();
    const int64_t now = in_round(own_count);
    Value* total = now > 0 ? piece.data() + i * share : nullptr;
    if (!kWritesOwn && now > 0 && total != own + i * share) {
      CopyBytes(total, own + i * share, now * kValueBytes);
    }
    for (int32_t peer = 0; peer < size_; ++peer) {
      if (!kWritesOwn && peer == rank_) continue;
      const auto* more = reinterpret_cast<const Value*>(Await(peer)) + offset(peer, rank_);
      if (now == 0) continue;
      if (kWritesOwn && peer == 0) {
        CopyBytes(total, more, now * kValueBytes);
      } else {
        CombineInto<Reduction>(total, more, now);
      }
    }
  }
}

void ShmCommunicator::AllReduceSum(std::span<int64_t> data) {
  AllReduce<SumInt64>(Op::kAllReduceSum, data);
}

void ShmCommunicator::AllReduceSum(std::span<float> data) {
  AllReduce<SumFloat>(Op::kAllReduceSumFloat, data);
}

void ShmCommunicator::AllReduceMax(std::span<int64_t> data) {
  AllReduce<MaxInt64>(Op::kAllReduceMax, data);
}

void ShmCommunicator::ReduceScatterSum(std::span<const int64_t> data,
                                       std::span<const int64_t> counts, std::span<int64_t> piece) {
  CheckPieces(*this, counts, data.size(), piece.size());
  Begin(Op::kReduceScatter, static_cast<int64_t>(data.size_bytes()));
  ReduceScatter<SumInt64>(data, counts, piece);
}

void ShmCommunicator::AllGather(std::span<const std::byte> piece,
                                std::span<const int64_t> byte_counts,
                                std::span<std::byte> gathered) {
  CheckPieces(*this, byte_counts, gathered.size(), piece.size());
  Begin(Op::kAllGather, static_cast<int64_t>(gathered.size()));
  const int64_t rounds = RoundCount(Largest(byte_counts), ShmGroup::kBufferBytes);
  for (int64_t i = 0; i < rounds; ++i) {
    const int64_t offset = i * ShmGroup::kBufferBytes;
    const auto now = [&](int64_t count) {
      return std::clamp<int64_t>(count - offset, 0, ShmGroup::kBufferBytes);
    };
    std::byte* buffer = Contribute();
    CopyFrom(buffer, piece.data(), offset, now(static_cast<int64_t>(piece.size())));
    Publish();
    std::byte* place = gathered.data();
    for (int32_t peer = 0; peer < size_; ++peer) {
      const int64_t count = byte_counts[static_cast<size_t>(peer)];
      if (peer != rank_) {
        CopyTo(place, offset, Await(peer), now(count));
      } else if (place != piece.data() && now(count) > 0) {
        CopyBytes(place + offset, piece.data() + offset, now(count));
      }
      place += count;
    }
  }
}

void ShmCommunicator::AllToAllV(std::span<const std::byte> data,
                                std::span<const int64_t> send_counts, std::span<std::byte> received,
                                std::span<const int64_t> receive_counts) {
  CheckExchange(*this, data.size(), send_counts, received.size(), receive_counts);
  // Nobody knows all the counts, so the ranks first agree on the largest.
  int64_t largest = std::max(Largest(send_counts), Largest(receive_counts));
  AllReduceMax({&largest, 1});
  Begin(Op::kAllToAllV, largest);
  const int64_t share = ShmGroup::kBufferBytes / size_;
  const int64_t rounds = RoundCount(largest, share);
  for (int64_t i = 0; i < rounds; ++i) {
    const int64_t offset = i * share;
    const auto now = [&](int64_t count) { return std::clamp<int64_t>(count - offset, 0, share); };
    std::byte* buffer = Contribute();
    const std::byte* part = data.data();
    for (int32_t r = 0; r < size_; ++r) {
      const int64_t count = send_counts[static_cast<size_t>(r)];
      CopyFrom(buffer + r * share, part, offset, now(count));
      part += count;
    }
    Publish();
    std::byte* place = received.data();
    for (int32_t peer = 0; peer < size_; ++peer) {
      const int64_t count = receive_counts[static_cast<size_t>(peer)];
      CopyTo(place, offset, Await(peer) + rank_ * share, now(count));
      place += count;
    }
  }
}

void ShmCommunicator::Broadcast(std::span<std::byte> data, int32_t root) {
  SHOAL_CHECK(root >= 0 && root < size_, "root ", root, " of ", size_);
  Begin(Op::kBroadcast, static_cast<int64_t>(data.size()));
  const int64_t bytes = static_cast<int64_t>(data.size());
  const int64_t rounds = RoundCount(bytes, ShmGroup::kBufferBytes);
  for (int64_t i = 0; i < rounds; ++i) {
    const int64_t offset = i * ShmGroup::kBufferBytes;
    const int64_t now = std::min(bytes - offset, ShmGroup::kBufferBytes);
    if (rank_ == root) CopyFrom(Contribute(), data.data(), offset, now);
    Publish();
    if (rank_ != root) CopyTo(data.data(), offset, Await(root), now);
  }
}

void ShmCommunicator::Barrier() {
  Begin(Op::kBarrier, 0);
  Contribute();
  Publish();
  AwaitAll();
}

void ShmCommunicator::Send(std::span<const std::byte> data, int32_t to) {
  SHOAL_CHECK(to >= 0 && to < size_ && to != rank_, "rank ", rank_, " sends to ", to);
  Begin(Op::kSend, 0);
  link::ShmRing& ring = group_->ring(rank_, to);
  PeerGuard guard(*this, to);
  const int64_t bytes = static_cast<int64_t>(data.size());
  ring.Write(std::as_bytes(std::span(&bytes, 1)), policy_, guard);
  ring.Write(data, policy_, guard);
}

void ShmCommunicator::Receive(std::span<std::byte> data, int32_t from) {
  SHOAL_CHECK(from >= 0 && from < size_ && from != rank_, "rank ", rank_, " receives from ", from);
  Begin(Op::kReceive, 0);
  link::ShmRing& ring = group_->ring(from, rank_);
  PeerGuard guard(*this, from);
  int64_t bytes = 0;
  ring.Read(std::as_writable_bytes(std::span(&bytes, 1)), policy_, guard);
  if (bytes != static_cast<int64_t>(data.size())) Fail({FailureKind::kMismatch, rank_});
  ring.Read(data, policy_, guard);
}

bool ShmCommunicator::HasRoom(int64_t bytes, int32_t to) const {
  // The sizes that precede a few messages.
  constexpr int64_t kSizesBytes = 64;
  return bytes + kSizesBytes <= group_->ring(rank_, to).Room();
}

std::unique_ptr<Communicator> ShmCommunicator::Split(int32_t color, int32_t key) {
  const SplitPlan plan = PlanSplit(*this, color, key);
  const int32_t child_size = static_cast<int32_t>(plan.members.size());
  struct Path {
    char text[64] = {};
  };
  // The first member of each new communicator makes its memory; all learn all paths, and open
  // theirs.
  std::shared_ptr<ShmGroup> child;
  std::vector<Path> paths(static_cast<size_t>(size_));
  Path own;
  if (plan.rank == 0) {
    child = ShmGroup::MakeNamed(child_size, std::string());
    child->path().copy(own.text, sizeof(own.text) - 1);
  }
  const std::vector<int64_t> counts(static_cast<size_t>(size_), sizeof(Path));
  AllGather(std::as_bytes(std::span(&own, 1)), counts, std::as_writable_bytes(std::span(paths)));
  if (plan.rank != 0) {
    const Path& path = paths[static_cast<size_t>(plan.members[0])];
    child = ShmGroup::Open(path.text, child_size, std::string());
  }
  std::unique_ptr<ShmCommunicator> communicator(
      new ShmCommunicator(std::move(child), root_, plan.rank, policy_));
  communicator->SetDeadline(deadline_);
  Barrier();
  communicator->group_->Seal();
  return communicator;
}

}  // namespace shoal::comm
