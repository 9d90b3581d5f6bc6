#include "kernels/cpu/probe.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "kernels/cpu/probe_loops.h"

// Times the loops of probe_loops.h on all threads, and holds the scalar row's own loops.

namespace shoal::cpu {
namespace {

constexpr int64_t kLineBytes = 64;
constexpr int64_t kLinesPerChunk = 16384;  // A megabyte: claiming a chunk costs nothing beside it.
constexpr int kRounds = 5;
// Chunks of some milliseconds, eight for each thread: enough that the last one to finish hardly
// counts.
constexpr int64_t kOpsPerChunk = 1'000'000'000;
constexpr int64_t kChunksPerThread = 8;

ProbeLoops LoopsOf(const KernelTable& table) {
  if ((table.required_features & kAvx512Vnni) != 0) {
    const bool tiles = (table.required_features & kAmxInt8) != 0;
    return {.read = ReadAvx512,
            .byte_dots = tiles ? ByteDotsAmx : ByteDotsAvx512,
            .byte_dot_ops = tiles ? kByteDotOpsAmx : kByteDotOpsAvx512,
            .fmas = FmasAvx512,
            .fma_ops = kFmaOpsAvx512};
  }
  if ((table.required_features & kAvx2) != 0) {
    return {.read = ReadAvx2,
            .byte_dots = ByteDotsAvx2,
            .byte_dot_ops = kByteDotOpsAvx2,
            .fmas = FmasAvx2,
            .fma_ops = kFmaOpsAvx2};
  }
  return {.read = ReadScalar,
          .byte_dots = ByteDotsScalar,
          .byte_dot_ops = kByteDotOpsScalar,
          .fmas = FmasScalar,
          .fma_ops = kFmaOpsScalar};
}

// The most units a second of several rounds: whatever else runs only ever slows one down.
template <typename Round>
double BestRate(const Clock& clock, double units, Round round) {
  double best = 0;
  for (int i = 0; i < kRounds; ++i) {
    const TimeNs begin = clock.now();
    round();
    const TimeNs elapsed = std::max<TimeNs>(clock.now() - begin, 1);
    best = std::max(best, units / static_cast<double>(elapsed) * static_cast<double>(kSecondNs));
  }
  return best;
}

}  // namespace

uint64_t ReadScalar(const std::byte* from, int64_t bytes) {
  constexpr int64_t kPrefetchBytes = 2048;
  uint64_t sum = 0;
  for (int64_t at = 0; at < bytes; at += kLineBytes) {
    __builtin_prefetch(from + at + kPrefetchBytes);
    for (int64_t i = 0; i < kLineBytes; i += 8) {
      uint64_t word;
      std::memcpy(&word, from + at + i, 8);
      sum ^= word;
    }
  }
  return sum;
}

uint64_t ByteDotsScalar(int64_t steps) {
  int8_t weights[kByteDotOpsScalar];
  int8_t values[kByteDotOpsScalar];
  std::memset(weights, 3, sizeof(weights));
  std::memset(values, 2, sizeof(values));
  int32_t sum = 0;
  for (int64_t step = 0; step < steps; ++step) {
    __asm__ volatile("" : : "r"(weights), "r"(values) : "memory");
    for (int64_t i = 0; i < kByteDotOpsScalar; ++i) sum += weights[i] * values[i];
  }
  return static_cast<uint32_t>(sum);
}

uint64_t FmasScalar(int64_t steps) {
  float chains[kFmaOpsScalar] = {};
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

StreamingRead::StreamingRead(const KernelTable& table, device::ThreadTeam& team, int64_t bytes)
    : table_(table),
      team_(team),
      // In pages as weights are.
      buffer_(std::max<int64_t>(bytes / kLineBytes, 1) * kLineBytes) {
  // Untouched pages are all one page of zeros.
  std::memset(buffer_.data(), 1, static_cast<size_t>(buffer_.bytes()));
}

double StreamingRead::BytesPerSecond(const Clock& clock) const {
  const ProbeLoops loops = LoopsOf(table_);
  std::atomic<uint64_t> checksum = 0;
  const TimeNs begin = clock.now();
  for (int pass = 0; pass < kPasses; ++pass) {
    team_.ParallelFor(
        buffer_.bytes() / kLineBytes, kLinesPerChunk, [&](int64_t first, int64_t last, int32_t) {
          checksum += loops.read(buffer_.data() + first * kLineBytes, (last - first) * kLineBytes);
        });
  }
  const TimeNs elapsed = std::max<TimeNs>(clock.now() - begin, 1);
  return static_cast<double>(kPasses * buffer_.bytes()) * kSecondNs / static_cast<double>(elapsed);
}

double DotOpsPerSecond(const KernelTable& table, DType dtype, device::ThreadTeam& team,
                       const Clock& clock) {
  const ProbeLoops loops = LoopsOf(table);
  const auto loop = IsQuantized(dtype) ? loops.byte_dots : loops.fmas;
  const int64_t step_ops = IsQuantized(dtype) ? loops.byte_dot_ops : loops.fma_ops;
  // The scalar loops do a hundredth of the work in the same time.
  const int64_t chunk_ops =
      table.required_features == kBaseline ? kOpsPerChunk / 100 : kOpsPerChunk;
  const int64_t steps = chunk_ops / step_ops;
  const int64_t chunks = kChunksPerThread * team.thread_count();
  std::atomic<uint64_t> checksum = 0;
  const auto units = static_cast<double>(chunks * steps * step_ops);
  return BestRate(clock, units, [&] {
    team.ParallelFor(chunks, 1, [&](int64_t begin, int64_t end, int32_t) {
      for (int64_t chunk = begin; chunk < end; ++chunk) checksum += loop(steps);
    });
  });
}

}  // namespace shoal::cpu
