#include "transport/link/shm/shm_ring.h"

#include <algorithm>
#include <cstring>

// A single-producer, single-consumer ring whose two positions are futex words.

namespace shoal::link {

void ShmRing::Write(std::span<const std::byte> data, const WaitPolicy& policy, WaitGuard& guard) {
  uint32_t position = written_.value.load(std::memory_order_relaxed);
  while (!data.empty()) {
    uint32_t used = position - read_.value.load(std::memory_order_acquire);
    if (used == kBytes) {
      WaitUntilReached(read_, position - kBytes + 1, policy, guard);
      used = position - read_.value.load(std::memory_order_acquire);
    }
    const uint32_t offset = position % kBytes;
    const size_t count = std::min({data.size(), size_t{kBytes} - used, size_t{kBytes} - offset});
    std::memcpy(data_ + offset, data.data(), count);
    data = data.subspan(count);
    position += static_cast<uint32_t>(count);
    written_.Publish(position);
  }
}

uint32_t ShmRing::Room() const {
  return kBytes - (written_.value.load(std::memory_order_relaxed) -
                   read_.value.load(std::memory_order_acquire));
}

void ShmRing::Read(std::span<std::byte> data, const WaitPolicy& policy, WaitGuard& guard) {
  uint32_t position = read_.value.load(std::memory_order_relaxed);
  while (!data.empty()) {
    uint32_t ready = written_.value.load(std::memory_order_acquire) - position;
    if (ready == 0) {
      WaitUntilReached(written_, position + 1, policy, guard);
      ready = written_.value.load(std::memory_order_acquire) - position;
    }
    const uint32_t offset = position % kBytes;
    const size_t count = std::min({data.size(), size_t{ready}, size_t{kBytes} - offset});
    std::memcpy(data.data(), data_ + offset, count);
    data = data.subspan(count);
    position += static_cast<uint32_t>(count);
    read_.Publish(position);
  }
}

void ShmRing::Wake() {
  written_.Wake();
  read_.Wake();
}

}  // namespace shoal::link
