#pragma once

// A coordinator in a process of its own, started again on the same ports as soon as it has ended.

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "coordinator/shell/coordinator.h"

namespace shoal::test {

// Threading: one thread, while others may run from the end of the constructor on.
class ForkedCoordinator {
 public:
  // Returns once it listens. `log`: a file that its stderr goes to. Precondition: this process has
  // one thread. Errors: kFailed, kDeadlineExceeded.
  ForkedCoordinator(const gateway::CoordinatorOptions& options, const std::string& log);
  ~ForkedCoordinator();
  ForkedCoordinator(const ForkedCoordinator&) = delete;
  ForkedCoordinator& operator=(const ForkedCoordinator&) = delete;

  uint16_t port() const;  // HTTP.
  std::string rpc_address() const;
  // SIGKILL. The next one listens a moment later.
  void Kill();
  int64_t starts() const { return shared_->starts; }

 private:
  // Of this process, the one that starts coordinators, and theirs.
  struct Shared {
    std::atomic<int> port{0};
    std::atomic<int> rpc_port{0};
    std::atomic<pid_t> pid{0};
    std::atomic<int64_t> starts{0};  // Of those that listened.
  };
  [[noreturn]] static void Keep(gateway::CoordinatorOptions options, Shared& shared);
  [[noreturn]] static void Serve(const gateway::CoordinatorOptions& options, Shared& shared);

  Shared* shared_ = nullptr;
  pid_t keeper_ = -1;
};

// For a process that was just forked: it dies with that parent, and its stderr goes to the end of
// that file.
void StartForked(pid_t parent, const std::string& log);

}  // namespace shoal::test
