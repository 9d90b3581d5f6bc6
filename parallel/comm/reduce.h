#pragma once

// How values of two ranks combine. All implementations use these, so that they add alike.

#include <cstdint>
#include <cstring>

namespace shoal::comm {

struct SumInt64 {
  using Value = int64_t;
  static constexpr bool kAnyOrder = true;
  // Modulo 2^64, which int64_t's own + leaves undefined.
  static int64_t Combine(int64_t a, int64_t b) {
    return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  }
};

struct MaxInt64 {
  using Value = int64_t;
  static constexpr bool kAnyOrder = true;
  static int64_t Combine(int64_t a, int64_t b) { return a > b ? a : b; }
};

struct SumFloat {
  using Value = float;
  static constexpr bool kAnyOrder = false;  // Rounding depends on it.
  static float Combine(float a, float b) { return a + b; }
};

// total[i] = Op(total[i], more[i]). Shape: [count], not overlapping.
template <typename Op>
void CombineInto(typename Op::Value* __restrict total, const typename Op::Value* __restrict more,
                 int64_t count) {
  for (int64_t i = 0; i < count; ++i) total[i] = Op::Combine(total[i], more[i]);
}

// memcpy that takes null pointers where there is nothing to copy.
inline void CopyBytes(void* to, const void* from, int64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
}

}  // namespace shoal::comm
