#include "parallel/comm/tcp/tcp_family.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/base/error.h"

// shutdown() rather than close(): the descriptors stay their owners', and a thread that sleeps on
// one wakes up.

namespace shoal::comm {

TcpFamily::TcpFamily() : wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!wake_.is_open()) Throw(ErrorCode::kFailed, "eventfd: out of file descriptors");
}

GroupFailure TcpFamily::failure() const {
  return GroupFailure::Unpack(failure_.load(std::memory_order_acquire));
}

void TcpFamily::Fail(GroupFailure failure) {
  uint32_t none = 0;
  failure_.compare_exchange_strong(none, failure.Pack());
  const uint64_t one = 1;
  // Only a full counter makes it fail, and that is readable too.
  [[maybe_unused]] const ssize_t written = write(wake_.fd(), &one, sizeof(one));
  const std::lock_guard lock(mutex_);
  for (const int fd : open_fds_) shutdown(fd, SHUT_RDWR);
}

void TcpFamily::Add(std::span<const link::Socket> sockets) {
  const std::lock_guard lock(mutex_);
  for (const link::Socket& socket : sockets) {
    if (!socket.is_open()) continue;
    open_fds_.push_back(socket.fd());
    if (failure().kind != FailureKind::kNone) shutdown(socket.fd(), SHUT_RDWR);
  }
}

void TcpFamily::Remove(std::span<const link::Socket> sockets) {
  const std::lock_guard lock(mutex_);
  for (const link::Socket& socket : sockets) std::erase(open_fds_, socket.fd());
}

}  // namespace shoal::comm
