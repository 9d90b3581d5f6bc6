#include <immintrin.h>

#include "kernels/cpu/probe/probe_kernels.h"

// The AVX-512 variant's ceilings. The empty assembly statements keep the compiler from computing a
// loop's result without running it.

namespace shoal::cpu {
namespace {

// The sum of the 32-bit lanes, unsigned: long probes overflow a signed one.
uint64_t SumLanes(__m512i lanes) {
  alignas(64) uint32_t words[16];
  _mm512_store_si512(words, lanes);
  uint64_t sum = 0;
  for (const uint32_t word : words) sum += word;
  return sum;
}

uint64_t Read(const std::byte* from, int64_t bytes) {
  constexpr int64_t kPrefetchBytes = 2048;
  __m512i even = _mm512_setzero_si512();
  __m512i odd = _mm512_setzero_si512();
  const int64_t pairs = bytes / 128;
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const std::byte* at = from + 128 * pair;
    _mm_prefetch(reinterpret_cast<const char*>(at + kPrefetchBytes), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(at + kPrefetchBytes + 64), _MM_HINT_T0);
    even = _mm512_xor_si512(even, _mm512_loadu_si512(at));
    odd = _mm512_xor_si512(odd, _mm512_loadu_si512(at + 64));
  }
  if (bytes % 128 != 0) even = _mm512_xor_si512(even, _mm512_loadu_si512(from + 128 * pairs));
  return SumLanes(_mm512_xor_si512(even, odd));
}

uint64_t ByteDots(int64_t steps) {
  __m512i chains[kProbeChains];
  __m512i weights = _mm512_set1_epi8(3);
  __m512i values = _mm512_set1_epi8(2);
#pragma GCC unroll 12
  for (auto& chain : chains) {
    chain = _mm512_setzero_si512();
    __asm__ volatile("" : "+v"(chain));  // Equal chains would be computed once.
  }
  for (int64_t step = 0; step < steps; ++step) {
    __asm__ volatile("" : "+v"(weights), "+v"(values));
#pragma GCC unroll 12
    for (auto& chain : chains) chain = _mm512_dpbusd_epi32(chain, weights, values);
  }
  __m512i all = chains[0];
#pragma GCC unroll 12
  for (int i = 1; i < kProbeChains; ++i) all = _mm512_add_epi32(all, chains[i]);
  return SumLanes(all);
}

uint64_t Fmas(int64_t steps) {
  __m512 chains[kProbeChains];
  __m512 weights = _mm512_set1_ps(0.5f);
  __m512 values = _mm512_set1_ps(0.25f);
#pragma GCC unroll 12
  for (auto& chain : chains) {
    chain = _mm512_setzero_ps();
    __asm__ volatile("" : "+v"(chain));  // Equal chains would be computed once.
  }
  for (int64_t step = 0; step < steps; ++step) {
    __asm__ volatile("" : "+v"(weights), "+v"(values));
#pragma GCC unroll 12
    for (auto& chain : chains) chain = _mm512_fmadd_ps(weights, values, chain);
  }
  __m512 all = chains[0];
#pragma GCC unroll 12
  for (int i = 1; i < kProbeChains; ++i) all = _mm512_add_ps(all, chains[i]);
  return static_cast<uint64_t>(_mm512_reduce_add_ps(all));
}

}  // namespace

constinit const ProbeKernels kProbeAvx512 = {.read = Read,
                                             .byte_dots = ByteDots,
                                             .byte_dot_ops = int64_t{kProbeChains} * 64,
                                             .fmas = Fmas,
                                             .fma_ops = int64_t{kProbeChains} * 16};

}  // namespace shoal::cpu
