#include <immintrin.h>

#include "kernels/cpu/probe/probe_kernels.h"

// The AVX2 variant's ceilings. The empty assembly statements keep the compiler from computing a
// loop's result without running it.

namespace shoal::cpu {
namespace {

inline __attribute__((always_inline)) uint64_t FirstOf(__m256i value) {
  return static_cast<uint64_t>(_mm256_extract_epi64(value, 0));
}

uint64_t Read(const std::byte* from, int64_t bytes) {
  constexpr int64_t kPrefetchBytes = 2048;
  __m256i even = _mm256_setzero_si256();
  __m256i odd = _mm256_setzero_si256();
  for (int64_t at = 0; at < bytes; at += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(from + at + kPrefetchBytes), _MM_HINT_T0);
    const auto* line = reinterpret_cast<const __m256i*>(from + at);
    even = _mm256_xor_si256(even, _mm256_loadu_si256(line));
    odd = _mm256_xor_si256(odd, _mm256_loadu_si256(line + 1));
  }
  return FirstOf(_mm256_xor_si256(even, odd));
}

uint64_t ByteDots(int64_t steps) {
  __m256i chains[kProbeChains];
  const __m256i weights = _mm256_set1_epi8(3);
  const __m256i values = _mm256_set1_epi8(2);
#pragma GCC unroll 12
  for (auto& chain : chains) {
    chain = _mm256_setzero_si256();
    __asm__ volatile("" : "+x"(chain));  // Equal chains would be computed once.
  }
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 12
    for (auto& chain : chains) {
      // Not the intrinsic: the compiler would let one product serve all chains.
      __m256i products;
      __asm__ volatile("vpmaddubsw %2, %1, %0" : "=x"(products) : "x"(weights), "x"(values));
      chain = _mm256_add_epi16(chain, products);
    }
  }
  __m256i all = chains[0];
#pragma GCC unroll 12
  for (int i = 1; i < kProbeChains; ++i) all = _mm256_add_epi16(all, chains[i]);
  return FirstOf(all);
}

uint64_t Fmas(int64_t steps) {
  __m256 chains[kProbeChains];
  __m256 weights = _mm256_set1_ps(0.5f);
  __m256 values = _mm256_set1_ps(0.25f);
#pragma GCC unroll 12
  for (auto& chain : chains) {
    chain = _mm256_setzero_ps();
    __asm__ volatile("" : "+x"(chain));  // Equal chains would be computed once.
  }
  for (int64_t step = 0; step < steps; ++step) {
    __asm__ volatile("" : "+x"(weights), "+x"(values));
#pragma GCC unroll 12
    for (auto& chain : chains) chain = _mm256_fmadd_ps(weights, values, chain);
  }
  __m256 all = chains[0];
#pragma GCC unroll 12
  for (int i = 1; i < kProbeChains; ++i) all = _mm256_add_ps(all, chains[i]);
  return FirstOf(_mm256_castps_si256(all));
}

}  // namespace

constinit const ProbeKernels kProbeAvx2 = {.read = Read,
                                           .byte_dots = ByteDots,
                                           .byte_dot_ops = int64_t{kProbeChains} * 32,
                                           .fmas = Fmas,
                                           .fma_ops = int64_t{kProbeChains} * 8};

}  // namespace shoal::cpu
