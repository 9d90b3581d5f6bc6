// shoal bench overload: what is left of a server's useful work when more is asked of it than it can
// do, with and without its protections.

#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "coordinator/cli/bench/bench.h"
#include "coordinator/cli/bench/load/progress.h"
#include "coordinator/cli/bench/overload/clients.h"
#include "coordinator/cli/bench/overload/figures.h"
#include "coordinator/cli/bench/overload/report.h"
#include "coordinator/cli/bench/overload/rig.h"
#include "transport/base/error.h"
#include "transport/config/options.h"

namespace shoal::cli {
namespace {

using Json = nlohmann::ordered_json;

// Together they fit the context of the tiny models, 256 tokens.
constexpr LengthTail kPrompts = {.lowest = 32, .highest = 160};
constexpr LengthTail kOutputs = {.lowest = 16, .highest = 96};
constexpr double kStormFactor = 10;
constexpr double kCalmFactor = 0.5;
constexpr double kAngryShare = 0.15;
constexpr double kClosedCallsPerSecondMax = 5'000;

struct OverloadOptions {
  std::string model;
  bool quick = false;
  double seconds = 10;
  double storm_seconds = 30;
  double calm_seconds = 12;
  int32_t groups = 2;
  int32_t sequences_max = 4;
  int64_t seed = 1;
  std::string arms;
  std::string shapes;
  std::string without;
  std::string factors = "1,2,10";
  std::string breaker_rules;
  std::string ladder;
  std::string json;
  std::string plot;
};

config::OptionTable MakeOverloadTable(OverloadOptions& options) {
  config::OptionTable table(
      {.program = "shoal bench overload",
       .usage = "MODEL [options]",
       .summary = "Starts a coordinator with groups of one rank each, measures how many requests a "
                  "second they can answer, asks for 1, 2 and 10 times as many, with the server's "
                  "protections and without, and with each layer of them off alone, and reports "
                  "what came of it. MODEL should be tiny: a server that answers some tens of "
                  "requests a second leaves the machine enough to play the clients of ten times "
                  "as many.",
       .epilog = std::string(kOverloadFormulas) + "\nExit status:\n"
                                                  "  0  measured, whatever the figures are\n"
                                                  "  1  failed while running\n"
                                                  "  2  wrong usage, a bad model\n"});
  table.AddPositional("model", options.model, "A GGUF file or a safetensors folder.");
  table.AddBool(
      "quick", options.quick,
      "Three minutes instead of fifteen: 2 s a run, a storm of 5 s, and shapes other than "
      "steady at the last of --factors only.");
  table.AddDouble("seconds", "S", options.seconds, {1, 3'600},
                  "Of each run but storms. --quick: 2.");
  table.AddDouble("storm-seconds", "S", options.storm_seconds, {1, 3'600},
                  "Of a storm. --quick: 5.");
  table.AddDouble("calm-seconds", "S", options.calm_seconds, {1, 3'600},
                  "After a storm. --quick: 6.");
  table.AddInt("groups", "N", options.groups, {1, 64}, "Groups of one rank.");
  table.AddInt("sequences-max", "N", options.sequences_max, {1, 256}, "Slots of each group.");
  table.AddInt("seed", "N", options.seed, {0, INT32_MAX}, "Of arrivals and lengths.");
  table.AddString("arms", "NAME,...", options.arms, "Only those. Empty: all.");
  table.AddString(
      "shapes", "NAME,...", options.shapes,
      "Only those. Empty: in the arms protected and control all, in the others storms.");
  table.AddString("without", "LAYER,...", options.without,
                  "Storms alone, with all layers, with none, and without each of those: "
                  "client_retry, edge_limit, admission, routing, degradation. Instead of --arms "
                  "and --shapes.");
  table.AddString("factors", "F,...", options.factors, "Of the capacity; a storm has 10.");
  table.AddString("breaker-rules", "FILE", options.breaker_rules,
                  "For the coordinator, in every arm. Without, the routing layer has groups that "
                  "fail to leave out, and no breaker.");
  table.AddString(
      "ladder", "FILE", options.ladder,
      "For the coordinator, in every arm. Without, the degradation layer has nothing to "
      "answer with.");
  table.AddString("json", "FILE", options.json, "Write the figures there.");
  table.AddString("plot", "FILE", options.plot, "Write a plot there, as SVG.");
  return table;
}

void WriteText(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) Throw(ErrorCode::kFailed, path, ": cannot be written");
}

// Thousands of clients are as many connections.
void RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    Throw(ErrorCode::kFailed, "cannot raise the number of open files to ", limit.rlim_max);
  }
}

struct Arm {
  std::string name;
  std::string protections;
  bool patient = true;
};

constexpr std::string_view kControl = "control";
constexpr std::string_view kProtected = "protected";

std::vector<Arm> AllArms() {
  return {{std::string(kControl), "none"},
          {std::string(kProtected), "all"},
          {"no_client_retry", "all", /*patient=*/false},
          {"no_edge_limit", "admission,routing,degradation"},
          {"no_admission", "edge_limit,routing,degradation"},
          {"no_routing", "edge_limit,admission,degradation"},
          {"no_degradation", "edge_limit,admission,routing"}};
}

std::vector<std::string> SplitList(const std::string& text) {
  std::vector<std::string> words;
  std::istringstream in(text);
  for (std::string word; std::getline(in, word, ',');) words.push_back(word);
  return words;
}

// What is to be run.
struct RunPlan {
  std::vector<Arm> arms;
  std::vector<LoadShape> shapes;  // Empty: as the arm has it.
  std::vector<double> factors;    // Not empty.
};

// Errors: kInvalidArgument, with the names that there are.
template <typename Value, typename Name>
std::vector<Value> Choose(const char* flag, const std::string& list,
                          const std::vector<Value>& known, const Name& name) {
  std::vector<Value> chosen;
  std::string names;
  for (const Value& value : known) names += (names.empty() ? "" : ", ") + std::string(name(value));
  for (const std::string& word : SplitList(list)) {
    const auto found =
        std::ranges::find_if(known, [&](const Value& value) { return name(value) == word; });
    if (found == known.end()) {
      Throw(ErrorCode::kInvalidArgument, flag, ": expected some of ", names, ", found '", word,
            "'");
    }
    chosen.push_back(*found);
  }
  return chosen;
}

std::vector<double> ParseFactors(const std::string& list) {
  std::vector<double> factors;
  for (const std::string& word : SplitList(list)) {
    char* end = nullptr;
    const double factor = std::strtod(word.c_str(), &end);
    if (word.empty() || *end != '\0' || !(factor > 0 && factor <= 100)) {
      Throw(ErrorCode::kInvalidArgument,
            "--factors: expected numbers above 0 and up to 100, as 1,2,10, found '", word, "'");
    }
    factors.push_back(factor);
  }
  if (factors.empty()) Throw(ErrorCode::kInvalidArgument, "--factors: expected one or more");
  return factors;
}

// Each layer's arm, and those that it is compared with.
RunPlan PlanWithout(const OverloadOptions& options) {
  if (!options.arms.empty() || !options.shapes.empty()) {
    Throw(ErrorCode::kInvalidArgument,
          "--without says which arms and shapes to run: leave out --arms and --shapes");
  }
  const std::vector<Arm> arms = AllArms();
  const auto layer = [](const Arm& arm) {
    return arm.name.starts_with("no_") ? arm.name.substr(3) : std::string();
  };
  const auto of_layers =
      std::ranges::find_if(arms, [&](const Arm& arm) { return layer(arm) != ""; });
  RunPlan plan{.arms = {arms.begin(), of_layers}, .shapes = {LoadShape::kStorm}, .factors = {}};
  const auto chosen =
      Choose("--without", options.without, std::vector<Arm>(of_layers, arms.end()), layer);
  plan.arms.insert(plan.arms.end(), chosen.begin(), chosen.end());
  plan.factors = ParseFactors(options.factors);
  return plan;
}

RunPlan MakePlan(const OverloadOptions& options) {
  if (!options.without.empty()) return PlanWithout(options);
  RunPlan plan;
  plan.arms = Choose("--arms", options.arms, AllArms(), [](const Arm& arm) { return arm.name; });
  if (plan.arms.empty()) plan.arms = AllArms();
  std::vector<LoadShape> shapes;
  for (size_t i = 0; i < kLoadShapes; ++i) shapes.push_back(static_cast<LoadShape>(i));
  plan.shapes =
      Choose("--shapes", options.shapes, shapes, [](LoadShape shape) { return ToText(shape); });
  plan.factors = ParseFactors(options.factors);
  return plan;
}

class OverloadBench {
 public:
  OverloadBench(const OverloadOptions& options, RunPlan plan)
      : options_(options), plan_(std::move(plan)) {
    result_ = {{"capacity_per_second", 0.0},
               {"capacity_after_per_second", 0.0},
               {"unloaded_ttft_ms", nullptr},
               {"peak_per_second", 0.0},
               {"seconds", options.seconds},
               {"storm_seconds", options.storm_seconds},
               {"calm_seconds", options.calm_seconds},
               {"groups", options.groups},
               {"sequences_max", options.sequences_max},
               {"seed", options.seed},
               {"work_tokens_mean", kPrompts.Mean() + kOutputs.Mean()},
               {"runs", Json::array()}};
  }

  // Result: completed.
  Json Run() {
    progress_.ShowNow("starting a server to measure the capacity of");
    MeasureCapacity(*StartServer("none"));
    for (const Arm& arm : plan_.arms) {
      progress_.ShowNow(Str("starting a server for arm ", arm.name));
      const std::unique_ptr<Rig> server = StartServer(arm.protections);
      for (const double factor : plan_.factors) {
        for (const LoadShape shape : ShapesOf(arm, factor)) RunShape(arm, shape, factor, *server);
      }
      if (HasStorm()) RunShape(arm, LoadShape::kStorm, kStormFactor, *server);
    }
    // On a machine that others use it may be another one by now.
    progress_.ShowNow("measuring the capacity again");
    result_["capacity_after_per_second"] = Capacity(*StartServer("none"));
    CompleteResult(result_);
    return std::move(result_);
  }

 private:
  ClientOptions MakeClients(const Rig& server, bool patient) {
    ClientOptions clients;
    clients.server = server.address();
    clients.api_keys = TenantKeys();
    clients.patient = patient;
    clients.seed = static_cast<uint64_t>(options_.seed);
    clients.first_prompt = prompts_;
    return clients;
  }

  TrafficOptions Traffic(double angry_share) const {
    return {.capacity = capacity_,
            .angry_share = angry_share,
            .prompts = kPrompts,
            .outputs = kOutputs,
            .seed = static_cast<uint64_t>(options_.seed)};
  }

  // What becomes of the calls of so many clients.
  LoadRecords ClosedLoop(const Rig& server, int64_t clients) {
    const double rate = kClosedCallsPerSecondMax;
    const std::vector<RatePiece> pieces = {{options_.seconds, rate}};
    TrafficOptions traffic = Traffic(0);
    traffic.capacity = rate;
    std::vector<Call> calls = PlanCalls(pieces, traffic);
    LoadRecords records =
        RunClosedLoop(MakeClients(server, true), calls, clients, options_.seconds);
    prompts_ += records.calls.size();
    return records;
  }

  double Capacity(const Rig& server) {
    const int64_t clients = int64_t{2} * options_.groups * options_.sequences_max;
    const LoadRecords full = ClosedLoop(server, clients);
    return Goodput(full.calls, {0, static_cast<TimeNs>(options_.seconds * double{kSecondNs})});
  }

  void MeasureCapacity(const Rig& server) {
    progress_.ShowNow("measuring the capacity");
    capacity_ = Capacity(server);
    if (capacity_ <= 0) {
      Throw(ErrorCode::kFailed, "no request was answered in ", options_.seconds,
            " s, so there is no capacity to go by; take a smaller model, or a longer --seconds");
    }
    std::vector<double> first;
    for (const CallRecord& call : ClosedLoop(server, 1).calls) {
      if (call.good()) {
        first.push_back(static_cast<double>(call.first_token - call.due) / kMillisecondNs);
      }
    }
    result_["capacity_per_second"] = capacity_;
    result_["unloaded_ttft_ms"] = Percentiles(std::move(first));
  }

  // With what the capacity is known to be; as long as it is not, without limits.
  std::unique_ptr<Rig> StartServer(const std::string& protections) {
    const double work = capacity_ * (kPrompts.Mean() + kOutputs.Mean());
    const EdgeLimits limits = MakeEdgeLimits(work, 2 * (kPrompts.highest + kOutputs.highest));
    const std::string name = Str("tenants_", ++servers_, ".yaml");
    return std::make_unique<Rig>(
        RigOptions{.model = options_.model,
                   .groups = options_.groups,
                   .sequences_max = options_.sequences_max,
                   .protections = protections,
                   .tenants_file = scratch_.Write(name, TenantsYaml(limits)),
                   .breaker_rules = options_.breaker_rules,
                   .ladder = options_.ladder});
  }

  // Without storms, which have a factor of their own.
  std::vector<LoadShape> ShapesOf(const Arm& arm, double factor) const {
    std::vector<LoadShape> shapes = plan_.shapes;
    if (shapes.empty() && (arm.name == kProtected || arm.name == kControl)) {
      shapes = {LoadShape::kSteady};
      if (!options_.quick || factor == plan_.factors.back()) {
        shapes.insert(shapes.end(), {LoadShape::kStep, LoadShape::kSurge, LoadShape::kEightyTwenty,
                                     LoadShape::kPulse, LoadShape::kAngry});
      }
    }
    std::erase(shapes, LoadShape::kStorm);
    return shapes;
  }

  bool HasStorm() const {
    return plan_.shapes.empty() ||
           std::ranges::find(plan_.shapes, LoadShape::kStorm) != plan_.shapes.end();
  }

  void RunShape(const Arm& arm, LoadShape shape, double factor, const Rig& server) {
    const bool storm = shape == LoadShape::kStorm;
    const std::vector<RatePiece> pieces =
        storm ? std::vector<RatePiece>{{options_.storm_seconds, capacity_ * factor},
                                       {options_.calm_seconds, capacity_ * kCalmFactor}}
              : ShapePieces(shape, options_.seconds, capacity_ * factor);
    const bool angry = storm || shape == LoadShape::kAngry;
    const std::vector<Call> calls = PlanCalls(pieces, Traffic(angry ? kAngryShare : 0));
    progress_.ShowNow(
        Str(arm.name, ", ", ToText(shape), " at ", factor, " x: ", calls.size(), " calls"));
    const LoadRecords records = RunOpenLoop(MakeClients(server, arm.patient), calls);
    prompts_ += calls.size();
    result_["runs"].push_back(
        DescribeRun({.arm = arm.name, .shape = shape, .factor = factor}, pieces, records));
  }

  const OverloadOptions& options_;
  const RunPlan plan_;
  ScratchFolder scratch_;
  Progress progress_;
  double capacity_ = 0;
  uint64_t prompts_ = 0;
  int64_t servers_ = 0;
  Json result_;
};

}  // namespace

int BenchOverload(int argc, const char* const* argv) {
  OverloadOptions options;
  // Flags win over what --quick stands for, so it must be known first.
  if (std::find(argv, argv + argc, std::string_view("--quick")) != argv + argc) {
    options.seconds = 2;
    options.storm_seconds = 5;
    options.calm_seconds = 6;
  }
  config::OptionTable table = MakeOverloadTable(options);
  if (table.Parse(argc, argv) == config::ParseOutcome::kPrinted) return 0;
  RaiseFileLimit();
  const Json result = OverloadBench(options, MakePlan(options)).Run();
  if (!options.json.empty()) WriteText(options.json, result.dump(1) + "\n");
  if (!options.plot.empty()) WriteText(options.plot, OverloadPlot(result));
  std::cout << OverloadText(result) << std::flush;
  return 0;
}

}  // namespace shoal::cli
