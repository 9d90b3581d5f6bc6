#pragma once

// Which groups a coordinator starts itself, and how.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/launch/executor.h"
#include "transport/config/options.h"

namespace shoal::launch {

enum class ExecutorKind : uint8_t {
  kNone,     // Groups are started by others.
  kLocal,    // mpirun on this machine.
  kCommand,  // A command that somebody wrote.
};

struct LaunchOptions {
  ExecutorKind executor = ExecutorKind::kNone;
  int32_t groups = 1;
  std::string command{};  // Of kCommand: as CommandTemplate wants it.
  bool relaunch = true;
  LocalGroupOptions local{};  // Of kLocal: as LocalExecutor wants it.
  int64_t start_timeout_ms = 60'000;

  uint64_t managed_groups() const {
    return executor == ExecutorKind::kNone ? 0 : static_cast<uint64_t>(groups);
  }
};

// Rows --groups and --relaunch.
void AddGroupsOptions(config::OptionTable& table, LaunchOptions& options);
// Rows --executor and --executor-command.
void AddExecutorOptions(config::OptionTable& table, LaunchOptions& options);

// Errors: kInvalidArgument if what was asked for does not go together, or the command is wrong.
void CheckLaunchOptions(const LaunchOptions& options, bool has_token_file);

// `table`: of a program that has group flags (config::AddGroupFlag) for --executor local alone, and
// was parsed. `shared`: those of them that it uses whatever the executor is. Errors:
// kInvalidArgument, naming the flag, for one that differs from its default and that nobody heeds.
void CheckGroupFlagsAreHeeded(const config::OptionTable& table, const LaunchOptions& options,
                              std::span<const std::string_view> shared);

// Null if there is nothing to start. Errors: as CheckLaunchOptions.
std::unique_ptr<Executor> MakeExecutor(const LaunchOptions& options, const GroupPlace& place);

// What one rank of those that are started here may use of this machine. 0: what it finds for
// itself.
struct RankShare {
  int64_t threads = 0;
  int64_t memory_bytes = 0;
};

// For `--threads 0` and `--memory-bytes-max 0` among the flags; what a user has set stays.
void FillInShare(const RankShare& share, std::vector<std::string>& group_flags);

// What LaunchOptions::local must be. `group_flags`: of the ranks (config::GroupArguments).
// `--threads 0` among them becomes this machine's cores, shared by all ranks of all groups, and at
// least 1; of several groups also `--memory-bytes-max 0` the memory that is available now, shared
// likewise. `leader_queue`: how many requests a leader takes beyond those that its steps hold, by
// how many those are. Errors: kFailed if there is no shoal-worker beside this program, or /proc
// does not tell.
LocalGroupOptions MakeLocalGroup(const std::string& model, std::vector<std::string> group_flags,
                                 int64_t rank_count, const LaunchOptions& options,
                                 const std::function<int64_t(int64_t)>& leader_queue);

}  // namespace shoal::launch
