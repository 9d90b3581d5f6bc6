// Fork and join in about a microsecond while the threads are awake, and without ever waiting for a
// thread that the operating system is not running.
//
// A region's chunks are dealt to the threads in shares that lie together: what a thread prefetches
// behind a chunk is the chunk that it takes next. A thread that is through with its own share helps
// with the others.
//
// One 64-bit word for each share, its `claim`, holds the region's number and how many of the
// share's chunks are unclaimed. A thread claims a chunk by compare-and-swap on that word, and only
// then reads the region's other fields: those are written while the last region has no unclaimed
// chunk and none running, and before the claims of the new one. A thread that woke up late finds no
// chunk left or fails to claim it. This is why the number left stands in the word itself: compared
// with a field, an old region could seem to have chunks left.
//
// What one core wrote last reaches another in 50 to 300 nanoseconds. So a region travels as a few
// lines that lie together and hold the function itself, and nothing that another core reads is
// written between two regions without need.

#include "kernels/device/thread_team.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

#include "transport/base/error.h"

namespace shoal::device {
namespace {

// A pause is 40 to 140 cycles: some 30 microseconds of spinning, the gap between two regions of a
// step. Then a yield (a third of a microsecond when nobody else wants the core) up to more than a
// millisecond: longer than the gap between two steps, and beside a busy process a thread that
// sleeps is often woken on that process's core, where it waits while its own core is idle.
constexpr int kSpins = 1000;
constexpr int kYields = 4000;

// 40 bits of region number, 24 bits of unclaimed chunks.
constexpr int kChunkBits = 24;
constexpr uint64_t kChunkMask = (uint64_t{1} << kChunkBits) - 1;

constexpr size_t kCacheLine = 64;

// What is read ahead for a region: this part of the second cache, and so many bytes at least; the
// system may not know its size. So much of it between two looks at whether the region has begun,
// with a pause: the line that says so would wait behind more reads than a core can have under way.
constexpr int64_t kAheadPart = 4;
constexpr int64_t kAheadBytesMin = 128 * 1024;
constexpr int64_t kAheadStep = 8 * kCacheLine;
constexpr int kSecondCache = 2;  // For __builtin_prefetch.

int64_t AheadBytesMax() {
  return std::max<int64_t>(sysconf(_SC_LEVEL2_CACHE_SIZE) / kAheadPart, kAheadBytesMin);
}

// Returns at once if `word` no longer holds `expected`; may return early for no reason.
void FutexWait(std::atomic<uint32_t>& word, uint32_t expected) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, expected, nullptr,
          nullptr, 0);
}

void FutexWakeAll(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr,
          nullptr, 0);
}

// Waits until `ready`, first spinning, then yielding. False if it took longer than that.
template <typename Ready>
bool SpinThenYield(Ready ready) {
  for (int i = 0; i < kSpins; ++i) {
    if (ready()) return true;
    _mm_pause();
  }
  for (int i = 0; i < kYields; ++i) {
    if (ready()) return true;
    sched_yield();
  }
  return ready();
}

// Flush to zero, denormals are zero, and the two bits of the rounding direction.
constexpr uint32_t kMxcsrForbidden = 0x8000 | 0x0040 | 0x6000;

bool EnvironmentIsRight() { return (_mm_getcsr() & kMxcsrForbidden) == 0; }

}  // namespace

struct ThreadTeam::State {
  // One thread's share. Written by every claim, so alone on its line.
  struct alignas(kCacheLine) Share {
    std::atomic<uint64_t> claim{0};
  };

  explicit State(int32_t thread_count) : shares(thread_count) {}

  std::vector<Share> shares;

  // Chunks that threads other than the caller have finished since the start, modulo 2^32. The
  // caller sleeps on it.
  alignas(kCacheLine) std::atomic<uint32_t> finished{0};
  std::atomic<bool> caller_sleeps{false};

  // Written by the caller; read by a thread that runs a chunk of it.
  struct alignas(kCacheLine) Region {
    int64_t count = 0;
    int64_t grain = 1;
    int64_t chunk_count = 0;
    RangeFunction function = [](int64_t, int64_t, int32_t) {};
  };
  Region region;

  // What `finished` is once all chunks up to now are. The caller's own.
  alignas(kCacheLine) uint32_t finished_after = 0;

  // What to read ahead. Threads may see a mix of two calls' values: it is never dereferenced.
  alignas(kCacheLine) std::atomic<uintptr_t> ahead{0};
  std::atomic<int64_t> ahead_bytes{0};
  const int64_t ahead_bytes_max = AheadBytesMax();  // Of a thread's share.

  // Of RunOnIdleThread. The task is written while there is none and read by who has taken it.
  enum Beside : uint32_t { kNone, kWaiting, kTaken };
  alignas(kCacheLine) std::atomic<uint32_t> beside{kNone};
  const std::function<void()>* beside_task = nullptr;

  alignas(kCacheLine) std::atomic<uint32_t> wakeups{0};  // What idle threads sleep on.
  std::atomic<uint32_t> sleepers{0};
  std::atomic<bool> stop{false};

  std::atomic<uint32_t> started{0};
  std::atomic<bool> environment_is_right{true};
  std::atomic<bool> running{false};
  std::vector<std::thread> threads;

  ~State() { Stop(); }

  void Stop() {
    stop.store(true, std::memory_order_seq_cst);
    wakeups.fetch_add(1, std::memory_order_seq_cst);
    FutexWakeAll(wakeups);
    for (std::thread& thread : threads) thread.join();
    threads.clear();
  }

  // The first of `chunks` chunks that is not in a share before this one.
  int64_t ShareBegin(int64_t share, int64_t chunks) const {
    const auto count = static_cast<int64_t>(shares.size());
    return (chunks * share + count - 1) / count;
  }

  // The region that the thread has a share of.
  uint64_t RegionOf(int32_t thread) const {
    return shares[static_cast<size_t>(thread)].claim.load(std::memory_order_seq_cst) >> kChunkBits;
  }

  // Claims and runs chunks of a region, of the thread's own share first, until none is left.
  // Returns how many it ran.
  uint32_t RunChunks(int32_t thread, uint64_t number, bool report) noexcept {
    uint32_t done = 0;
    for (size_t i = 0; i < shares.size(); ++i) {
      const size_t share = (static_cast<size_t>(thread) + i) % shares.size();
      done += RunShare(share, thread, number, report);
    }
    return done;
  }

  // The same with one share. A later region's is left alone: the thread has a share of that too.
  // noexcept: a region cannot be abandoned half way.
  uint32_t RunShare(size_t share, int32_t thread, uint64_t number, bool report) noexcept {
    std::atomic<uint64_t>& claim = shares[share].claim;
    uint32_t done = 0;
    uint64_t word = claim.load(std::memory_order_acquire);
    while ((word & kChunkMask) != 0 && word >> kChunkBits == number) {
      if (!claim.compare_exchange_weak(word, word - 1, std::memory_order_acq_rel,
                                       std::memory_order_acquire)) {
        continue;
      }
      const int64_t chunk = ShareBegin(static_cast<int64_t>(share) + 1, region.chunk_count) -
                            static_cast<int64_t>(word & kChunkMask);
      const int64_t begin = chunk * region.grain;
      region.function(begin, std::min(begin + region.grain, region.count), thread);
      ++done;
      if (report) {
        finished.fetch_add(1, std::memory_order_seq_cst);
        if (caller_sleeps.load(std::memory_order_seq_cst)) FutexWakeAll(finished);
      }
      word = claim.load(std::memory_order_acquire);
    }
    return done;
  }

  void Work(int32_t thread) {
    if (!EnvironmentIsRight()) environment_is_right.store(false, std::memory_order_relaxed);
    started.fetch_add(1, std::memory_order_acq_rel);
    started.notify_one();
    uint64_t number = 0;
    while (WaitForNextRegion(thread, number)) {
      FetchRegion<0>();
      number = RegionOf(thread);
      RunChunks(thread, number, /*report=*/true);
    }
  }

  bool BesideWaits() const { return beside.load(std::memory_order_seq_cst) == kWaiting; }

  // If one waits.
  void CallWaitingTask() noexcept {
    uint32_t expected = kWaiting;
    if (!BesideWaits() || !beside.compare_exchange_strong(expected, kTaken)) return;
    (*beside_task)();
    beside.store(kNone, std::memory_order_release);
  }

  // Until the thread has a share of another region; tasks that come meanwhile are called. False to
  // stop.
  bool WaitForNextRegion(int32_t thread, uint64_t number) {
    const auto begun = [&] {
      return stop.load(std::memory_order_relaxed) || RegionOf(thread) != number;
    };
    const auto ready = [&] { return begun() || BesideWaits(); };
    ReadAhead(thread, ready);
    bool awake = SpinThenYield(ready);
    while (awake && BesideWaits()) {
      CallWaitingTask();
      sched_yield();  // Better now than in the middle of a chunk.
      awake = SpinThenYield(ready);
    }
    if (!awake) {
      // Announce the sleep, then look again: Publish and RunOnIdleThread write what is to be done
      // first and then look for sleepers, so one of the two sees the other.
      sleepers.fetch_add(1, std::memory_order_seq_cst);
      while (true) {
        const uint32_t seen = wakeups.load(std::memory_order_seq_cst);
        if (stop.load(std::memory_order_seq_cst) || RegionOf(thread) != number) break;
        if (BesideWaits()) break;  // The next wait calls it.
        FutexWait(wakeups, seen);
      }
      sleepers.fetch_sub(1, std::memory_order_relaxed);
    }
    return !stop.load(std::memory_order_relaxed);
  }

  // Fetches the region's lines together, to be read (0) or written (1).
  template <int kReadOrWrite>
  void FetchRegion() const {
    for (size_t line = 0; line < sizeof(region); line += kCacheLine) {
      __builtin_prefetch(reinterpret_cast<const std::byte*>(&region) + line, kReadOrWrite);
    }
  }

  // Until `ready`, or all is under way.
  template <typename Ready>
  void ReadAhead(int32_t thread, Ready ready) const {
    const auto threads = static_cast<int64_t>(shares.size());
    const int64_t bytes = ahead_bytes.load(std::memory_order_relaxed);
    const uintptr_t share = ahead.load(std::memory_order_relaxed) + bytes * thread / threads;
    const int64_t share_bytes = std::min(bytes / threads, ahead_bytes_max);
    for (int64_t at = 0; at < share_bytes && !ready(); at += kAheadStep) {
      for (size_t line = 0; line < kAheadStep; line += kCacheLine) {
        __builtin_prefetch(reinterpret_cast<const void*>(share + at + line), /*rw=*/0,
                           kSecondCache);
      }
      _mm_pause();
    }
  }

  void Publish(const RangeFunction& function, int64_t count, int64_t grain, int64_t chunk_count) {
    region.function = function;
    region.count = count;
    region.grain = grain;
    region.chunk_count = chunk_count;
    const uint64_t number = RegionOf(0) + 1;
    for (size_t i = 0; i < shares.size(); ++i) {
      const auto share = static_cast<int64_t>(i);
      const int64_t left = ShareBegin(share + 1, chunk_count) - ShareBegin(share, chunk_count);
      shares[i].claim.store(number << kChunkBits | static_cast<uint64_t>(left),
                            std::memory_order_seq_cst);
    }
    if (sleepers.load(std::memory_order_seq_cst) != 0) {
      wakeups.fetch_add(1, std::memory_order_seq_cst);
      FutexWakeAll(wakeups);
    }
  }

  // Until the other threads have finished the `chunks` of the region that they claimed.
  void WaitForOthers(uint32_t chunks) {
    finished_after += chunks;
    const auto ready = [&] { return finished.load(std::memory_order_acquire) == finished_after; };
    ReadAhead(/*thread=*/0, ready);
    if (SpinThenYield(ready)) return;
    caller_sleeps.store(true, std::memory_order_seq_cst);
    uint32_t seen = finished.load(std::memory_order_seq_cst);
    while (seen != finished_after) {
      FutexWait(finished, seen);
      seen = finished.load(std::memory_order_seq_cst);
    }
    caller_sleeps.store(false, std::memory_order_relaxed);
  }
};

ThreadTeam::ThreadTeam(int32_t thread_count) {
  SHOAL_CHECK(thread_count >= 1, "thread_count ", thread_count);
  state_ = std::make_unique<State>(thread_count);
  try {
    for (int32_t thread = 1; thread < thread_count; ++thread) {
      state_->threads.emplace_back([state = state_.get(), thread] { state->Work(thread); });
    }
  } catch (const std::system_error& error) {  // The message lacks what was wanted.
    Throw(ErrorCode::kFailed, "could start only ", state_->threads.size() + 1, " of ", thread_count,
          " kernel threads (", error.what(), "): lower the number of threads or raise the limit");
  }
  const auto others = static_cast<uint32_t>(thread_count - 1);
  for (uint32_t seen = state_->started.load(); seen != others; seen = state_->started.load()) {
    state_->started.wait(seen);
  }
  if (!EnvironmentIsRight() || !state_->environment_is_right.load(std::memory_order_relaxed)) {
    Throw(ErrorCode::kFailed,
          "MXCSR of a kernel thread has flush-to-zero, denormals-are-zero or a rounding direction "
          "other than to nearest: results would differ from those of other ranks; remove whatever "
          "sets it (a library built with -ffast-math does so when it is loaded)");
  }
}

ThreadTeam::~ThreadTeam() = default;

int32_t ThreadTeam::thread_count() const {
  return static_cast<int32_t>(state_->threads.size()) + 1;
}

void ThreadTeam::ParallelFor(int64_t count, int64_t grain, const RangeFunction& function) {
  SHOAL_CHECK(count >= 0 && grain >= 1, "count ", count, ", grain ", grain);
  SHOAL_CHECK(!state_->running.exchange(true, std::memory_order_acquire),
              "ParallelFor from inside ParallelFor, or from two threads at once");
  const int64_t chunks = count == 0 ? 0 : (count - 1) / grain + 1;
  SHOAL_CHECK(chunks <= static_cast<int64_t>(kChunkMask), "count ", count, ", grain ", grain,
              ": too many chunks");
  if (chunks == 1 || state_->threads.empty()) {
    for (int64_t begin = 0; begin < count; begin += grain) {
      function(begin, std::min(begin + grain, count), 0);
    }
  } else if (chunks > 1) {
    state_->Publish(function, count, grain, chunks);
    const uint32_t own =
        state_->RunChunks(/*thread=*/0, state_->RegionOf(/*thread=*/0), /*report=*/false);
    state_->WaitForOthers(static_cast<uint32_t>(chunks) - own);
    state_->FetchRegion</*kReadOrWrite=*/1>();
  }
  state_->running.store(false, std::memory_order_release);
}

void ThreadTeam::RunOnIdleThread(const std::function<void()>& task) {
  state_->CallWaitingTask();
  if (state_->beside.load(std::memory_order_acquire) != State::kNone) return task();
  state_->beside_task = &task;
  state_->beside.store(State::kWaiting, std::memory_order_seq_cst);
  const auto others = static_cast<uint32_t>(state_->threads.size());
  if (state_->sleepers.load(std::memory_order_seq_cst) == others) state_->CallWaitingTask();
}

void ThreadTeam::FinishBeside() {
  state_->CallWaitingTask();
  while (state_->beside.load(std::memory_order_acquire) != State::kNone) sched_yield();
}

void ThreadTeam::ReadAhead(std::span<const std::byte> memory) {
  state_->ahead.store(reinterpret_cast<uintptr_t>(memory.data()), std::memory_order_relaxed);
  state_->ahead_bytes.store(static_cast<int64_t>(memory.size()), std::memory_order_relaxed);
}

}  // namespace shoal::device
