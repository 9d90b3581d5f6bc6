#include "coordinator/cli/bench/bench.h"

#include <algorithm>
#include <array>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/cli/verbs.h"
#include "transport/base/error.h"
#include "transport/config/options.h"

// shoal bench: chooses what is measured.

namespace shoal::cli {
namespace {

struct Benchmark {
  std::string_view name;
  int (*run)(int argc, const char* const* argv);
  std::string_view summary;
};

constexpr std::array kBenchmarks = {
    Benchmark{"engine", BenchEngineVerb, "A group of ranks alone: prefill and decode."},
    Benchmark{"exactness", BenchExactness, "Exact sums across ranks against sums of floats."},
    Benchmark{"overload", BenchOverload, "More load than a server can serve, protected and not."},
    Benchmark{"plan", BenchPlan, "The planner's prediction against measurement."},
    Benchmark{"router", BenchRouter, "Choosing a group, admitting and passing on, beside HAProxy."},
    Benchmark{"serve", BenchServe, "A server's clients: latencies and throughput under load."},
};

}  // namespace

int BenchVerb(int argc, const char* const* argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  std::vector<std::string> names;
  std::string list;
  std::string help = "Usage: shoal bench NAME [arguments]\n\nMeasures.\n\n";
  for (const Benchmark& known : kBenchmarks) {
    if (name == known.name) return known.run(argc - 1, argv + 1);
    names.emplace_back(known.name);
    list += (list.empty() ? "" : ", ") + std::string(known.name);
    help += "  " + std::string(known.name) + std::string(12 - known.name.size(), ' ') +
            std::string(known.summary) + "\n";
  }
  if (name == "--help" || name == "-h") {
    std::cout << help << "\n`shoal bench NAME --help` says more.\n" << std::flush;
    return 0;
  }
  Throw(ErrorCode::kInvalidArgument, name.empty() ? "no benchmark" : "unknown benchmark '", name,
        name.empty() ? "" : "'", config::Suggestion(name, names), "; there are ", list,
        ": see shoal bench --help");
}

}  // namespace shoal::cli
