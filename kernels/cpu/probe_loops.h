#pragma once

// The loops that probe.cc times, one set for each instruction set.

#include <cstddef>
#include <cstdint>

namespace shoal::cpu {

struct ProbeLoops {
  // Reads [from, from + bytes), a multiple of 64, into a checksum.
  uint64_t (*read)(const std::byte* from, int64_t bytes);
  // `steps` rounds of independent multiply-additions; the result depends on all of them.
  uint64_t (*byte_dots)(int64_t steps);
  int64_t byte_dot_ops;  // Multiply-additions of one step.
  uint64_t (*fmas)(int64_t steps);
  int64_t fma_ops;
};

uint64_t ReadScalar(const std::byte* from, int64_t bytes);
uint64_t ByteDotsScalar(int64_t steps);
uint64_t FmasScalar(int64_t steps);

uint64_t ReadAvx2(const std::byte* from, int64_t bytes);
uint64_t ByteDotsAvx2(int64_t steps);
uint64_t FmasAvx2(int64_t steps);

uint64_t ReadAvx512(const std::byte* from, int64_t bytes);
uint64_t ByteDotsAvx512(int64_t steps);
uint64_t FmasAvx512(int64_t steps);

uint64_t ByteDotsAmx(int64_t steps);

// More chains than latency times throughput of any machine (4 cycles times 2 a cycle), with room
// for the operands among 16 registers.
constexpr int kProbeChains = 12;
constexpr int64_t kByteDotOpsScalar = 64;
constexpr int64_t kFmaOpsScalar = 12;
constexpr int64_t kByteDotOpsAvx2 = int64_t{kProbeChains} * 32;
constexpr int64_t kFmaOpsAvx2 = int64_t{kProbeChains} * 8;
constexpr int64_t kByteDotOpsAvx512 = int64_t{kProbeChains} * 64;
constexpr int64_t kByteDotOpsAmx = int64_t{4} * 16 * 16 * 64;
constexpr int64_t kFmaOpsAvx512 = int64_t{kProbeChains} * 16;

}  // namespace shoal::cpu
