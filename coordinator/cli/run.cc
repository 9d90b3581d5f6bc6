// shoal run: a coordinator in this process, and groups of workers that it starts under mpirun.
//
// Until the first of them is ready a failure ends this program: most likely every start would fail
// alike. Model, cut and port are checked here first, so that a mistake is reported once and at
// once, not by every rank.

#include <iostream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/cli/support/cut_options.h"
#include "coordinator/cli/support/local_coordinators.h"
#include "coordinator/cli/verbs.h"
#include "coordinator/launch/launch_options.h"
#include "coordinator/shell/serve.h"
#include "transport/base/check.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"
#include "transport/config/group_flags.h"

namespace shoal::cli {
namespace {

// A stop may take 5 s; what dismissed groups do not use of this is for mpirun.
constexpr int64_t kDismissMs = 2'000;

struct RunOptions {
  CutOptions cut;
  gateway::CoordinatorOptions coordinator;
  int64_t ready_timeout_ms = 60'000;
};

constexpr const char* kRunEpilog = R"(Environment:
  SHOAL_FORCE_ISA  scalar, avx2, avx512vnni or amx: use these kernels, or exit 4 if they cannot run.
  SHOAL_LOG        A comma list of debug, info, warn or error, and json. [info]

Exit status:
  0  SIGINT or SIGTERM
  1  failed while running: nothing was ready in time, or a rank died before that, or any time with
     --relaunch off
  2  wrong usage or configuration, a bad or oversized model, more ranks than leaves, port in use
  3  the workers could not join
  4  the instruction set asked for is not there

Example:
  shoal run models/SmolLM2-135M-Instruct.Q4_1.gguf --tensor-parallel 2
)";

config::OptionTable MakeRunTable(RunOptions& options) {
  config::OptionTable table(
      {.program = "shoal run",
       .usage = "MODEL [options]",
       .summary =
           "Serves a model from this machine: a coordinator, and groups of ranks that "
           "mpirun starts, and starts again when they are lost. Prints one line, `ready "
           "http://127.0.0.1:PORT` (or at the address of --bind), once a token has passed "
           "through all ranks of a group; everything else goes to stderr, where the RPC port is "
           "told, too.",
       .epilog = kRunEpilog});
  gateway::CoordinatorOptions& coordinator = options.coordinator;
  AddCut(table, options.cut);
  launch::AddGroupsOptions(table, coordinator.launch);
  config::PassGroupFlag(table, "threads");
  table.AddString("bind", "ADDRESS", coordinator.bind,
                  "Address of the HTTP port. Anything but a loopback address lets the network in: "
                  "set a key file first. The ranks talk over this machine's own in any case.");
  gateway::AddServingOptions(table, coordinator);
  config::AddGroupFlag(table, "context-tokens-max", coordinator.region.context_tokens_max);
  AddCache(table, options.cut);
  for (const std::string_view name : {"numerics", "prefill-chunk-tokens", "sequences-max"}) {
    config::PassGroupFlag(table, name);
  }
  table.AddInt("queue-requests-max", "N", coordinator.region.queue_requests_max, {0, 1 << 20},
               "Requests that wait while all sequences are taken; one more gets 503.");
  for (const std::string_view name :
       {"prefix-cache", "speculation", "speculation-tokens-max", "batch-policy", "batch-queue-min",
        "batch-delay-max-ms", "comm"}) {
    config::PassGroupFlag(table, name);
  }
  AddMemory(table, options.cut);
  table.AddInt("ready-timeout-ms", "N", options.ready_timeout_ms, {100, INT32_MAX},
               "Give up if not ready after so long. Also what each later start of a group gets.");
  gateway::AddOverloadOptions(table, coordinator);
  gateway::AddContinuityOptions(table, coordinator);
  return table;
}

// What follows from the flags that were read. `group_flags`: of the ranks, as they were given here.
gateway::CoordinatorOptions MakeCoordinatorOptions(const RunOptions& options,
                                                   std::vector<std::string> group_flags) {
  gateway::CoordinatorOptions coordinator = options.coordinator;
  coordinator.model = options.cut.model;
  coordinator.rpc_bind = "127.0.0.1";
  coordinator.rpc_port = 0;
  coordinator.region.join_timeout_ms = options.ready_timeout_ms;
  launch::LaunchOptions& launch = coordinator.launch;
  launch.executor = launch::ExecutorKind::kLocal;
  launch.start_timeout_ms = options.ready_timeout_ms;
  launch.local =
      launch::MakeLocalGroup(options.cut.model, std::move(group_flags), options.cut.rank_count(),
                             launch, [&coordinator](int64_t sequences_max) {
                               return core::LeaderQueueMax(coordinator.region, sequences_max);
                             });
  return coordinator;
}

// Says when the server is ready, and decides when to end and with which exit status.
class RunWatch {
 public:
  explicit RunWatch(const RunOptions& options)
      : options_(options), ready_deadline_(Deadline::After(clock_, options.ready_timeout_ms)) {}

  void OnListening(const gateway::Listening& where) {
    where_ = {.rpc = Str("127.0.0.1:", where.rpc_port), .url = where.url};
    note_.emplace(NotesFolder(), where_);
  }

  void OnReady() {
    if (ready_) return;
    ready_ = true;
    std::cerr << "shoal run: ready at " << where_.url
              << "; for shoal status, explain, postmortem and "
              << "drain: --coordinator " << where_.rpc << std::endl;
    std::cout << "ready " << where_.url << std::endl;
    if (!std::cout) Fail("stdout cannot be written");
  }

  void OnEnded(const launch::EndedGroup& ended) {
    const launch::LaunchOptions& launch = options_.coordinator.launch;
    if (ended.drained) {
      if (ended.stays_away && !launch.relaunch && launch.groups == 1) {
        Fail("the only group was told to end, and --relaunch off starts none anew");
      }
      return;
    }
    if (ready_ && launch.relaunch) return;
    if (ready_) {
      Fail(ended.why);
    } else if (ended.by_itself) {
      Fail(Str(ended.end.Text(), " before the group was ready"));
      const int status = ended.end.status;
      if (ended.end.signal == 0 && status >= 2 && status <= 4) status_ = status;
    } else {
      Fail(Str(ended.why, ", before the group was ready"));
    }
  }

  // Whether to go on serving.
  bool GoOn() {
    if (status_ == 0 && !ready_ && ready_deadline_.Passed(clock_)) {
      Fail(Str("not ready within ", options_.ready_timeout_ms,
               " ms: raise --ready-timeout-ms, or see above what the ranks wait for"));
    }
    return status_ == 0;
  }

  int status() const { return status_; }  // To exit with.

 private:
  void Fail(const std::string& why) {
    if (status_ != 0) return;  // What follows from the first failure is not news.
    std::cerr << "shoal run: " << why << std::endl;
    status_ = 1;
  }

  const RunOptions& options_;
  SteadyClock clock_;
  Deadline ready_deadline_;
  LocalCoordinator where_;
  std::optional<CoordinatorNote> note_;
  bool ready_ = false;
  int status_ = 0;
};

}  // namespace

int RunVerb(int argc, const char* const* argv) {
  gateway::EndOnSignals();
  RunOptions options;
  config::OptionTable table = MakeRunTable(options);
  if (table.Parse(argc, argv) == config::ParseOutcome::kPrinted) return 0;
  {
    const auto model = model::Model::Open(options.cut.model);
    Plan(*model, options.cut);
    const int64_t longest = model->config().context_tokens;
    const int64_t asked = options.coordinator.region.context_tokens_max;
    if (asked > longest) {
      Throw(ErrorCode::kInvalidArgument, "--context-tokens-max ", asked, ": ", options.cut.model,
            " was made for ", longest, " tokens: lower it");
    }
  }
  RunWatch watch(options);
  gateway::Serve(MakeCoordinatorOptions(options, config::GroupArguments(table)), kDismissMs,
                 {.on_listening = [&](const auto& where) { watch.OnListening(where); },
                  .region = {.on_group_ready = [&](const std::string&) { watch.OnReady(); },
                             .on_group_ended = [&](const auto& ended) { watch.OnEnded(ended); }},
                  .go_on = [&] { return watch.GoOn(); }});
  return watch.status();
}

}  // namespace shoal::cli
