#pragma once

// The memory that the ranks of a shared-memory group share, and its layout.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "parallel/comm/group_failure.h"
#include "transport/link/process_identity.h"
#include "transport/link/shm/shared_counter.h"
#include "transport/link/shm/shared_segment.h"
#include "transport/link/shm/shm_ring.h"

namespace shoal::comm {

// One page of facts, then per rank a counter, an identity and two buffers, then a ring for each
// ordered pair of ranks. Untouched pages cost no memory.
class ShmGroup {
 public:
  static constexpr int64_t kBufferBytes = 256
                                          << 10;  // What one rank hands the others in one round.
  static constexpr int32_t kRanksMax = 256;

  // For processes forked later. `size` in [1, kRanksMax].
  static std::shared_ptr<ShmGroup> MakeAnonymous(int32_t size);
  // For processes that Open(path()) with the same size and token, until Seal(). The token is any
  // string of at most 64 bytes that only this group's ranks know.
  static std::shared_ptr<ShmGroup> MakeNamed(int32_t size, const std::string& token);
  // Errors: those of SharedSegment::Open; kFailed for another layout, size or token.
  static std::shared_ptr<ShmGroup> Open(const std::string& path, int32_t size,
                                        const std::string& token);

  int32_t size() const { return size_; }
  std::string path() const { return segment_.path(); }
  void Seal() { segment_.Seal(); }

  // Counts the rounds that the rank has published.
  link::SharedCounter& rounds(int32_t rank) const;
  // What the rank hands the others in the given round, and what operation it believes to be in.
  std::byte* buffer(int32_t rank, uint32_t round) const;
  std::atomic<uint64_t>& descriptor(int32_t rank, uint32_t round) const;
  link::ShmRing& ring(int32_t from, int32_t to) const;

  void Join(int32_t rank);
  void Leave(int32_t rank);
  // False once a rank that joined has left or ended; true before it joins.
  bool IsPresent(int32_t rank) const;

  // Records the first failure and wakes all waiters. Thread-safe.
  void Fail(GroupFailure failure);
  GroupFailure failure() const;
  void WakeAll() const;

 private:
  struct Header;
  struct RankLine;

  ShmGroup(link::SharedSegment segment, int32_t size);
  static int64_t SegmentBytes(int32_t size);
  Header& header() const;
  RankLine& line(int32_t rank) const;

  link::SharedSegment segment_;
  int32_t size_;
};

}  // namespace shoal::comm
