#include "kernels/cpu/linear/amx/lanes_amx.h"
#include "kernels/cpu/probe/probe_kernels.h"

// The AMX variant's ceiling for byte dot products: full tiles, four independent sums.

namespace shoal::cpu {
namespace {

uint64_t ByteDots(int64_t steps) {
  const TileSession session(
      {.row_bytes = {64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16}});
  alignas(64) int8_t operand[16][64];
  alignas(64) int32_t sums[16][16];
  __builtin_memset(operand, 2, sizeof(operand));
  const int64_t stride = 64;
  __asm__ volatile(
      "tileloadd (%0,%1,1), %%tmm0\n\ttileloadd (%0,%1,1), %%tmm1\n\t"
      "tilezero %%tmm2\n\ttilezero %%tmm3\n\ttilezero %%tmm4\n\ttilezero %%tmm5"
      :
      : "r"(operand), "r"(stride)
      : "memory");
  for (int64_t step = 0; step < steps; ++step) {
    __asm__ volatile(
        "tdpbsud %tmm1, %tmm0, %tmm2\n\ttdpbsud %tmm1, %tmm0, %tmm3\n\t"
        "tdpbsud %tmm1, %tmm0, %tmm4\n\ttdpbsud %tmm1, %tmm0, %tmm5");
  }
  __asm__ volatile("tilestored %%tmm2, (%0,%1,1)" : : "r"(sums), "r"(stride) : "memory");
  return static_cast<uint32_t>(sums[0][0]);
}

}  // namespace

constinit const ProbeKernels kProbeAmx = {.read = nullptr,
                                          .byte_dots = ByteDots,
                                          .byte_dot_ops = int64_t{4} * 16 * 16 * 64,
                                          .fmas = nullptr,
                                          .fma_ops = 0};

}  // namespace shoal::cpu
