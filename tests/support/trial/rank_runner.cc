#include "tests/support/trial/rank_runner.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>

#include "parallel/comm/forked_group.h"

// Each rank writes one record into its pipe: an error code or kNoCode, then the bytes or the
// error's text. The pipe's end tells that the rank has ended.

namespace shoal::test {
namespace {

constexpr char kReturned = 'r';
constexpr char kThrew = 't';
constexpr char kNoCode = 'x';

struct Child {
  pid_t pid = -1;
  int pipe = -1;
  std::string record;
};

void WriteAll(int fd, const std::string& bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = write(fd, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;  // The runner reports a record that is cut short.
    done += static_cast<size_t>(count);
  }
}

// The life of a forked rank.
[[noreturn]] void RunChild(int fd, comm::ForkedGroup& group, int32_t rank,
                           const std::function<std::string(comm::Communicator&)>& function,
                           Deadline deadline, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  int status = 1;
  // Whatever the function throws becomes the rank's result.
  try {
    const std::unique_ptr<comm::Communicator> comm = group.Join(rank, deadline);
    comm->SetDeadline(deadline);
    WriteAll(fd, kReturned + function(*comm));
    status = 0;
  } catch (const Error& error) {
    WriteAll(fd, {kThrew, static_cast<char>('0' + static_cast<int>(error.code()))});
    WriteAll(fd, error.what());
  } catch (const std::exception& error) {
    WriteAll(fd, {kThrew, kNoCode});
    WriteAll(fd, error.what());
  }
  std::fflush(nullptr);
  // Not exit(): destructors and handlers of the test program belong to the parent.
  _exit(status);
}

void StartChildren(std::vector<Child>& children, comm::ForkedGroup& group,
                   const std::function<std::string(comm::Communicator&)>& function,
                   Deadline deadline) {
  const pid_t parent = getpid();
  std::fflush(nullptr);
  for (size_t rank = 0; rank < children.size(); ++rank) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) Throw(ErrorCode::kFailed, "pipe: ", strerror(errno));
    children[rank].pipe = ends[0];
    const pid_t pid = fork();
    if (pid < 0) {
      close(ends[1]);
      Throw(ErrorCode::kFailed, "fork: ", strerror(errno));
    }
    if (pid == 0) {
      close(ends[0]);
      RunChild(ends[1], group, static_cast<int32_t>(rank), function, deadline, parent);
    }
    children[rank].pid = pid;
    close(ends[1]);
  }
}

// Kills and collects whatever still lives, also when the runner itself throws.
class ChildrenGuard {
 public:
  explicit ChildrenGuard(std::vector<Child>& children) : children_(children) {}
  ChildrenGuard(const ChildrenGuard&) = delete;
  ~ChildrenGuard() {
    for (Child& child : children_) {
      if (child.pipe >= 0) close(child.pipe);
      if (child.pid <= 0) continue;
      kill(child.pid, SIGKILL);
      waitpid(child.pid, nullptr, 0);
    }
  }

 private:
  std::vector<Child>& children_;
};

// Reads what is there; closes the pipe at its end.
void Drain(Child& child) {
  char buffer[4096];
  const ssize_t count = read(child.pipe, buffer, sizeof(buffer));
  if (count > 0) {
    child.record.append(buffer, static_cast<size_t>(count));
  } else if (count == 0 || errno != EINTR) {
    close(std::exchange(child.pipe, -1));
  }
}

// Reads all pipes to their ends. True if the deadline came first.
bool ReadRecords(std::vector<Child>& children, const std::vector<int32_t>& stopped_ranks,
                 Deadline deadline) {
  const SteadyClock clock;
  while (true) {
    std::vector<pollfd> polls;
    std::vector<Child*> open;
    bool only_stopped = true;
    for (size_t rank = 0; rank < children.size(); ++rank) {
      if (children[rank].pipe < 0) continue;
      polls.push_back({children[rank].pipe, POLLIN, 0});
      open.push_back(&children[rank]);
      if (std::ranges::find(stopped_ranks, static_cast<int32_t>(rank)) == stopped_ranks.end()) {
        only_stopped = false;
      }
    }
    if (polls.empty() || only_stopped) return false;
    if (deadline.Passed(clock)) return true;
    const int64_t timeout = std::min<int64_t>(deadline.RemainingMs(clock) + 1, 1000);
    if (poll(polls.data(), polls.size(), static_cast<int>(timeout)) <= 0) continue;
    for (size_t i = 0; i < polls.size(); ++i) {
      if (polls[i].revents != 0) Drain(*open[i]);
    }
  }
}

RankResult Collect(Child& child, bool timed_out) {
  RankResult result;
  // A rank with an open pipe is stopped or late. One whose pipe is closed is about to end by
  // itself.
  if (child.pipe >= 0) {
    kill(child.pid, SIGKILL);
    result.timed_out = timed_out;
  }
  int status = 0;
  while (waitpid(child.pid, &status, 0) < 0 && errno == EINTR) {
  }
  child.pid = -1;
  if (WIFEXITED(status)) result.exit_status = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  if (child.record.size() >= 1 && child.record[0] == kReturned) {
    result.bytes = child.record.substr(1);
  } else if (child.record.size() >= 2 && child.record[0] == kThrew) {
    if (child.record[1] != kNoCode) result.code = static_cast<ErrorCode>(child.record[1] - '0');
    result.error = child.record.substr(2);
  }
  return result;
}

}  // namespace

void PrintTo(RankKind kind, std::ostream* out) { *out << (kind == RankKind::kShm ? "Shm" : "Tcp"); }

std::vector<RankResult> RunRanks(int32_t size, RankKind kind,
                                 const std::function<std::string(comm::Communicator&)>& function,
                                 const RankOptions& options) {
  const SteadyClock clock;
  const Deadline deadline = Deadline::After(clock, options.timeout_ms);
  std::vector<Child> children(static_cast<size_t>(size));
  const ChildrenGuard guard(children);
  {
    const std::unique_ptr<comm::ForkedGroup> group =
        kind == RankKind::kShm ? comm::MakeForkedShmGroup(size) : comm::MakeForkedTcpGroup(size);
    StartChildren(children, *group, function, deadline);
  }
  const bool timed_out = ReadRecords(children, options.stopped_ranks, deadline);
  std::vector<RankResult> results;
  for (Child& child : children) results.push_back(Collect(child, timed_out));
  return results;
}

std::string Describe(const std::vector<RankResult>& results) {
  std::string text;
  for (size_t rank = 0; rank < results.size(); ++rank) {
    const RankResult& result = results[rank];
    if (result.ok()) continue;
    text += Str(text.empty() ? "" : "; ", "rank ", rank, ": ");
    if (result.timed_out) {
      text += "killed after the group's timeout";
    } else if (result.signal != 0) {
      text += Str("signal ", result.signal);
    } else if (result.code) {
      text += Str(ToString(*result.code), ": ", result.error);
    } else {
      text += Str("exit status ", result.exit_status, ": ", result.error);
    }
  }
  return text;
}

}  // namespace shoal::test
