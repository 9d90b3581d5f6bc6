// Fork and join in about a microsecond while the threads are awake, and without ever waiting for a
// thread that the operating system is not running. What one core wrote last reaches another in 50
// to 300 nanoseconds, so nothing that another core reads is written between two regions without
// need.

#include "kernels/device/thread_team.h"

#include <sched.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

#include "kernels/device/region.h"
#include "kernels/device/spin_wait.h"
#include "transport/base/error.h"

namespace shoal::device {
namespace {

// What is read ahead for a region: this part of L2, and so many bytes at least; the system may not
// know its size. So much of it between two looks at whether the region has begun, with a pause: the
// line that says so would wait for more reads than a core can have under way.
constexpr int64_t kAheadPart = 4;
constexpr int64_t kAheadBytesMin = 128 * 1024;
constexpr int64_t kAheadStep = 8 * kCacheLine;
constexpr int kToL2 = 2;  // For __builtin_prefetch.

int64_t AheadBytesMax() {
  return std::max<int64_t>(sysconf(_SC_LEVEL2_CACHE_SIZE) / kAheadPart, kAheadBytesMin);
}

// Flush to zero, denormals are zero, and the two bits of the rounding direction.
constexpr uint32_t kMxcsrForbidden = 0x8000 | 0x0040 | 0x6000;

bool EnvironmentIsRight() { return (_mm_getcsr() & kMxcsrForbidden) == 0; }

}  // namespace

struct ThreadTeam::State {
  explicit State(int32_t count) : thread_count(count), region(count) {}

  const int32_t thread_count;
  Region region;

  // Chunks that threads other than the caller have finished since the start, modulo 2^32. The
  // caller sleeps on it.
  alignas(kCacheLine) std::atomic<uint32_t> finished{0};
  std::atomic<bool> caller_sleeps{false};

  // What `finished` is once all chunks up to now are. The caller's own.
  alignas(kCacheLine) uint32_t finished_after = 0;

  // What to read ahead. Threads may see a mix of two calls' values: it is never dereferenced.
  alignas(kCacheLine) std::atomic<uintptr_t> ahead{0};
  std::atomic<int64_t> ahead_bytes{0};
  const int64_t ahead_bytes_max = AheadBytesMax();  // Of a thread's share.

  // Of RunOnIdleThread. The task is written while there is none and read by who has taken it.
  enum IdleTask : uint32_t { kNone, kWaiting, kTaken };
  alignas(kCacheLine) std::atomic<uint32_t> idle_task{kNone};
  const std::function<void()>* idle_task_function = nullptr;

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

  void Work(int32_t thread) {
    if (!EnvironmentIsRight()) environment_is_right.store(false, std::memory_order_relaxed);
    started.fetch_add(1, std::memory_order_acq_rel);
    started.notify_one();
    uint64_t number = 0;
    while (WaitForNextRegion(thread, number)) {
      region.Fetch</*kReadOrWrite=*/0>();
      number = region.NumberOf(thread);
      region.RunChunks(thread, number, [this] {
        finished.fetch_add(1, std::memory_order_seq_cst);
        if (caller_sleeps.load(std::memory_order_seq_cst)) FutexWakeAll(finished);
      });
    }
  }

  bool TaskWaits() const { return idle_task.load(std::memory_order_seq_cst) == kWaiting; }

  // If one waits.
  void CallWaitingTask() noexcept {
    uint32_t expected = kWaiting;
    if (!TaskWaits() || !idle_task.compare_exchange_strong(expected, kTaken)) return;
    (*idle_task_function)();
    idle_task.store(kNone, std::memory_order_release);
  }

  // Until the thread has a share of another region; tasks that come meanwhile are called. False to
  // stop.
  bool WaitForNextRegion(int32_t thread, uint64_t number) {
    const auto begun = [&] {
      return stop.load(std::memory_order_relaxed) || region.NumberOf(thread) != number;
    };
    const auto ready = [&] { return begun() || TaskWaits(); };
    ReadAhead(thread, ready);
    bool awake = SpinThenYield(ready);
    while (awake && TaskWaits()) {
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
        if (stop.load(std::memory_order_seq_cst) || region.NumberOf(thread) != number) break;
        if (TaskWaits()) break;  // The next wait calls it.
        FutexWait(wakeups, seen);
      }
      sleepers.fetch_sub(1, std::memory_order_relaxed);
    }
    return !stop.load(std::memory_order_relaxed);
  }

  // Until `ready`, or all is under way.
  template <typename Ready>
  void ReadAhead(int32_t thread, Ready ready) const {
    const int64_t threads = thread_count;
    const int64_t bytes = ahead_bytes.load(std::memory_order_relaxed);
    const uintptr_t share = ahead.load(std::memory_order_relaxed) + bytes * thread / threads;
    const int64_t share_bytes = std::min(bytes / threads, ahead_bytes_max);
    for (int64_t at = 0; at < share_bytes && !ready(); at += kAheadStep) {
      for (size_t line = 0; line < kAheadStep; line += kCacheLine) {
        __builtin_prefetch(reinterpret_cast<const void*>(share + at + line), /*rw=*/0, kToL2);
      }
      _mm_pause();
    }
  }

  void Publish(const RangeFunction& function, int64_t count, int64_t grain, int64_t chunk_count) {
    region.Publish(function, count, grain, chunk_count);
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

int32_t ThreadTeam::thread_count() const { return state_->thread_count; }

void ThreadTeam::ParallelFor(int64_t count, int64_t grain, const RangeFunction& function) {
  SHOAL_CHECK(count >= 0 && grain >= 1, "count ", count, ", grain ", grain);
  SHOAL_CHECK(!state_->running.exchange(true, std::memory_order_acquire),
              "ParallelFor from inside ParallelFor, or from two threads at once");
  const int64_t chunks = count == 0 ? 0 : (count - 1) / grain + 1;
  SHOAL_CHECK(chunks <= static_cast<int64_t>(Region::kChunkMask), "count ", count, ", grain ",
              grain, ": too many chunks");
  if (chunks == 1 || state_->threads.empty()) {
    for (int64_t begin = 0; begin < count; begin += grain) {
      function(begin, std::min(begin + grain, count), 0);
    }
  } else if (chunks > 1) {
    state_->Publish(function, count, grain, chunks);
    const uint32_t own =
        state_->region.RunChunks(/*thread=*/0, state_->region.NumberOf(/*thread=*/0), [] {});
    state_->WaitForOthers(static_cast<uint32_t>(chunks) - own);
    state_->region.Fetch</*kReadOrWrite=*/1>();
  }
  state_->running.store(false, std::memory_order_release);
}

void ThreadTeam::RunOnIdleThread(const std::function<void()>& task) {
  state_->CallWaitingTask();
  if (state_->idle_task.load(std::memory_order_acquire) != State::kNone) return task();
  state_->idle_task_function = &task;
  state_->idle_task.store(State::kWaiting, std::memory_order_seq_cst);
  const auto others = static_cast<uint32_t>(state_->threads.size());
  if (state_->sleepers.load(std::memory_order_seq_cst) == others) state_->CallWaitingTask();
}

void ThreadTeam::FinishIdleTask() {
  state_->CallWaitingTask();
  while (state_->idle_task.load(std::memory_order_acquire) != State::kNone) sched_yield();
}

void ThreadTeam::ReadAhead(std::span<const std::byte> memory) {
  state_->ahead.store(reinterpret_cast<uintptr_t>(memory.data()), std::memory_order_relaxed);
  state_->ahead_bytes.store(static_cast<int64_t>(memory.size()), std::memory_order_relaxed);
}

}  // namespace shoal::device
