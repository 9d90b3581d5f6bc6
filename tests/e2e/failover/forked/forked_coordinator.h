#pragma once

// A coordinator in a process of its own, which can be killed and started again on the same ports.

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "coordinator/shell/coordinator.h"

namespace shoal::test {

// Threading: one thread.
class ForkedCoordinator {
 public:
  // Returns once it listens. `log`: a file that its stderr goes to. Precondition: this process has
  // one thread. Errors: kFailed, kDeadlineExceeded.
  ForkedCoordinator(gateway::CoordinatorOptions options, std::string log);
  ~ForkedCoordinator() { Kill(); }
  ForkedCoordinator(const ForkedCoordinator&) = delete;
  ForkedCoordinator& operator=(const ForkedCoordinator&) = delete;

  uint16_t port() const { return static_cast<uint16_t>(options_.port); }  // HTTP.
  std::string rpc_address() const;

  // SIGKILL; returns when it is gone.
  void Kill();
  // After Kill.
  void Start();

 private:
  gateway::CoordinatorOptions options_;
  const std::string log_;
  pid_t pid_ = -1;
};

// For a process that was just forked: stderr goes to the end of that file.
void SendStderrTo(const std::string& path);

}  // namespace shoal::test
