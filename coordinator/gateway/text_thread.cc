#include "coordinator/gateway/text_thread.h"

namespace shoal::gateway {
namespace {

// At 4 MiB a body, a gigabyte; the last of them waits for minutes, longer than most clients.
constexpr size_t kJobsMax = 256;

}  // namespace

TextThread::~TextThread() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    jobs_.clear();
  }
  wake_.notify_one();
  thread_.join();
}

bool TextThread::full() const {
  const std::lock_guard lock(mutex_);
  return jobs_.size() >= kJobsMax;
}

void TextThread::Enqueue(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
}

void TextThread::Work() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
    if (stop_) return;
    const std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
    lock.lock();
  }
}

}  // namespace shoal::gateway
