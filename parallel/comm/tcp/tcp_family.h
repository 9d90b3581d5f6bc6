#pragma once

// A family: a process's TCP communicator and all that are split from it. The first failure of one
// ends all.

#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "parallel/comm/group_failure.h"
#include "transport/link/tcp/tcp_socket.h"

namespace shoal::comm {

// Threading: thread-safe.
class TcpFamily {
 public:
  TcpFamily();

  // Readable from the first failure on.
  int wake_fd() const { return wake_.fd(); }
  GroupFailure failure() const;
  // Keeps the first failure, wakes this process's waiters and ends all connections, which is how
  // the other ranks learn of it.
  void Fail(GroupFailure failure);

  // The connections to end on failure; ends them at once if that has happened.
  void Add(std::span<const link::Socket> sockets);
  // Before they are closed.
  void Remove(std::span<const link::Socket> sockets);

 private:
  link::Socket wake_;  // An eventfd.
  std::atomic<uint32_t> failure_{0};
  std::mutex mutex_;
  std::vector<int> open_fds_;  // Guarded by mutex_.
};

}  // namespace shoal::comm
