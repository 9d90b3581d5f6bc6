// shoal bench router: what it costs to decide which group takes a request, and to pass it on.

#include <algorithm>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "coordinator/cli/bench/bench.h"
#include "coordinator/cli/bench/router/core_cost.h"
#include "coordinator/cli/bench/router/haproxy.h"
#include "coordinator/cli/bench/router/hop.h"
#include "coordinator/cli/bench/router/report.h"
#include "parallel/model/model.h"
#include "transport/base/error.h"
#include "transport/config/options.h"

namespace shoal::cli {
namespace {

using Json = nlohmann::ordered_json;

struct RouterOptions {
  HopOptions hop;
  CoreCostOptions core;
  bool quick = false;
  std::string json;
};

config::OptionTable MakeRouterTable(RouterOptions& options) {
  config::OptionTable table(
      {.program = "shoal bench router",
       .usage = "MODEL [options]",
       .summary = "Times the choice of a group, the admission of a request, and what the "
                  "coordinator adds to one, beside HAProxy where that is installed. MODEL should "
                  "be tiny: what its groups compute is not what is measured.",
       .epilog = std::string(kRouterFormulas) + "\nExit status:\n"
                                                "  0  measured, whatever the figures are\n"
                                                "  1  failed while running\n"
                                                "  2  wrong usage, a bad model\n"});
  table.AddPositional("model", options.hop.model, "A GGUF file or a safetensors folder.");
  table.AddBool("quick", options.quick,
                "Half a minute instead of three: one pair of 2 s, fewer decisions.");
  table.AddDouble("rate", "R", options.hop.requests_per_second, {1, 100'000},
                  "Requests a second, of the hops.");
  table.AddDouble("seconds", "S", options.hop.seconds, {0.5, 3'600}, "Of each run. --quick: 2.");
  table.AddInt("pairs", "N", options.hop.pairs, {1, 100}, "Runs of each arm. --quick: 1.");
  table.AddInt("groups", "N", options.hop.groups, {1, 64}, "Groups of one rank that compute.");
  table.AddInt("streams", "N", options.core.streams, {1, 8'000},
               "That the groups have while a decision is timed.");
  table.AddInt("count", "N", options.core.count, {100, 10'000'000},
               "Decisions by each policy, and admissions. --quick: 2000.");
  table.AddInt("seed", "N", options.hop.seed, {0, INT32_MAX}, "Of arrivals.");
  table.AddString("json", "FILE", options.json, "Write the figures there.");
  return table;
}

}  // namespace

int BenchRouter(int argc, const char* const* argv) {
  RouterOptions options;
  // Flags win over what --quick stands for, so it must be known first.
  if (std::find(argv, argv + argc, std::string_view("--quick")) != argv + argc) {
    options.hop.seconds = 2;
    options.hop.pairs = 1;
    options.core.count = 2'000;
  }
  config::OptionTable table = MakeRouterTable(options);
  if (table.Parse(argc, argv) == config::ParseOutcome::kPrinted) return 0;
  static_cast<void>(model::Model::Open(options.hop.model));  // What is wrong with it comes first.
  const auto haproxy = FindHaproxy();
  options.hop.haproxy = haproxy.has_value();
  if (!haproxy) std::cerr << kHaproxyMissing << "\n";
  Json result = {{"haproxy", haproxy ? Json(*haproxy) : Json(nullptr)}, {"core", Json::array()}};
  for (const uint64_t groups : {8, 64}) {
    options.core.groups = groups;
    result["core"].push_back(MeasureCore(options.core));
  }
  result["hop"] = MeasureHops(options.hop);
  AddRouterTargets(result);
  if (!options.json.empty()) {
    std::ofstream file(options.json, std::ios::binary | std::ios::trunc);
    file << result.dump(1) << "\n";
    file.close();
    if (!file) Throw(ErrorCode::kFailed, options.json, ": cannot be written");
  }
  std::cout << RouterText(result) << std::flush;
  return 0;
}

}  // namespace shoal::cli
