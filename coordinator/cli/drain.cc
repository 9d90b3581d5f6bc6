// shoal drain: takes a group out of service without losing its streams.

#include <algorithm>
#include <chrono>
#include <iostream>
#include <optional>
#include <string>
#include <thread>

#include "coordinator/cli/support/coordinator_access.h"
#include "coordinator/cli/verbs.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"
#include "transport/base/group.h"
#include "transport/config/options.h"
#include "transport/rpc/client.h"
#include "transport/rpc/secret.h"

namespace shoal::cli {
namespace {

struct DrainOptions {
  std::string group;
  CoordinatorAccess coordinator;
  std::string group_token_file;
  bool restart = false;
  bool wait = false;
  int64_t wait_timeout_ms = 120'000;
};

config::OptionTable MakeDrainTable(DrainOptions& options) {
  config::OptionTable table(
      {.program = "shoal drain",
       .usage = "GROUP [options]",
       .summary = "Takes a group out of service: it gets no new streams, those that it has move to "
                  "other groups or end there within the coordinator's --drain-timeout-ms, and then "
                  "it ends with status 0. One that the coordinator starts itself stays away.",
       .epilog = "Exit status:\n"
                 "  0  it has begun; with --wait, it is done\n"
                 "  1  with --wait: not done in time\n"
                 "  2  there is no such group, or it cannot be drained\n"
                 "  3  the coordinator cannot be reached\n"});
  table.AddPositional("group", options.group, "The group's number, as `shoal status` shows it.");
  AddCoordinatorAccess(table, options.coordinator);
  table.AddString("group-token-file", "FILE", options.group_token_file,
                  "The coordinator's file of that name, if it has one: it lets nobody else drain.");
  table.AddBool("restart", options.restart,
                "Start it anew once it has ended. Also of one that has been away.");
  table.AddBool("wait", options.wait,
                "Return when it has ended; with --restart, when it is ready again.");
  table.AddInt("wait-timeout-ms", "N", options.wait_timeout_ms, {1, INT32_MAX},
               "With --wait: how long at most.");
  return table;
}

uint64_t ParseGroup(const std::string& text) {
  const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || text.size() > 9) {
    Throw(ErrorCode::kInvalidArgument,
          "GROUP: expected a number, as `shoal status` shows it, found '", text, "'");
  }
  return std::stoull(text);
}

std::optional<GroupStatus> FindGroup(const RegionStatus& status, uint64_t number) {
  const auto found = std::ranges::find(status.groups, number, &GroupStatus::group);
  if (found == status.groups.end()) return std::nullopt;
  return *found;
}

// Whether what was asked for has come about. `epoch`: of the group before.
bool IsDone(const RegionStatus& status, uint64_t number, uint64_t epoch, bool restart) {
  const std::optional<GroupStatus> group = FindGroup(status, number);
  const bool is_another = group && group->epoch != 0 && group->epoch != epoch;
  if (!restart) return !group || is_another || group->state == GroupState::kLost;
  return is_another && group->state == GroupState::kReady;
}

}  // namespace

int DrainVerb(int argc, const char* const* argv) {
  DrainOptions options;
  config::OptionTable table = MakeDrainTable(options);
  if (table.Parse(argc, argv) == config::ParseOutcome::kPrinted) return 0;
  const uint64_t number = ParseGroup(options.group);
  rpc::Client client(
      {.address = options.coordinator.FindAddress(), .api_key = options.coordinator.ReadApiKey()});
  const std::optional<GroupStatus> before = FindGroup(client.Status(), number);
  client.Drain(
      number, options.restart,
      options.group_token_file.empty() ? "" : rpc::ReadSecretFile(options.group_token_file));
  if (!options.wait) return 0;
  constexpr auto kLookAgain = std::chrono::milliseconds(50);
  const SteadyClock clock;
  const Deadline deadline = Deadline::After(clock, options.wait_timeout_ms);
  while (!IsDone(client.Status(), number, before ? before->epoch : 0, options.restart)) {
    if (deadline.Passed(clock)) {
      Throw(ErrorCode::kDeadlineExceeded, "group ", number, " was not done within ",
            options.wait_timeout_ms, " ms: it goes on; `shoal status` shows how far it is");
    }
    std::this_thread::sleep_for(kLookAgain);
  }
  return 0;
}

}  // namespace shoal::cli
