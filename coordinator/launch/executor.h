#pragma once

// How groups come to be: each kind of executor starts one in a way of its own.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/launch/local_group.h"

namespace shoal::launch {

// The processes of one start of a group, as far as this machine has them. No call waits.
class StartedGroup {
 public:
  virtual ~StartedGroup() = default;  // Ends what is left of it.
  // Whether the command that started it has ended. What it started may not have.
  virtual bool HasEnded() = 0;
  virtual void Terminate() = 0;  // Asks it to end.
  // Ends what is left. Result: whether nothing is. Call it again until then.
  virtual bool Kill() = 0;
  // How it ended. Precondition: Kill gave true, or was given up on. Never waits.
  virtual GroupEnd TakeEnd() = 0;
  virtual const std::string& starter() const = 0;  // As GroupEnd has it.
  // The process of a rank, whose end is to be seen. Ignored if it is not one of this machine that
  // this start has brought about.
  virtual void Watch(int32_t rank, int64_t pid) = 0;
  // A rank that is watched and whose process has ended; for people. Empty: there is none.
  virtual std::string EndedRank() const = 0;
};

class Executor {
 public:
  virtual ~Executor() = default;
  // Errors: kFailed if it cannot be started.
  virtual std::unique_ptr<StartedGroup> Start(uint64_t group) = 0;
  // How long a group that was lost may take to end by itself after Terminate. 0: Kill at once.
  virtual int64_t terminate_ms() const = 0;
  // How long a group may take until it is ready. 0: as long as it likes.
  virtual int64_t start_timeout_ms() const = 0;
};

// Where groups join, and how.
struct GroupPlace {
  std::string coordinator;  // HOST:PORT that they can reach.
  std::string token_file;   // Empty: no token is asked for.
};

// mpirun on this machine.
class LocalExecutor : public Executor {
 public:
  // `group`: as LocalGroup wants it, but for the flags of `place` and the group's number.
  LocalExecutor(LocalGroupOptions group, GroupPlace place, int64_t start_timeout_ms)
      : group_(std::move(group)), place_(std::move(place)), start_timeout_ms_(start_timeout_ms) {}

  std::unique_ptr<StartedGroup> Start(uint64_t group) override;
  // Nothing of it is anywhere else: SIGKILL is safe, and mpirun would take seconds.
  int64_t terminate_ms() const override { return 0; }
  int64_t start_timeout_ms() const override { return start_timeout_ms_; }

 private:
  const LocalGroupOptions group_;
  const GroupPlace place_;
  const int64_t start_timeout_ms_;
};

// A command line with places to fill in: {group}, {coordinator}, {token-file}; any other {word} of
// letters and dashes is refused, unless it is a shell's ${word}. Its words are split
// as a shell does it, with '...', "..." and \; nothing else of a shell's is done.
class CommandTemplate {
 public:
  // Errors: kInvalidArgument if it is empty, has a quote without its end or an unknown {word}, or
  // lacks {coordinator} or {group}.
  explicit CommandTemplate(const std::string& text);

  // Whether it shows its groups the token.
  bool has_token_file() const;
  std::vector<std::string> Fill(uint64_t group, const GroupPlace& place) const;

 private:
  bool Has(const std::string& placeholder) const;
  void CheckPlaces() const;

  std::vector<std::string> words_;
};

// A command that somebody wrote: mpirun with a host file, srun, ssh.
class CommandExecutor : public Executor {
 public:
  // Errors: kInvalidArgument if the template wants a token file and there is none.
  CommandExecutor(CommandTemplate command, GroupPlace place);

  std::unique_ptr<StartedGroup> Start(uint64_t group) override;
  // It may have to end processes on other machines.
  int64_t terminate_ms() const override { return 2'000; }
  // It may wait in a queue for machines.
  int64_t start_timeout_ms() const override { return 0; }

 private:
  const CommandTemplate command_;
  const GroupPlace place_;
};

}  // namespace shoal::launch
