#pragma once

// A byte stream from one process to another through shared memory.

#include <cstddef>
#include <cstdint>
#include <span>

#include "transport/link/shm/shared_counter.h"

namespace shoal::link {

// What lies in shared memory: two counters, then kBytes of data. Zeroed memory is an empty ring.
// Threading: one process writes, one reads.
class ShmRing {
 public:
  static constexpr uint32_t kBytes = 64 << 10;  // A power of two: the counters wrap at 2^32.

  // Returns when all is in the ring, which holds at most kBytes: a longer message waits for the
  // reader. Errors: what guard.Check() throws.
  void Write(std::span<const std::byte> data, const WaitPolicy& policy, WaitGuard& guard);
  // Bytes that the writer can write without waiting.
  uint32_t Room() const;
  // Returns when `data` is filled.
  void Read(std::span<std::byte> data, const WaitPolicy& policy, WaitGuard& guard);

  void Wake();

 private:
  SharedCounter written_;
  SharedCounter read_;
  std::byte data_[kBytes];
};

}  // namespace shoal::link
