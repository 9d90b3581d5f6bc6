#include "coordinator/launch/launch_options.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "coordinator/launch/program_path.h"
#include "transport/base/check.h"
#include "transport/base/error.h"
#include "transport/base/host/cores.h"
#include "transport/base/host/memory.h"
#include "transport/config/group_flags.h"

namespace shoal::launch {

void AddGroupsOptions(config::OptionTable& table, LaunchOptions& options) {
  table.AddInt("groups", "N", options.groups, {1, 1024},
               "Groups that are started here, each with all of the model. When one is lost, its "
               "streams go on in the others.");
  table.AddChoice<bool>("relaunch", options.relaunch, {{"on", true}, {"off", false}},
                        "Whether a group that is lost is started anew: at once, then with growing "
                        "pauses of up to 30 s while it keeps failing.");
}

void AddExecutorOptions(config::OptionTable& table, LaunchOptions& options) {
  table.AddChoice<ExecutorKind>("executor", options.executor,
                                {{"none", ExecutorKind::kNone},
                                 {"local", ExecutorKind::kLocal},
                                 {"command", ExecutorKind::kCommand}},
                                "What starts the groups. none: others do, with shoal-worker. "
                                "local: mpirun, on this machine. command: --executor-command, for "
                                "each group. Others may join beside them.");
  table.AddString("executor-command", "COMMAND", options.command,
                  "The command line that starts a group, with {group}, {coordinator} and "
                  "{token-file} where its number, this coordinator's HOST:PORT and the path of "
                  "--group-token-file belong. It runs as long as its group. Quotes are a shell's; "
                  "no shell runs it. A script must `exec` what it starts: only the process that is "
                  "started here is told when this coordinator ends.");
}

void CheckLaunchOptions(const LaunchOptions& options, bool has_token_file) {
  switch (options.executor) {
    case ExecutorKind::kNone:
      if (options.groups > 1) {
        Throw(ErrorCode::kInvalidArgument, "--groups ", options.groups,
              " with --executor none: nobody would start them; give --executor local or command");
      }
      if (!options.relaunch) {
        Throw(ErrorCode::kInvalidArgument,
              "--relaunch off with --executor none: no group is started here; leave it away, or "
              "give --executor local or command");
      }
      break;
    case ExecutorKind::kLocal:
      break;
    case ExecutorKind::kCommand:
      CommandExecutor(CommandTemplate(options.command),
                      {.coordinator = {}, .token_file = has_token_file ? "given" : ""});
      return;
  }
  if (!options.command.empty()) {
    Throw(ErrorCode::kInvalidArgument,
          "--executor-command is only for --executor command: leave it away, or give that");
  }
}

void CheckGroupFlagsAreHeeded(const config::OptionTable& table, const LaunchOptions& options,
                              std::span<const std::string_view> shared) {
  if (options.executor == ExecutorKind::kLocal) return;
  const bool is_command = options.executor == ExecutorKind::kCommand;
  for (const config::Option& option : table.options()) {
    const bool is_groups =
        std::ranges::find(config::GroupFlags(), option.name, &config::GroupFlag::name) !=
        config::GroupFlags().end();
    if (!is_groups || std::ranges::find(shared, option.name) != shared.end()) continue;
    const std::string value = table.ValueText(option.name);
    if (value == option.default_text) continue;
    Throw(ErrorCode::kInvalidArgument, option.Flag(), " ", value,
          " is for groups of --executor local, and this is --executor ",
          is_command ? "command: give it to the shoal-worker in --executor-command"
                     : "none: give it to the shoal-worker that joins",
          ", or give --executor local");
  }
}

std::unique_ptr<Executor> MakeExecutor(const LaunchOptions& options, const GroupPlace& place) {
  CheckLaunchOptions(options, !place.token_file.empty());
  switch (options.executor) {
    case ExecutorKind::kNone:
      break;
    case ExecutorKind::kLocal:
      return std::make_unique<LocalExecutor>(options.local, place, options.start_timeout_ms);
    case ExecutorKind::kCommand:
      return std::make_unique<CommandExecutor>(CommandTemplate(options.command), place);
  }
  return nullptr;
}

void FillInShare(const RankShare& share, std::vector<std::string>& group_flags) {
  for (size_t i = 0; i + 1 < group_flags.size(); i += 2) {
    std::string& value = group_flags[i + 1];
    if (value != "0") continue;
    if (group_flags[i] == "--threads") value = std::to_string(share.threads);
    if (group_flags[i] == "--memory-bytes-max") value = std::to_string(share.memory_bytes);
  }
}

LocalGroupOptions MakeLocalGroup(const std::string& model, std::vector<std::string> group_flags,
                                 int64_t rank_count, const LaunchOptions& options,
                                 const std::function<int64_t(int64_t)>& leader_queue) {
  const int64_t ranks = rank_count * options.groups;
  const RankShare share = {
      .threads = std::max<int64_t>(1, MachineCores() / ranks),
      // A group alone finds its share itself. Several would each take what the others have not
      // taken yet for their own; and one that is started anew gets what it had.
      .memory_bytes = options.groups > 1 ? MemoryBytes(kMemoryAvailable) / ranks : 0};
  FillInShare(share, group_flags);
  const auto sequences = std::ranges::find(group_flags, "--sequences-max");
  SHOAL_CHECK(std::distance(sequences, group_flags.end()) >= 2, "no --sequences-max is given");
  const int64_t queue = leader_queue(std::stoll(*std::next(sequences)));
  LocalGroupOptions group{.rank_count = static_cast<int32_t>(rank_count),
                          .worker = ProgramPath("shoal-worker"),
                          .arguments = std::move(group_flags)};
  group.arguments.insert(group.arguments.end(), {"--model", model, "--join-timeout-ms",
                                                 std::to_string(options.start_timeout_ms),
                                                 "--queue-requests-max", std::to_string(queue)});
  return group;
}

}  // namespace shoal::launch
