#pragma once

// A thread beside the event loop, for reading and tokenizing what would hold the loop up.

#include <kj/async.h>

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace shoal::gateway {

// From this size on, text is not worked on in the loop's own thread: some ten milliseconds of
// tokenizing.
constexpr size_t kLargeTextBytes = 64 * 1024;

// What a job returned or threw, of whatever type.
template <typename Result>
class Outcome {
 public:
  explicit Outcome(const std::function<Result()>& job) noexcept {
    try {
      value_ = job();
    } catch (...) {  // Rethrown by Take, on the thread that waits.
      error_ = std::current_exception();
    }
  }

  Result Take() {
    if (error_) std::rethrow_exception(error_);
    return *std::move(value_);
  }

 private:
  std::optional<Result> value_;
  std::exception_ptr error_;
};

// Order:     one job at a time, first come, first served. One whose promise was dropped before its
//            turn is left out.
// Threading: owned by the event loop. Jobs run on the other thread: what they use must be theirs or
//            immutable.
// Cost:      destroying it waits for the job at hand.
class TextThread {
 public:
  TextThread() : thread_([this] { Work(); }) {}
  ~TextThread();

  // As many jobs as it takes are waiting: refuse, or come back later.
  bool full() const;

  // Resolves on the calling event loop. Precondition: not full().
  template <typename Result>
  kj::Promise<kj::Own<Outcome<Result>>> Run(std::function<Result()> job) {
    using Pointer = kj::Own<Outcome<Result>>;
    auto pair = kj::newPromiseAndCrossThreadFulfiller<Pointer>();
    auto fulfiller =
        std::make_shared<kj::Own<kj::CrossThreadPromiseFulfiller<Pointer>>>(kj::mv(pair.fulfiller));
    Enqueue([job = std::move(job), fulfiller] {
      if ((*fulfiller)->isWaiting()) (*fulfiller)->fulfill(kj::heap<Outcome<Result>>(job));
    });
    return kj::mv(pair.promise);
  }

 private:
  void Enqueue(std::function<void()> job);
  void Work();

  mutable std::mutex mutex_;  // Guards jobs_ and stop_.
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  bool stop_ = false;
  std::thread thread_;  // Last: it uses all of the above.
};

}  // namespace shoal::gateway
