#pragma once

// What this machine can do at most, as far as a variant's own instructions reach: the figures that
// measured speeds are divided by.

#include <cstdint>

#include "kernels/cpu/table.h"
#include "kernels/device/buffer.h"
#include "kernels/device/thread_team.h"
#include "transport/base/clock.h"

namespace shoal::cpu {

// Reads a buffer in order, with prefetches, as decoding reads weights. With more than the
// last-level cache's size its speed is the memory's.
class StreamingRead {
 public:
  // Allocates and fills the buffer. table and team must outlive this.
  StreamingRead(const KernelTable& table, device::ThreadTeam& team, int64_t bytes);

  // Of all threads together, the mean of kPasses passes: what else runs on the machine slows it as
  // it slows decoding. Units: bytes per second.
  double BytesPerSecond(const Clock& clock) const;

  static constexpr int kPasses = 16;

 private:
  const KernelTable& table_;
  device::ThreadTeam& team_;
  device::Buffer buffer_;
};

// The speed of all threads together at nothing but the instruction that weights of `dtype` are
// multiplied with, on registers: the variant's byte dot product for quantised formats, its fma for
// floats. Units: multiply-additions per second, the best of several rounds. Cost: a quarter of a
// second.
double DotOpsPerSecond(const KernelTable& table, DType dtype, device::ThreadTeam& team,
                       const Clock& clock);

}  // namespace shoal::cpu
