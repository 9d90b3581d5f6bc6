// shoal bench engine: `shoal-worker bench engine`, with the ranks that it needs.

#include <iostream>
#include <nlohmann/json.hpp>

#include "coordinator/cli/bench/bench.h"
#include "coordinator/cli/bench/engine_run.h"
#include "transport/config/group_flags.h"

namespace shoal::cli {

int BenchEngineVerb(int argc, const char* const* argv) {
  EngineOptions options;
  config::OptionTable table(
      {.program = "shoal bench engine",
       .usage = "MODEL [options]",
       .summary = "Measures prefill and decode of a group of ranks, without a coordinator, and how "
                  "close they come to what the machine can do. Prints one JSON object.",
       .epilog = "Exit status:\n"
                 "  0  measured\n"
                 "  1  failed while running\n"
                 "  2  wrong usage, a bad model, an impossible cut\n"
                 "  4  the instruction set asked for is not there\n"});
  AddEngineOptions(table, options);
  if (table.Parse(argc, argv) == config::ParseOutcome::kPrinted) return 0;
  std::cout << MeasureEngine(options, config::GroupArguments(table)).dump() << std::endl;
  return 0;
}

}  // namespace shoal::cli
