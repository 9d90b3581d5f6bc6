#include "coordinator/gateway/text/text_thread.h"

#include <glog/logging.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "transport/base/error.h"

namespace shoal::gateway {
namespace {

// At 4 MiB a body, a gigabyte; the last of them waits for minutes, longer than most clients.
constexpr size_t kTasksMax = 256;

int MakeEventFd() {
  const int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) Throw(ErrorCode::kFailed, "eventfd: out of file descriptors");
  return fd;
}

}  // namespace

TextThread::TextThread(kj::UnixEventPort& port)
    : done_fd_(MakeEventFd()),
      done_observer_(port, done_fd_.get(), kj::UnixEventPort::FdObserver::OBSERVE_READ),
      delivering_(DeliverLoop().eagerlyEvaluate(
          [](kj::Exception&& error) { LOG(FATAL) << error.getDescription().cStr(); })),
      thread_([this] { Work(); }) {}

TextThread::~TextThread() noexcept {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

bool TextThread::full() const {
  const std::lock_guard lock(mutex_);
  return waiting_.size() >= kTasksMax;
}

void TextThread::Enqueue(std::unique_ptr<Task> task) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(task));
  }
  wake_.notify_one();
}

// Tasks are made and destroyed by the loop's thread only.
void TextThread::Work() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stop_ || !waiting_.empty(); });
    if (stop_) return;
    std::unique_ptr<Task> task = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    if (!*task->dropped) task->Work();
    lock.lock();
    done_.push_back(std::move(task));
    const uint64_t one = 1;
    // It can fail only when the counter is full, and then the loop is awake anyway.
    [[maybe_unused]] const ssize_t written = write(done_fd_.get(), &one, sizeof(one));
  }
}

kj::Promise<void> TextThread::DeliverLoop() {
  // Watch first, then empty: an observer only tells of what comes after it was asked.
  auto woken = done_observer_.whenBecomesReadable();
  uint64_t wakes = 0;
  [[maybe_unused]] const ssize_t got = read(done_fd_.get(), &wakes, sizeof(wakes));
  Tasks done;
  {
    const std::lock_guard lock(mutex_);
    done.swap(done_);
  }
  for (const auto& task : done) task->Deliver();
  return woken.then([this] { return DeliverLoop(); });
}

}  // namespace shoal::gateway
