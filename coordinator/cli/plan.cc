// shoal plan: what each rank would own, before anything is started.

#include <iostream>
#include <nlohmann/json.hpp>

#include "coordinator/cli/support/cut_options.h"
#include "coordinator/cli/verbs.h"

namespace shoal::cli {

int PlanVerb(int argc, const char* const* argv) {
  CutOptions options;
  bool json = false;
  config::OptionTable table(
      {.program = "shoal plan",
       .usage = "MODEL [options]",
       .summary = "Shows how a model would be cut over ranks: layers, heads, leaves, vocabulary, "
                  "bytes. Reads the model's headers only, starts nothing.",
       .epilog = "Exit status:\n"
                 "  0  such a cut is possible\n"
                 "  2  it is not, and the message says why, or the model is bad\n"
                 "\n"
                 "Example:\n"
                 "  shoal plan models/SmolLM2-135M-Instruct.Q4_1.gguf --tensor-parallel 2\n"});
  AddCut(table, options);
  AddCache(table, options);
  table.AddInt("memory-bytes-max", "N", options.memory_bytes_max, {0, INT64_MAX},
               "What each rank has for weights and KV cache; a cut that needs more is refused. "
               "0: no limit.");
  table.AddBool("json", json, "Print one JSON object instead of a table. Ranges are half-open.");
  if (table.Parse(argc, argv) == config::ParseOutcome::kPrinted) return 0;

  const auto model = model::Model::Open(options.model);
  const std::vector<plan::RankShard> shards = Plan(*model, options);
  if (json) {
    std::cout << plan::ToJson(shards).dump() << std::endl;
  } else {
    std::cout << plan::ToTable(*model, shards) << std::flush;
  }
  return 0;
}

}  // namespace shoal::cli
