#pragma once

// The threads that run one rank's kernels.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <span>
#include <type_traits>

namespace shoal::device {

// A copy of a small callable. What it captures by value reaches another thread together with the
// callable; what it captures by reference must outlive the call it is passed to, and costs that
// thread one more transfer from the caller's cache.
class RangeFunction {
 public:
  static constexpr size_t kBytesMax = 160;

  template <typename F>
  requires(!std::is_same_v<F, RangeFunction>)
      RangeFunction(const F& function)  // NOLINT: implicit, so that lambdas can be passed.
      : call_([](const void* object, int64_t begin, int64_t end, int32_t thread) {
          (*static_cast<const F*>(object))(begin, end, thread);
        }) {
    static_assert(std::is_trivially_copyable_v<F> && sizeof(F) <= kBytesMax &&
                  alignof(F) <= alignof(void*));
    ::new (object_) F(function);
  }

  void operator()(int64_t begin, int64_t end, int32_t thread) const {
    call_(object_, begin, end, thread);
  }

 private:
  void (*call_)(const void*, int64_t, int64_t, int32_t);
  alignas(void*) std::byte object_[kBytesMax];
};

// A fixed set of threads that work through index ranges together; the caller is thread 0.
//
// Which thread gets which range is not fixed, so results must not depend on it. Each has a share,
// neighbouring ranges in ascending order, but chunks are claimed one by one: when the machine takes
// a core away, the others do the work, and a call never waits for a thread that has claimed
// nothing. Idle threads spin briefly, then yield, then sleep. Threading: one thread calls
// ParallelFor.
class ThreadTeam {
 public:
  // Checks MXCSR on every thread: round to nearest even, no flush to zero, no denormals are zero.
  // Errors: kFailed if the environment is another.
  explicit ThreadTeam(int32_t thread_count);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int32_t thread_count() const;

  // Calls function(begin, end, thread) for ranges that tile [0, count), each at most `grain` long,
  // and returns when all are done. thread is in [0, thread_count()), for indexing scratch memory.
  void ParallelFor(int64_t count, int64_t grain, const RangeFunction& function);

  // Until the next call: what a thread that waits for other threads, or for the next region, loads
  // into its L2 meanwhile. `memory` is what a region to come reads, in the order of its
  // indices; a thread loads the beginning of its own share. Only a hint: nothing is dereferenced.
  void ReadAhead(std::span<const std::byte> memory);

  // Has a thread that waits for a region call `task`, so that a process that the task wakes takes
  // that thread's core and the caller goes on. A thread that is called away like this has claimed
  // nothing. If no thread is awake the caller calls it; if none has come to the last task yet, that
  // first. `task` must not throw, must live until FinishIdleTask returns, and may run in two
  // threads at once.
  void RunOnIdleThread(const std::function<void()>& task);

  // Returns when no task waits or runs.
  void FinishIdleTask();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace shoal::device
