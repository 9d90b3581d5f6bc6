#pragma once

// A group of workers that mpirun, or another command of this machine, starts.

#include <csignal>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/launch/child_process.h"
#include "coordinator/launch/mpirun_folder.h"

namespace shoal::launch {

struct LocalGroupOptions {
  int32_t rank_count = 1;
  std::string worker;                  // Path of shoal-worker.
  std::vector<std::string> arguments;  // Of every rank.
  // As ChildOptions::on_stdout, for what the ranks print.
  std::function<void(std::string_view line)> on_stdout{};
};

struct GroupEnd {
  int status = 0;                  // Of the first rank that failed.
  int signal = 0;                  // That ended a rank, or mpirun itself; 0: none.
  int32_t rank = -1;               // Which rank failed first, if mpirun said so.
  std::string starter = "mpirun";  // What started the ranks, for people.
  std::string last_words{};        // The last line that it or a rank wrote to stderr.

  bool clean() const { return status == 0 && signal == 0; }
  // "rank 1 was ended by signal 9 (Killed)", "rank 0 exited with status 2", "mpirun was ended by
  // signal 9 (Killed)", "the ranks ended although nobody dismissed them"
  std::string Text() const;
};

// What mpirun says of its ranks on stderr, among the lines that the ranks write.
//
// Threading: one thread at a time.
class MpirunReport {
 public:
  // Result: the lines to show. mpirun's own notices about a rank that failed are kept back, since
  // whoever started the group says it in one line.
  std::vector<std::string> TakeLine(std::string_view line);
  // A notice that was not finished.
  std::vector<std::string> TakeRest();

  int32_t rank() const { return rank_; }
  int signal() const { return signal_; }

 private:
  void ReadNotice();

  bool in_notice_ = false;
  std::vector<std::string> notice_;
  int32_t rank_ = -1;
  int signal_ = 0;
};

// As ChildProcess: nothing of it outlives this object.
class LocalGroup {
 public:
  // Errors: kFailed if mpirun cannot be started.
  explicit LocalGroup(const LocalGroupOptions& options);
  // By any command. `starter`: as GroupEnd has it.
  LocalGroup(std::vector<std::string> command, std::string starter,
             std::function<void(std::string_view line)> on_stdout);

  // How it ended; nothing while it runs.
  std::optional<GroupEnd> TryWait();
  std::optional<GroupEnd> WaitFor(int64_t milliseconds);
  // SIGTERM, which mpirun passes on to its ranks; SIGKILL to all that is left after `grace_ms`.
  GroupEnd Stop(int64_t grace_ms);

  // The same in steps that never wait.
  bool HasEnded() { return child_.TryWait().has_value(); }
  void Terminate() const { child_.Signal(SIGTERM); }
  bool KillAll() { return child_.KillSession(); }
  // As Stop(0), but leaves behind what KillAll has not ended yet.
  GroupEnd Abandon() { return MakeEnd(child_.Abandon()); }
  const std::string& starter() const { return starter_; }
  pid_t session() const { return child_.pid(); }

 private:
  void TakeLine(std::string_view line);
  GroupEnd MakeEnd(const ChildEnd& end);

  LocalGroup(std::unique_ptr<MpirunFolder> folder, const LocalGroupOptions& options);

  std::unique_ptr<MpirunFolder> folder_;  // Null if a command started it. Outlives the processes.
  const std::string starter_;
  std::mutex mutex_;  // Guards the two below, which the child's thread feeds.
  MpirunReport report_;
  std::string last_words_;
  ChildProcess child_;
};

// The command line that starts it. `folder`: where mpirun keeps what it needs; empty: where Open
// MPI likes it, to be left behind by one that is killed.
std::vector<std::string> MpirunCommand(const LocalGroupOptions& options, bool as_root,
                                       const std::string& folder);

}  // namespace shoal::launch
