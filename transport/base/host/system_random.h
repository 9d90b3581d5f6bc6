#pragma once

// Random bits for ids and seeds.

#include <cstdint>
#include <functional>
#include <memory>
#include <random>

namespace shoal {

// 64 bits of the system's at each call. Threading: one thread.
inline std::function<uint64_t()> SystemRandom() {
  return [device = std::make_shared<std::random_device>()] {
    return uint64_t{(*device)()} << 32 | (*device)();
  };
}

}  // namespace shoal
