// shoal-coordinator: the region's front door. Everything it does is in coordinator/shell; here
// are its flags and its one line of output.

#include <algorithm>
#include <array>
#include <cstdint>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <utility>

#include "coordinator/launch/launch_options.h"
#include "coordinator/shell/serve.h"
#include "transport/base/error.h"
#include "transport/base/log.h"
#include "transport/config/group_flags.h"
#include "transport/config/options.h"

namespace {

// Leaves the groups time to end, inside the 5 s that a stop may take in all; of managed ones the
// rest is for mpirun.
constexpr int64_t kStopGraceMs = 3'000;
constexpr int64_t kManagedStopGraceMs = 2'000;

struct Cut {
  int32_t tensor_parallel = 1;
  int32_t pipeline_parallel = 1;
};

// Rows of the groups that this program starts.
void AddLaunch(shoal::config::OptionTable& table, shoal::launch::LaunchOptions& launch, Cut& cut) {
  shoal::launch::AddExecutorOptions(table, launch);
  shoal::launch::AddGroupsOptions(table, launch);
  shoal::config::AddGroupFlag(table, "tensor-parallel", cut.tensor_parallel);
  shoal::config::AddGroupFlag(table, "pipeline-parallel", cut.pipeline_parallel);
  for (const shoal::config::GroupFlag& flag : shoal::config::GroupFlags()) {
    const auto has_name = [&](const shoal::config::Option& row) { return row.name == flag.name; };
    if (std::ranges::none_of(table.options(), has_name)) {
      shoal::config::PassGroupFlag(table, flag.name);
    }
  }
}

shoal::config::ProgramText Text() {
  return {.program = "shoal-coordinator",
          .usage = "--model PATH [options]",
          .summary =
              "Serves a model that groups of workers compute: takes requests over HTTP and "
              "Cap'n Proto and hands them to the groups that have joined. Prints one line, "
              "`ready http://127.0.0.1:PORT`, once a token has passed through all ranks of "
              "a first group. Groups are started by others, or here with --executor; the options "
              "from --tensor-parallel on are for those of --executor local, and mean what they "
              "mean for shoal-worker.",
          .epilog =
              "Environment:\n"
              "  SHOAL_LOG  comma list of a level (debug, info, warn, error) and json. [info]\n"
              "\n"
              "Exit status:\n"
              "  0  SIGINT or SIGTERM\n"
              "  1  failed while running\n"
              "  2  wrong usage or configuration, bad model, port in use\n"
              "\n"
              "Examples:\n"
              "  shoal-coordinator --model models/SmolLM2-135M-Instruct.Q4_1.gguf\n"
              "  mpirun -np 2 shoal-worker --model models/SmolLM2-135M-Instruct.Q4_1.gguf \\\n"
              "      --coordinator 127.0.0.1:7400 --tensor-parallel 2\n"
              "\n"
              "  shoal-coordinator --model models/SmolLM2-135M-Instruct.Q4_1.gguf --executor local "
              "--groups 2\n"};
}

int Run(int argc, char** argv) {
  shoal::gateway::CoordinatorOptions options;
  shoal::config::OptionTable table(Text());
  Cut cut;
  shoal::gateway::AddCoordinatorOptions(table, options);
  AddLaunch(table, options.launch, cut);
  if (table.Parse(argc, argv) == shoal::config::ParseOutcome::kPrinted) return 0;

  shoal::launch::LaunchOptions& launch = options.launch;
  shoal::launch::CheckLaunchOptions(launch, !options.group_token_file.empty());
  constexpr std::array<std::string_view, 1> kShared = {"context-tokens-max"};
  shoal::launch::CheckGroupFlagsAreHeeded(table, launch, kShared);
  launch.start_timeout_ms = options.region.join_timeout_ms;
  if (launch.executor == shoal::launch::ExecutorKind::kLocal) {
    launch.local = shoal::launch::MakeLocalGroup(
        options.model, shoal::config::GroupArguments(table),
        int64_t{cut.tensor_parallel} * cut.pipeline_parallel, launch,
        [&options](int64_t sequences_max) {
          return shoal::core::LeaderQueueMax(options.region, sequences_max);
        });
  }

  std::string url;
  bool said_ready = false;
  bool heard = true;
  shoal::gateway::ServeHooks hooks;
  hooks.on_listening = [&](const shoal::gateway::Listening& where) { url = where.url; };
  hooks.region.on_group_ready = [&](const std::string&) {
    if (said_ready) return;
    said_ready = true;
    std::cout << "ready " << url << std::endl;
    heard = std::cout.good();
  };
  hooks.go_on = [&] { return heard; };
  const int64_t stop_grace_ms = launch.managed_groups() > 0 ? kManagedStopGraceMs : kStopGraceMs;
  shoal::gateway::Serve(options, stop_grace_ms, std::move(hooks));
  if (!heard) shoal::Throw(shoal::ErrorCode::kFailed, "stdout cannot be written");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  shoal::gateway::EndOnSignals();
  try {
    shoal::StartLogging("shoal-coordinator");
    return Run(argc, argv);
  } catch (const shoal::Error& error) {
    std::cerr << "shoal-coordinator: " << error.what() << "\n";
    return shoal::ExitStatus(error.code());
  } catch (const std::exception& error) {
    std::cerr << "shoal-coordinator: " << error.what() << "\n";
    return 1;
  }
}
