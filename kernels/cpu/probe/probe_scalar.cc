// The scalar variant's own loops.

#include <cmath>
#include <cstring>

#include "kernels/cpu/probe/probe_kernels.h"

namespace shoal::cpu {
namespace {

constexpr int64_t kByteDotOps = 64;
constexpr int64_t kFmaOps = kProbeChains;

uint64_t Read(const std::byte* from, int64_t bytes) {
  constexpr int64_t kPrefetchBytes = 2048;
  uint64_t sum = 0;
  for (int64_t at = 0; at < bytes; at += 64) {
    __builtin_prefetch(from + at + kPrefetchBytes);
    for (int64_t i = 0; i < 64; i += 8) {
      uint64_t word;
      std::memcpy(&word, from + at + i, 8);
      sum ^= word;
    }
  }
  return sum;
}

uint64_t ByteDots(int64_t steps) {
  int8_t weights[kByteDotOps];
  int8_t values[kByteDotOps];
  std::memset(weights, 3, sizeof(weights));
  std::memset(values, 2, sizeof(values));
  int32_t sum = 0;
  for (int64_t step = 0; step < steps; ++step) {
    __asm__ volatile("" : : "r"(weights), "r"(values) : "memory");
    for (int64_t i = 0; i < kByteDotOps; ++i) sum += weights[i] * values[i];
  }
  return static_cast<uint32_t>(sum);
}

uint64_t Fmas(int64_t steps) {
  float chains[kFmaOps] = {};
  float weight = 0.5f;
  float value = 0.25f;
  for (int64_t step = 0; step < steps; ++step) {
    __asm__ volatile("" : "+x"(weight), "+x"(value));
    for (float& chain : chains) chain = std::fma(weight, value, chain);
  }
  float sum = 0;
  for (const float chain : chains) sum += chain;
  return static_cast<uint64_t>(sum);
}

}  // namespace

constinit const ProbeKernels kProbeScalar = {.read = Read,
                                             .byte_dots = ByteDots,
                                             .byte_dot_ops = kByteDotOps,
                                             .fmas = Fmas,
                                             .fma_ops = kFmaOps};

}  // namespace shoal::cpu
