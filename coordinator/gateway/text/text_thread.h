#pragma once

// Threads beside the event loop, for work on text that would hold the loop up.

#include <kj/async-unix.h>
#include <kj/io.h>

#include <atomic>
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

// From this size on, text is not worked on in the loop's own thread. Reading, rendering, compiling
// a grammar and tokenizing take up to half a microsecond a byte: what is smaller holds the loop for
// a millisecond.
constexpr size_t kBesideLoopBytes = 2 * 1024;
// From this size on, text does not share a thread with what is smaller.
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
// Threading: owned by the event loop of `port`. Jobs run on the other thread: what they use must be
//            theirs or immutable.
// Cost:      destroying it waits for the job at hand.
class TextThread {
 public:
  explicit TextThread(kj::UnixEventPort& port);
  ~TextThread() noexcept;

  // As many jobs as it takes are waiting: refuse, or come back later.
  bool full() const;

  // Precondition: not full().
  template <typename Result>
  kj::Promise<kj::Own<Outcome<Result>>> Run(std::function<Result()> job) {
    auto pair = kj::newPromiseAndFulfiller<kj::Own<Outcome<Result>>>();
    auto task = std::make_unique<TaskFor<Result>>(std::move(job), kj::mv(pair.fulfiller));
    auto mark_dropped = kj::defer([dropped = task->dropped] { *dropped = true; });
    Enqueue(std::move(task));
    return pair.promise.attach(kj::mv(mark_dropped));
  }

 private:
  struct Task {
    virtual ~Task() = default;
    virtual void Work() = 0;     // On the other thread.
    virtual void Deliver() = 0;  // On the loop's.

    const std::shared_ptr<std::atomic<bool>> dropped = std::make_shared<std::atomic<bool>>(false);
  };

  template <typename Result>
  struct TaskFor : Task {
    using Fulfiller = kj::PromiseFulfiller<kj::Own<Outcome<Result>>>;

    TaskFor(std::function<Result()> to_do, kj::Own<Fulfiller> to_fulfill)
        : job(std::move(to_do)), fulfiller(kj::mv(to_fulfill)) {}
    ~TaskFor() noexcept override = default;

    void Work() override { outcome.emplace(job); }
    void Deliver() override {
      if (outcome) fulfiller->fulfill(kj::heap<Outcome<Result>>(*std::move(outcome)));
    }

    const std::function<Result()> job;
    std::optional<Outcome<Result>> outcome;
    kj::Own<Fulfiller> fulfiller;
  };
  using Tasks = std::deque<std::unique_ptr<Task>>;

  void Enqueue(std::unique_ptr<Task> task);
  void Work();
  kj::Promise<void> DeliverLoop();

  const kj::AutoCloseFd done_fd_;  // An eventfd: there is something to deliver.
  kj::UnixEventPort::FdObserver done_observer_;
  mutable std::mutex mutex_;  // Guards what stands up to stop_.
  std::condition_variable wake_;
  Tasks waiting_;
  Tasks done_;
  bool stop_ = false;
  kj::Promise<void> delivering_;
  std::thread thread_;  // Last: it uses all of the above.
};

// The thread for each size of text, so that a text of a few kilobytes, which is most of them, waits
// for others of its kind (some milliseconds each) and never for megabytes (up to a second each).
// Threading: owned by the event loop of `port`.
class TextThreads {
 public:
  explicit TextThreads(kj::UnixEventPort& port) : middling_(port), large_(port) {}

  // Null: so little text is worked on at once.
  TextThread* For(size_t text_bytes) {
    if (text_bytes < kBesideLoopBytes) return nullptr;
    return text_bytes < kLargeTextBytes ? &middling_ : &large_;
  }

 private:
  TextThread middling_;
  TextThread large_;
};

}  // namespace shoal::gateway
