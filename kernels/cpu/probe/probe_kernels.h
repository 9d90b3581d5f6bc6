#pragma once

// The loops that probe.cc times, in every variant: what its own instructions reach at most.

#include <cstddef>
#include <cstdint>

namespace shoal::cpu {

struct ProbeKernels {
  // Reads [from, from + bytes), a multiple of 64, into a checksum.
  uint64_t (*read)(const std::byte* from, int64_t bytes);
  // `steps` rounds of independent multiply-additions; the result depends on all of them.
  uint64_t (*byte_dots)(int64_t steps);
  int64_t byte_dot_ops;  // Multiply-additions of one step.
  uint64_t (*fmas)(int64_t steps);
  int64_t fma_ops;
};

extern const ProbeKernels kProbeScalar;
extern const ProbeKernels kProbeAvx2;
extern const ProbeKernels kProbeAvx512;
extern const ProbeKernels kProbeAmx;  // Byte dot products only.

// More chains than latency times throughput of any machine (4 cycles times 2 a cycle), with room
// for the operands among 16 registers.
constexpr int kProbeChains = 12;

}  // namespace shoal::cpu
