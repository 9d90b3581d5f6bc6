#pragma once

// Runs a test's functions on a KJ event loop in another thread. Not kj::Executor: its hand-over is
// invisible to ThreadSanitizer, because the library it lives in is not instrumented.

#include <kj/async-io.h>
#include <kj/async-unix.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <utility>

namespace shoal::test {

class LoopJobs {
 public:
  LoopJobs() : wake_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

  // From any other thread: runs `job` on the loop and waits for it.
  void Run(const std::function<void()>& job) {
    std::promise<void> done;
    std::future<void> future = done.get_future();
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back([&] {
        job();
        done.set_value();
      });
    }
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(wake_fd_.get(), &one, sizeof(one));
    future.get();
  }

  void Stop() {
    Run([this] { stopped_ = true; });
  }

  // On the loop's thread: runs jobs and everything else until Stop.
  void Serve(kj::AsyncIoContext& io) {
    kj::UnixEventPort::FdObserver observer(io.unixEventPort, wake_fd_.get(),
                                           kj::UnixEventPort::FdObserver::OBSERVE_READ);
    while (true) {
      auto woken = observer.whenBecomesReadable();
      uint64_t count = 0;
      [[maybe_unused]] const ssize_t got = read(wake_fd_.get(), &count, sizeof(count));
      for (const auto& job : Take()) job();
      if (stopped_) return;
      woken.wait(io.waitScope);
    }
  }

 private:
  std::deque<std::function<void()>> Take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(jobs_, {});
  }

  const kj::AutoCloseFd wake_fd_;
  bool stopped_ = false;  // The loop's own.
  std::mutex mutex_;      // Guards jobs_.
  std::deque<std::function<void()>> jobs_;
};

}  // namespace shoal::test
