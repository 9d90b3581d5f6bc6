#pragma once

// What this machine can do at most, as far as a kernel row's own instructions reach: the figures
// that measured speeds are divided by.

#include <cstdint>

#include "kernels/cpu/table.h"
#include "kernels/device/thread_team.h"
#include "transport/base/clock.h"

namespace shoal::cpu {

// The speed at which all threads together read a buffer of `bytes` in order, with prefetches: the
// best of several passes. With more than the last cache's size this is the memory's speed.
// Units: bytes per second.
// Cost: allocates the buffer and reads it six times.
double StreamingReadBytesPerSecond(const KernelTable& table, device::ThreadTeam& team,
                                   const Clock& clock, int64_t bytes);

// The speed of all threads together at nothing but the instruction that weights of `dtype` are
// multiplied with, on registers: the row's byte dot product for quantised formats, its fma for
// floats. Units: multiply-additions per second, the best of several rounds. Cost: a quarter of a
// second.
double DotOpsPerSecond(const KernelTable& table, DType dtype, device::ThreadTeam& team,
                       const Clock& clock);

}  // namespace shoal::cpu
