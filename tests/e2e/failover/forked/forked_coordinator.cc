#include "tests/e2e/failover/forked/forked_coordinator.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <utility>

#include "coordinator/shell/serve.h"
#include "tests/support/patience.h"
#include "transport/base/error.h"

namespace shoal::test {
namespace {

[[noreturn]] void RunCoordinator(const gateway::CoordinatorOptions& options, int pipe) {
  try {
    gateway::ServeHooks hooks;
    hooks.on_listening = [&](const gateway::Listening& where) {
      const int port = std::stoi(where.url.substr(where.url.rfind(':') + 1));
      const int ports[2] = {port, where.rpc_port};
      if (write(pipe, ports, sizeof(ports)) < 0) _exit(1);
    };
    gateway::Serve(options, 100, std::move(hooks));
  } catch (const std::exception& error) {  // The end of a process, which the test notices.
    std::cerr << "coordinator: " << error.what() << std::endl;
    _exit(1);
  }
  _exit(0);
}

}  // namespace

void SendStderrTo(const std::string& path) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (file >= 0) dup2(file, STDERR_FILENO);
}

ForkedCoordinator::ForkedCoordinator(gateway::CoordinatorOptions options, std::string log)
    : options_(std::move(options)), log_(std::move(log)) {
  options_.port = options_.rpc_port = 0;
  Start();
}

std::string ForkedCoordinator::rpc_address() const { return Str("127.0.0.1:", options_.rpc_port); }

void ForkedCoordinator::Kill() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  waitpid(std::exchange(pid_, -1), nullptr, 0);
}

void ForkedCoordinator::Start() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) Throw(ErrorCode::kFailed, "pipe: ", strerror(errno));
  std::fflush(nullptr);
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    close(ends[0]);
    SendStderrTo(log_);
    RunCoordinator(options_, ends[1]);
  }
  close(ends[1]);
  int ports[2] = {0, 0};
  pollfd ready{ends[0], POLLIN, 0};
  const bool told = pid_ > 0 && poll(&ready, 1, static_cast<int>(kPatienceMs)) > 0 &&
                    read(ends[0], ports, sizeof(ports)) == sizeof(ports);
  close(ends[0]);
  if (!told) Throw(ErrorCode::kFailed, "the coordinator did not start: see ", log_);
  options_.port = ports[0];
  options_.rpc_port = ports[1];
}

}  // namespace shoal::test
