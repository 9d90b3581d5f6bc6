// shoal run: a coordinator in this process and one group of workers under mpirun.
//
// The group is not managed: if it ends, so does this program. Model, cut and port are checked here
// first, so that a mistake is reported once and at once, not by every rank.

#include <iostream>
#include <optional>
#include <utility>

#include "coordinator/cli/support/cut_options.h"
#include "coordinator/cli/support/programs.h"
#include "coordinator/cli/verbs.h"
#include "coordinator/launch/local_group.h"
#include "coordinator/shell/serve.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"
#include "transport/config/group_flags.h"

namespace shoal::cli {
namespace {

// A stop may take 5 s. In turn: for the dismissed group to leave, for mpirun to notice that it has,
// and for mpirun to end it if it has not. SIGKILL and its effect take the rest.
constexpr int64_t kDismissMs = 2'000;
constexpr int64_t kLeaveMs = 700;
constexpr int64_t kTerminateMs = 1'000;
// How long, after the loss of a group, mpirun may take to say which rank ended and why.
constexpr TimeNs kAfterLossNs = 3 * kSecondNs;
// How long, after mpirun's end, the group's connections may take to close.
constexpr TimeNs kAfterEndNs = kSecondNs;

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
  1  failed while running: a rank died, or nothing was ready in time
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
       .summary = "Serves a model from this machine: a coordinator, and a group of ranks that "
                  "mpirun starts. Prints one line, `ready http://127.0.0.1:PORT` (or at the "
                  "address of --bind), once a token has passed through all ranks; everything else "
                  "goes to stderr.",
       .epilog = kRunEpilog});
  gateway::CoordinatorOptions& coordinator = options.coordinator;
  AddCut(table, options.cut);
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
               "Give up if not ready after so long.");
  return table;
}

// What follows from the flags that were read.
gateway::CoordinatorOptions MakeCoordinatorOptions(const RunOptions& options) {
  gateway::CoordinatorOptions coordinator = options.coordinator;
  coordinator.model = options.cut.model;
  coordinator.rpc_bind = "127.0.0.1";
  coordinator.rpc_port = 0;
  coordinator.region.join_timeout_ms = options.ready_timeout_ms;
  return coordinator;
}

// `group_flags`: of the ranks, as they were given here.
launch::LocalGroupOptions MakeGroupOptions(const RunOptions& options,
                                           const std::vector<std::string>& group_flags,
                                           uint16_t rpc_port) {
  launch::LocalGroupOptions group;
  group.rank_count = static_cast<int32_t>(options.cut.rank_count());
  group.worker = ProgramPath("shoal-worker");
  group.arguments = group_flags;
  std::vector<std::string>& arguments = group.arguments;
  arguments.insert(arguments.end(), {"--model", options.cut.model});
  arguments.insert(arguments.end(), {"--coordinator", Str("127.0.0.1:", rpc_port)});
  AppendFlag(arguments, "--join-timeout-ms", options.ready_timeout_ms);
  // Requests wait in the coordinator alone, or the bound would count twice.
  AppendFlag(arguments, "--queue-requests-max", 0);
  return group;
}

// Watches the group and its mpirun, and decides when to end and with which exit status.
class GroupWatch {
 public:
  GroupWatch(const RunOptions& options, std::vector<std::string> group_flags)
      : options_(options),
        group_flags_(std::move(group_flags)),
        ready_deadline_(Deadline::After(clock_, options.ready_timeout_ms)) {}

  void OnListening(const gateway::Listening& where) {
    url_ = where.url;
    group_.emplace(MakeGroupOptions(options_, group_flags_, where.rpc_port));
  }

  void OnReady() {
    if (ready_) return;
    ready_ = true;
    std::cout << "ready " << url_ << std::endl;
    unheard_ = !std::cout;
  }

  void OnLost(const std::string& why) {
    if (!lost_) lost_.emplace(why, clock_.now());
  }

  // Whether to go on serving.
  bool GoOn() {
    if (unheard_) {
      Fail("stdout cannot be written");
      return false;
    }
    if (!end_ && (end_ = group_->TryWait())) end_noticed_ = clock_.now();
    if (end_) {
      // The connections of the ended group are about to close. Until then go on, so that its
      // streams end with `group_lost` and not with `draining`.
      if (ready_ && !lost_ && clock_.now() - end_noticed_ < kAfterEndNs) return true;
      Conclude(*end_);
      return false;
    }
    if (lost_ && clock_.now() - lost_->second > kAfterLossNs) {
      Fail(lost_->first);
      return false;
    }
    if (!ready_ && !lost_ && ready_deadline_.Passed(clock_)) {
      Fail(Str("not ready within ", options_.ready_timeout_ms,
               " ms: raise --ready-timeout-ms, or see above what the ranks wait for"));
      return false;
    }
    return true;
  }

  // Ends the group if it has not ended. Result: the exit status.
  int Finish() {
    if (status_ == 0) group_->WaitFor(kLeaveMs);
    group_->Stop(kTerminateMs);
    return status_;
  }

 private:
  void Conclude(const launch::GroupEnd& end) {
    const std::string text = end.status == 0 && end.signal == 0
                                 ? std::string("the ranks ended although nobody dismissed them")
                                 : end.Text();
    if (ready_) {
      Fail(lost_ ? Str(text, "; ", lost_->first) : text);
      return;
    }
    Fail(Str(text, " before the group was ready"));
    if (end.signal == 0 && end.status >= 2 && end.status <= 4) status_ = end.status;
  }

  void Fail(const std::string& why) {
    std::cerr << "shoal run: " << why << std::endl;
    status_ = 1;
  }

  const RunOptions& options_;
  const std::vector<std::string> group_flags_;
  SteadyClock clock_;
  Deadline ready_deadline_;
  std::string url_;
  std::optional<launch::LocalGroup> group_;
  bool ready_ = false;
  bool unheard_ = false;  // The ready line could not be written.
  std::optional<launch::GroupEnd> end_;
  TimeNs end_noticed_ = 0;
  std::optional<std::pair<std::string, TimeNs>> lost_;  // Why, and since when.
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
  GroupWatch watch(options, config::GroupArguments(table));
  gateway::Serve(MakeCoordinatorOptions(options), kDismissMs,
                 {.on_listening = [&](const auto& where) { watch.OnListening(where); },
                  .region = {.on_group_ready = [&](const std::string&) { watch.OnReady(); },
                             .on_group_lost = [&](const std::string& why) { watch.OnLost(why); }},
                  .go_on = [&] { return watch.GoOn(); }});
  return watch.Finish();
}

}  // namespace shoal::cli
