#pragma once

// Chance under a seed: the same draws on every machine and with every library.

#include <cstddef>
#include <cstdint>
#include <iterator>

namespace shoal::core::net_sim {

// A bijection that spreads every bit over all others (the finaliser of SplitMix64).
constexpr uint64_t Mix(uint64_t bits) {
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
  return bits ^ (bits >> 31);
}

class Chance {
 public:
  explicit Chance(uint64_t seed) : state_(Mix(seed + 1)) {}

  uint64_t Next() { return Mix(state_ += 0x9e3779b97f4a7c15); }
  // Both included.
  int64_t Draw(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(Next() % static_cast<uint64_t>(high - low + 1));
  }
  bool OneIn(int64_t count) { return Draw(1, count) == 1; }
  bool Roll(double probability) {
    return static_cast<double>(Next() >> 11) * 0x1p-53 < probability;
  }
  // There must be one.
  template <typename List>
  auto& Pick(List& list) {
    return list[static_cast<size_t>(Draw(0, std::ssize(list) - 1))];
  }

 private:
  uint64_t state_;
};

}  // namespace shoal::core::net_sim
