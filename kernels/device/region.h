#pragma once

// A region, which is what one ParallelFor asks for: its chunks, and who runs which.
//
// Chunks belong to the threads in shares that lie together: what a thread prefetches after a chunk
// is the chunk that it takes next. A thread that is through with its own share helps with the
// others.
//
// One 64-bit word for each share, its `claim`, holds the region's number and how many of the
// share's chunks are unclaimed. A thread claims a chunk by compare-and-swap on that word, and only
// then reads the region's other fields: those are written while the last region has no unclaimed
// chunk and none running, and before the claims of the new one. A thread that woke up late finds no
// chunk left or fails to claim it. This is why the number left stands in the word itself: compared
// with a field, an old region could seem to have chunks left.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/device/thread_team.h"

namespace shoal::device {

constexpr size_t kCacheLine = 64;

class Region {
 public:
  static constexpr int kChunkBits = 24;  // Of unclaimed chunks; the rest is the region's number.
  static constexpr uint64_t kChunkMask = (uint64_t{1} << kChunkBits) - 1;

  explicit Region(int32_t thread_count) : shares_(static_cast<size_t>(thread_count)) {}

  // Of the region that the thread has a share of.
  uint64_t NumberOf(int32_t thread) const {
    return shares_[static_cast<size_t>(thread)].claim.load(std::memory_order_seq_cst) >> kChunkBits;
  }

  // Begins the next region. At most kChunkMask chunks.
  void Publish(const RangeFunction& function, int64_t count, int64_t grain, int64_t chunk_count) {
    work_.function = function;
    work_.count = count;
    work_.grain = grain;
    work_.chunk_count = chunk_count;
    const uint64_t number = NumberOf(0) + 1;
    for (size_t i = 0; i < shares_.size(); ++i) {
      const auto share = static_cast<int64_t>(i);
      const int64_t left = ShareBegin(share + 1, chunk_count) - ShareBegin(share, chunk_count);
      shares_[i].claim.store(number << kChunkBits | static_cast<uint64_t>(left),
                             std::memory_order_seq_cst);
    }
  }

  // Claims and runs chunks of region `number`, of the thread's own share first, until none is left,
  // and calls done() after each. Returns how many it ran.
  template <typename Done>
  uint32_t RunChunks(int32_t thread, uint64_t number, Done done) noexcept {
    uint32_t count = 0;
    for (size_t i = 0; i < shares_.size(); ++i) {
      const size_t share = (static_cast<size_t>(thread) + i) % shares_.size();
      count += RunShare(share, thread, number, done);
    }
    return count;
  }

  // Fetches the region's lines together, to be read (0) or written (1).
  template <int kReadOrWrite>
  void Fetch() const {
    for (size_t line = 0; line < sizeof(work_); line += kCacheLine) {
      __builtin_prefetch(reinterpret_cast<const std::byte*>(&work_) + line, kReadOrWrite);
    }
  }

 private:
  // One thread's share. Written by every claim, so alone on its line.
  struct alignas(kCacheLine) Share {
    std::atomic<uint64_t> claim{0};
  };

  // Written by the caller; read by a thread that runs a chunk of it. What one core wrote last
  // reaches another in 50 to 300 nanoseconds: so these are a few lines that lie together and hold
  // the function itself.
  struct alignas(kCacheLine) Work {
    int64_t count = 0;
    int64_t grain = 1;
    int64_t chunk_count = 0;
    RangeFunction function = [](int64_t, int64_t, int32_t) {};
  };

  // The first of `chunks` chunks that is not in a share before this one.
  int64_t ShareBegin(int64_t share, int64_t chunks) const {
    const auto count = static_cast<int64_t>(shares_.size());
    return (chunks * share + count - 1) / count;
  }

  // RunChunks with one share. A later region's is left alone: the thread has a share of that too.
  // noexcept: a region cannot be abandoned half way.
  template <typename Done>
  uint32_t RunShare(size_t share, int32_t thread, uint64_t number, Done done) noexcept {
    std::atomic<uint64_t>& claim = shares_[share].claim;
    uint32_t count = 0;
    uint64_t word = claim.load(std::memory_order_acquire);
    while ((word & kChunkMask) != 0 && word >> kChunkBits == number) {
      if (!claim.compare_exchange_weak(word, word - 1, std::memory_order_acq_rel,
                                       std::memory_order_acquire)) {
        continue;
      }
      const int64_t chunk = ShareBegin(static_cast<int64_t>(share) + 1, work_.chunk_count) -
                            static_cast<int64_t>(word & kChunkMask);
      const int64_t begin = chunk * work_.grain;
      work_.function(begin, std::min(begin + work_.grain, work_.count), thread);
      ++count;
      done();
      word = claim.load(std::memory_order_acquire);
    }
    return count;
  }

  std::vector<Share> shares_;
  Work work_;
};

}  // namespace shoal::device
