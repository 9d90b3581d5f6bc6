#include "kernels/cpu/probe/probe.h"

#include <algorithm>
#include <atomic>
#include <cstring>

// Times a variant's loops on all threads.

namespace shoal::cpu {
namespace {

constexpr int64_t kLineBytes = 64;
constexpr int64_t kLinesPerChunk = 16384;  // A megabyte: claiming a chunk costs nothing beside it.
constexpr int kRounds = 5;
// Chunks of some milliseconds, eight for each thread: enough that the last one to finish hardly
// counts.
constexpr int64_t kOpsPerChunk = 1'000'000'000;
constexpr int64_t kChunksPerThread = 8;

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

StreamingRead::StreamingRead(const KernelTable& table, device::ThreadTeam& team, int64_t bytes)
    : table_(table),
      team_(team),
      // In pages as weights are.
      buffer_(std::max<int64_t>(bytes / kLineBytes, 1) * kLineBytes) {
  // Untouched pages are all one page of zeros.
  std::memset(buffer_.data(), 1, static_cast<size_t>(buffer_.bytes()));
}

double StreamingRead::BytesPerSecond(const Clock& clock) const {
  const auto read = table_.probe.read;
  std::atomic<uint64_t> checksum = 0;
  const TimeNs begin = clock.now();
  for (int pass = 0; pass < kPasses; ++pass) {
    team_.ParallelFor(
        buffer_.bytes() / kLineBytes, kLinesPerChunk, [&](int64_t first, int64_t last, int32_t) {
          checksum += read(buffer_.data() + first * kLineBytes, (last - first) * kLineBytes);
        });
  }
  const TimeNs elapsed = std::max<TimeNs>(clock.now() - begin, 1);
  return static_cast<double>(kPasses * buffer_.bytes()) * kSecondNs / static_cast<double>(elapsed);
}

double DotOpsPerSecond(const KernelTable& table, DType dtype, device::ThreadTeam& team,
                       const Clock& clock) {
  const ProbeKernels& loops = table.probe;
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
