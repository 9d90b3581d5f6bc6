// A message is its size, then its bytes.

#include "parallel/comm/outbox.h"

#include <utility>

#include "transport/base/check.h"

namespace shoal::comm {

Outbox::Outbox(Communicator& communicator, int32_t to, size_t messages_max, const Clock& clock,
               int64_t timeout_ms)
    : communicator_(communicator),
      to_(to),
      messages_max_(messages_max),
      clock_(clock),
      timeout_ms_(timeout_ms) {}

Outbox::~Outbox() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    if (!waiting_.empty()) communicator_.Abort();
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Outbox::Post(std::vector<std::byte> message) {
  const std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
  const auto bytes = static_cast<int64_t>(sizeof(uint64_t) + message.size());
  if (waiting_.empty() && communicator_.HasRoom(bytes, to_)) return Send(message);
  SHOAL_CHECK(waiting_.size() < messages_max_, waiting_.size(), " messages wait");
  waiting_.push_back(std::move(message));
  if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  changed_.notify_all();
}

void Outbox::Flush() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return failure_ || waiting_.empty(); });
  if (failure_) std::rethrow_exception(failure_);
}

void Outbox::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return closing_ || !waiting_.empty(); });
    if (closing_) return;
    const std::vector<std::byte>& first = waiting_.front();
    lock.unlock();
    std::exception_ptr failure;
    try {
      Send(first);
    } catch (...) {  // Rethrown by Post or Flush, on the owner's thread.
      failure = std::current_exception();
    }
    lock.lock();
    waiting_.pop_front();
    failure_ = failure;
    changed_.notify_all();
    if (failure_) return;
  }
}

void Outbox::Send(const std::vector<std::byte>& message) {
  communicator_.SetDeadline(Deadline::After(clock_, timeout_ms_));
  SendMessage(communicator_, message, to_);
}

void SendMessage(Communicator& communicator, std::span<const std::byte> bytes, int32_t to) {
  const uint64_t size = bytes.size();
  communicator.Send(std::as_bytes(std::span(&size, 1)), to);
  communicator.Send(bytes, to);
}

std::vector<std::byte> ReceiveMessage(Communicator& communicator, int32_t from) {
  uint64_t size = 0;
  communicator.Receive(std::as_writable_bytes(std::span(&size, 1)), from);
  std::vector<std::byte> bytes(size);
  communicator.Receive(bytes, from);
  return bytes;
}

}  // namespace shoal::comm
