#include "tests/e2e/failover/forked/forked_coordinator.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <new>
#include <utility>

#include "coordinator/shell/serve.h"
#include "tests/support/patience.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"

namespace shoal::test {

void StartForked(pid_t parent, const std::string& log) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (file >= 0) dup2(file, STDERR_FILENO);
}

ForkedCoordinator::ForkedCoordinator(const gateway::CoordinatorOptions& options,
                                     const std::string& log) {
  void* const memory =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) Throw(ErrorCode::kFailed, "mmap: ", strerror(errno));
  shared_ = new (memory) Shared;
  std::fflush(nullptr);
  const pid_t parent = getpid();
  keeper_ = fork();
  if (keeper_ < 0) Throw(ErrorCode::kFailed, "fork: ", strerror(errno));
  if (keeper_ == 0) {
    StartForked(parent, log);
    Keep(options, *shared_);
  }
  const SteadyClock clock;
  const Deadline deadline = Deadline::After(clock, kPatienceMs);
  while (starts() == 0) {
    if (deadline.Passed(clock)) {
      Throw(ErrorCode::kDeadlineExceeded, "the coordinator did not start: see ", log);
    }
    poll(nullptr, 0, 1);
  }
}

ForkedCoordinator::~ForkedCoordinator() {
  // The coordinator dies with it.
  kill(keeper_, SIGKILL);
  waitpid(keeper_, nullptr, 0);
  munmap(shared_, sizeof(Shared));
}

uint16_t ForkedCoordinator::port() const { return static_cast<uint16_t>(shared_->port); }

std::string ForkedCoordinator::rpc_address() const {
  return Str("127.0.0.1:", shared_->rpc_port.load());
}

void ForkedCoordinator::Kill() {
  if (const pid_t pid = shared_->pid.exchange(0); pid > 0) kill(pid, SIGKILL);
}

void ForkedCoordinator::Keep(gateway::CoordinatorOptions options, Shared& shared) {
  const pid_t parent = getpid();
  while (true) {
    options.port = shared.port;
    options.rpc_port = shared.rpc_port;
    const pid_t pid = fork();
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() == parent) Serve(options, shared);
      _exit(1);
    }
    while (pid > 0 && waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    shared.pid = 0;
    poll(nullptr, 0, 5);
  }
}

void ForkedCoordinator::Serve(const gateway::CoordinatorOptions& options, Shared& shared) {
  try {
    gateway::ServeHooks hooks;
    hooks.on_listening = [&](const gateway::Listening& where) {
      shared.port = std::stoi(where.url.substr(where.url.rfind(':') + 1));
      shared.rpc_port = where.rpc_port;
      shared.pid = getpid();
      ++shared.starts;
    };
    gateway::Serve(options, 100, std::move(hooks));
  } catch (const std::exception& error) {  // The end of a process; another one follows.
    std::cerr << "coordinator: " << error.what() << std::endl;
    _exit(1);
  }
  _exit(0);
}

}  // namespace shoal::test
