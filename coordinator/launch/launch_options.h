#pragma once

// Which groups a coordinator starts itself, and how.

#include <cstdint>
#include <memory>
#include <string>
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

// Null if there is nothing to start. Errors: as CheckLaunchOptions.
std::unique_ptr<Executor> MakeExecutor(const LaunchOptions& options, const GroupPlace& place);

// What LaunchOptions::local must be. `group_flags`: of the ranks (config::GroupArguments).
// `--threads 0` among them becomes this machine's cores, shared by all ranks of all groups, and at
// least 1. Errors: kFailed if there is no shoal-worker beside this program.
LocalGroupOptions MakeLocalGroup(const std::string& model, std::vector<std::string> group_flags,
                                 int64_t rank_count, const LaunchOptions& options);

}  // namespace shoal::launch
