#include "coordinator/cli/bench/engine_run.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "coordinator/cli/support/programs.h"
#include "coordinator/launch/local_group.h"
#include "transport/base/error.h"
#include "transport/config/group_flags.h"

namespace shoal::cli {
namespace {

ErrorCode CodeOf(const launch::GroupEnd& end) {
  if (end.signal == 0 && end.status == 2) return ErrorCode::kInvalidArgument;
  if (end.signal == 0 && end.status == 4) return ErrorCode::kMissingHardware;
  return ErrorCode::kFailed;
}

}  // namespace

void AddEngineOptions(config::OptionTable& table, EngineOptions& options) {
  AddCut(table, options.cut);
  AddCache(table, options.cut);
  AddMemory(table, options.cut);
  config::PassGroupFlag(table, "numerics");
  config::PassGroupFlag(table, "threads");
  config::PassGroupFlag(table, "comm");
  table.AddInt("prompt-tokens", "N", options.prompt_tokens, {1, INT32_MAX},
               "Length of the prompt whose prefill is timed.");
  table.AddInt("decode-tokens", "N", options.decode_tokens, {1, INT32_MAX},
               "Tokens of each sequence whose decoding is timed.");
  table.AddInt("repeat", "N", options.repeat, {1, 1000},
               "Each figure is the median of as many runs, after one that is not counted.");
}

nlohmann::ordered_json MeasureEngine(const EngineOptions& options,
                                     const std::vector<std::string>& group_flags) {
  launch::LocalGroupOptions group_options;
  group_options.rank_count = static_cast<int32_t>(options.cut.rank_count());
  group_options.worker = ProgramPath("shoal-worker");
  std::vector<std::string>& arguments = group_options.arguments;
  arguments = {"bench", "engine", options.cut.model};
  arguments.insert(arguments.end(), group_flags.begin(), group_flags.end());
  AppendFlag(arguments, "--prompt-tokens", options.prompt_tokens);
  AppendFlag(arguments, "--decode-tokens", options.decode_tokens);
  AppendFlag(arguments, "--repeat", options.repeat);
  nlohmann::ordered_json result;
  group_options.on_stdout = [&result](std::string_view line) {
    if (line.starts_with('{')) {
      result = nlohmann::ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
    }
  };
  launch::LocalGroup group(group_options);
  constexpr int64_t kLookMs = 1'000;
  std::optional<launch::GroupEnd> end;
  // The ranks have deadlines of their own for every step.
  while (!end) end = group.WaitFor(kLookMs);
  if (end->status != 0 || end->signal != 0) {
    Throw(CodeOf(*end), "the ranks could not measure: ", end->Text());
  }
  if (!result.is_object()) {
    Throw(ErrorCode::kFailed, "shoal-worker bench engine: expected a JSON object, found none");
  }
  return result;
}

}  // namespace shoal::cli
