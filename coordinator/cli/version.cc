// shoal version: what was built, from what, and what of it this machine can run.

#include <iostream>
#include <nlohmann/json.hpp>

#include "coordinator/cli/git_revision.h"
#include "coordinator/cli/support/programs.h"
#include "coordinator/cli/verbs.h"
#include "transport/config/options.h"

namespace shoal::cli {

int VersionVerb(int argc, const char* const* argv) {
  bool json = false;
  config::OptionTable table({.program = "shoal version",
                             .usage = "[--json]",
                             .summary = "Prints the version, the commit it was built from, the "
                                        "compiler, and the instruction sets that this machine "
                                        "can run."});
  table.AddBool("json", json, "Print one JSON object.");
  if (table.Parse(argc, argv) == config::ParseOutcome::kPrinted) return 0;
  const std::string compiler = "g++ " __VERSION__;
  const std::vector<std::string> sets = InstructionSetsHere();
  if (json) {
    nlohmann::ordered_json text;
    text["version"] = config::kVersion;
    text["git"] = kGitRevision;
    text["compiler"] = compiler;
    text["instruction_sets"] = sets;
    std::cout << text.dump() << std::endl;
    return 0;
  }
  std::cout << "shoal " << config::kVersion << " (" << kGitRevision << ", " << compiler << ";";
  for (const std::string& set : sets) std::cout << " " << set;
  std::cout << ")" << std::endl;
  return 0;
}

}  // namespace shoal::cli
