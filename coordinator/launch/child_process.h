#pragma once

// A program that this one starts, watches and never leaves behind.

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace shoal::launch {

struct ChildOptions {
  std::vector<std::string> command;  // The first is a path, or a name to look for in PATH.
  // What becomes of a line, without its end. Called from a thread of the child's own, one line at a
  // time. Null: the line goes to this program's stderr.
  std::function<void(std::string_view line)> on_stdout{};
  std::function<void(std::string_view line)> on_stderr{};
};

struct ChildEnd {
  int status = 0;  // What it exited with; meaningless if a signal ended it.
  int signal = 0;  // 0: it exited.
};

// The child and all it starts form a session of their own: a terminal's ^C does not reach them, and
// none of them outlives this object, unless it makes yet another session. If this process dies
// without a word the kernel sends the child SIGTERM. Its stdin is /dev/null. This process becomes
// the parent of whatever the child orphans.
//
// Threading: one thread. The thread that makes it must live as long as the child is to live.
class ChildProcess {
 public:
  // Errors: kFailed if it cannot be started.
  explicit ChildProcess(ChildOptions options);
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess();

  pid_t pid() const { return pid_; }
  // How it ended; nothing while it runs.
  std::optional<ChildEnd> TryWait();
  // Waits until it has ended, at most that long.
  std::optional<ChildEnd> WaitFor(int64_t milliseconds);
  void Signal(int signal) const;

  // SIGKILL to all that is left of its session; never waits. Result: whether nothing is left. Call
  // it again until then: what is killed takes a moment to end.
  bool KillSession();

  // Ends it and everything it started: SIGTERM to the child, and SIGKILL to what is left after
  // `grace_ms`. All lines that they wrote have been handed on when it returns.
  ChildEnd Stop(int64_t grace_ms);

  // As Stop(0), but never waits: what SIGKILL has not ended yet is left behind, and so are the
  // lines that it has not written yet. How it ended is SIGKILL if that is not known yet.
  ChildEnd Abandon();

 private:
  // Kills what is left of the session and waits until the last of it is gone.
  void EndSession();
  // Once it has read what is there.
  void EndReader();

  ChildOptions options_;
  pid_t pid_ = -1;
  std::optional<ChildEnd> end_;
  bool session_gone_ = false;  // Its number may be another session's by now.
  int stop_reading_ = -1;      // An eventfd: the reader ends once it has read what is there.
  std::thread reader_;
};

}  // namespace shoal::launch
