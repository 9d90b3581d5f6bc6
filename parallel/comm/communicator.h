#pragma once

// Collective operations among the ranks of one group or of one pipeline stage.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "transport/base/clock.h"

namespace shoal::comm {

// Order:     all ranks call the same operations in the same order with equal sizes. There are no
//            tags: the order is the match. A mismatch is a bug; an implementation that can see it
//            fails the group.
// Threading: one thread calls the operations; Abort() may come from any other, at any time.
// Result:    AllReduceSum(int64) adds modulo 2^64, so it is the same for every implementation and
//            every number of ranks. AllReduceSum(float) adds in rank order: the same bits on every
//            rank, but not for another number of ranks.
// Errors:    when a rank dies, on Abort(), and when the deadline passes, the pending operation and
//            all later ones throw Error(kPeerLost) (kDeadlineExceeded for the deadline, kFailed for
//            a mismatch that was seen). A group is never repaired.
// Waiting:   spins briefly, then yields, then sleeps, so that more ranks than cores make progress.
class Communicator {
 public:
  virtual ~Communicator() = default;

  // This process's position among the communicator's ranks, in [0, size()).
  virtual int32_t rank() const = 0;
  virtual int32_t size() const = 0;

  // Applies to every operation from now on. A step sets it once.
  virtual void SetDeadline(Deadline deadline) = 0;

  // Replaces `data` on every rank by the element-wise sum. Shape: [count], equal on all ranks; an
  // empty span is a no-op that still synchronises.
  virtual void AllReduceSum(std::span<int64_t> data) = 0;
  virtual void AllReduceSum(std::span<float> data) = 0;
  virtual void AllReduceMax(std::span<int64_t> data) = 0;

  // Sums all ranks' `data` and leaves this rank's piece in `piece`, which may be its own part of
  // data. Shape: data [sum of counts], piece [counts[rank()]]; pieces follow each other in rank
  // order. counts [size()], equal on all ranks.
  virtual void ReduceScatterSum(std::span<const int64_t> data, std::span<const int64_t> counts,
                                std::span<int64_t> piece) = 0;

  // Concatenates the ranks' pieces in rank order. Shape: piece [byte_counts[rank()]], gathered [sum
  // of byte_counts]; piece may be its own place in gathered. byte_counts [size()], equal on all
  // ranks.
  virtual void AllGather(std::span<const std::byte> piece, std::span<const int64_t> byte_counts,
                         std::span<std::byte> gathered) = 0;

  // Sends data's r-th part (send_counts[r] bytes) to rank r and receives receive_counts[r] bytes
  // from it.
  virtual void AllToAllV(std::span<const std::byte> data, std::span<const int64_t> send_counts,
                         std::span<std::byte> received,
                         std::span<const int64_t> receive_counts) = 0;

  // Copies root's `data` to every rank.
  virtual void Broadcast(std::span<std::byte> data, int32_t root) = 0;

  // Messages between two ranks arrive in order; the sizes match. Send may return before the peer
  // receives, but never buffers without bound.
  virtual void Send(std::span<const std::byte> data, int32_t to) = 0;
  virtual void Receive(std::span<std::byte> data, int32_t from) = 0;
  // True if a few messages of `bytes` in all can be sent to that rank now without waiting for it to
  // receive: the link has room for them. May be false although the link has room.
  virtual bool HasRoom(int64_t bytes, int32_t to) const = 0;

  virtual void Barrier() = 0;

  // A communicator of the ranks that passed the same color, ordered by (key, rank). Collective.
  // Aborting either aborts both.
  virtual std::unique_ptr<Communicator> Split(int32_t color, int32_t key) = 0;

  // Makes all pending and later operations on every rank fail. Thread-safe, returns at once.
  virtual void Abort() = 0;
};

}  // namespace shoal::comm
