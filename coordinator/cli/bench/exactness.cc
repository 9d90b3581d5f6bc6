// shoal bench exactness: what the promise of equal bits costs.

#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "coordinator/cli/bench/bench.h"
#include "coordinator/cli/bench/engine_run.h"
#include "coordinator/cli/bench/load/progress.h"
#include "coordinator/cli/bench/pairs.h"
#include "transport/base/error.h"
#include "transport/config/group_flags.h"

namespace shoal::cli {
namespace {

constexpr double kBound = 0.95;
constexpr const char* kFigures[] = {"prefill_tokens_per_second", "decode_tokens_per_second_batch_1",
                                    "decode_tokens_per_second_batch_16"};

constexpr const char* kEpilog = R"(Each pair runs both, and the order changes from pair to pair.
  ratio   exact / fast of one pair; median, lowest and highest of all pairs
  bound   the median ratio of every figure is at least 0.95

Exit status:
  0  within the bound
  1  below it, or failed while running
  2  wrong usage, a bad model, an impossible cut
)";

}  // namespace

int BenchExactness(int argc, const char* const* argv) {
  EngineOptions options;
  options.cut.tensor_parallel = 2;
  options.repeat = 1;
  int64_t pairs = 5;
  bool json = false;
  config::OptionTable table(
      {.program = "shoal bench exactness",
       .usage = "MODEL [options]",
       .summary = "Compares the speed of exact sums across ranks with that of sums of floats "
                  "(`--numerics fast`), in paired runs.",
       .epilog = kEpilog});
  AddEngineOptions(table, options);
  table.AddInt("pairs", "N", pairs, {1, 1000}, "Paired runs.");
  table.AddBool("json", json, "Print one JSON object instead of a table.");
  if (table.Parse(argc, argv) == config::ParseOutcome::kPrinted) return 0;

  std::vector<std::string> group_flags = config::GroupArguments(table);
  std::string& numerics = *(std::ranges::find(group_flags, "--numerics") + 1);
  std::vector<nlohmann::ordered_json> exact, fast;
  {
    Progress progress;
    for (int64_t pair = 0; pair < pairs; ++pair) {
      progress.ShowNow(Str("pair ", pair + 1, " of ", pairs));
      for (const bool is_exact : {pair % 2 == 0, pair % 2 != 0}) {
        numerics = is_exact ? "exact" : "fast";
        (is_exact ? exact : fast).push_back(MeasureEngine(options, group_flags));
      }
    }
  }
  bool within = true;
  nlohmann::ordered_json result = {{"pairs", pairs}, {"bound", kBound}};
  for (const char* figure : kFigures) {
    const PairedRatio ratio = ComparePairs(exact, fast, figure);
    within = within && ratio.median >= kBound;
    result[figure] = ratio.ToJson();
  }
  result["within_bound"] = within;
  if (json) {
    std::cout << result.dump() << std::endl;
  } else {
    std::cout << pairs << " pairs, exact against fast: ratio of medians (lowest to highest)\n";
    for (const char* figure : kFigures) {
      std::cout << "  " << figure << "  " << ComparePairs(exact, fast, figure).ToText() << "\n";
    }
    std::cout << (within ? "within" : "below") << " the bound of " << kBound << std::endl;
  }
  return within ? 0 : 1;
}

}  // namespace shoal::cli
