#pragma once

// One run of `shoal-worker bench engine` under mpirun, for the benchmarks that need several.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "coordinator/cli/support/cut_options.h"

namespace shoal::cli {

struct EngineOptions {
  CutOptions cut;
  int64_t prompt_tokens = 512;
  int64_t decode_tokens = 64;
  int32_t repeat = 3;
};

void AddEngineOptions(config::OptionTable& table, EngineOptions& options);

// `group_flags`: of the ranks, as config::GroupArguments gives them.
// Result: what rank 0 prints (worker/tools/bench_engine.h). Errors: kInvalidArgument, kFailed or
// kMissingHardware if the ranks ended with 2, 1 or 4; they have then said why on stderr.
nlohmann::ordered_json MeasureEngine(const EngineOptions& options,
                                     const std::vector<std::string>& group_flags);

}  // namespace shoal::cli
