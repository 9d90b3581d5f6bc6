#pragma once

// A process that forks groups of ranks, kills what it is told to kill, and forks a group anew as
// soon as one of its ranks has ended. It is forked before the test starts a thread and never starts
// one itself, so that all it forks can run anything.

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "tests/e2e/failover/forked/forked_rank.h"

namespace shoal::test {

struct KeeperOptions {
  std::string coordinator{};  // HOST:PORT.
  uint64_t seed = 1;          // Of the groups' shapes, which change each time.
  int32_t group_count = 2;
  int32_t ranks_max = 2;
  int64_t kv_block_count_least = 12;  // Of a group; some have so many, some many more.
  KvDType kv_dtype = KvDType::kF16;
  std::string log{};  // A file that its stderr and that of the ranks goes to.
};

// Threading: one thread.
class GroupKeeper {
 public:
  // `model` is open already, so that its groups need not read it. Precondition: this process has
  // one thread. Errors: kFailed.
  GroupKeeper(const model::Model& model, const KeeperOptions& options);
  // Ends the groups and the keeper.
  ~GroupKeeper();
  GroupKeeper(const GroupKeeper&) = delete;
  GroupKeeper& operator=(const GroupKeeper&) = delete;

  // SIGKILL. Result: false if none of its ranks has that process id any more.
  bool Kill(pid_t rank);
  // SIGSTOP, and after that time SIGCONT if `wakes`, else SIGKILL. Result: as Kill.
  bool Stop(pid_t rank, int64_t milliseconds, bool wakes);
  // Groups that ended although nobody had killed a rank of theirs.
  int64_t UnplannedEnds();

 private:
  std::string Ask(const std::string& order);

  pid_t pid_ = -1;
  int socket_ = -1;
};

}  // namespace shoal::test
