// shoal bench plan: what the planner predicts for a cut, against what is measured.

#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>

#include "coordinator/cli/bench/bench.h"
#include "coordinator/cli/bench/engine_run.h"
#include "parallel/plan/predict.h"
#include "transport/base/error.h"
#include "transport/config/group_flags.h"

namespace shoal::cli {
namespace {

constexpr const char* kPlanEpilog =
    R"(The prediction starts from what the same run measures of the machine:
  decode   1 / (weights of the slowest rank of each stage / its part of a streaming read
                + 2 all-reduces a layer)
  prefill  peak of the dot product / multiply-additions of the slowest rank, times ranks
Attention, norms and the cache are not counted, so measured / predicted is what the engine reaches
of its bound.

Exit status:
  0  measured
  1  failed while running
  2  wrong usage, a bad model, an impossible cut
)";

double Figure(const nlohmann::ordered_json& measured, const char* name) {
  return measured.value(name, 0.0);
}

}  // namespace

int BenchPlan(int argc, const char* const* argv) {
  EngineOptions options;
  bool json = false;
  config::OptionTable table(
      {.program = "shoal bench plan",
       .usage = "MODEL [options]",
       .summary = "Compares the speed that the planner predicts for a cut with what a group of "
                  "ranks reaches.",
       .epilog = kPlanEpilog});
  AddEngineOptions(table, options);
  table.AddBool("json", json, "Print one JSON object instead of a table.");
  if (table.Parse(argc, argv) == config::ParseOutcome::kPrinted) return 0;
  const auto model = model::Model::Open(options.cut.model);
  const std::vector<plan::RankShard> shards = Plan(*model, options.cut);
  const nlohmann::ordered_json measured = MeasureEngine(options, config::GroupArguments(table));
  const plan::SpeedPrediction predicted = plan::PredictSpeed(
      *model, shards,
      {.read_bytes_per_second = Figure(measured, "streaming_read_bytes_per_second"),
       .dot_ops_per_second = Figure(measured, "dot_ops_per_second"),
       .all_reduce_seconds = Figure(measured, "all_reduce_seconds")});
  nlohmann::ordered_json result = {{"ranks", shards.size()},
                                   {"threads", measured["threads"]},
                                   {"decode_bound", predicted.decode_bound}};
  const auto add = [&](const char* name, double prediction, double measurement) {
    result[name] = {{"predicted_tokens_per_second", prediction},
                    {"measured_tokens_per_second", measurement},
                    {"ratio", measurement / prediction}};
  };
  add("decode", predicted.decode_tokens_per_second,
      Figure(measured, "decode_tokens_per_second_batch_1"));
  add("prefill", predicted.prefill_tokens_per_second,
      Figure(measured, "prefill_tokens_per_second"));
  if (json) {
    std::cout << result.dump() << std::endl;
    return 0;
  }
  std::cout << std::fixed << std::setprecision(1) << "tokens/s  predicted  measured  ratio\n";
  for (const char* name : {"decode", "prefill"}) {
    std::cout << std::left << std::setw(8) << name << std::right << std::setw(11)
              << result[name]["predicted_tokens_per_second"].get<double>() << std::setw(10)
              << result[name]["measured_tokens_per_second"].get<double>() << std::setw(7)
              << std::setprecision(2) << result[name]["ratio"].get<double>() << std::setprecision(1)
              << "\n";
  }
  std::cout << "decode is bound by " << predicted.decode_bound << std::endl;
  return 0;
}

}  // namespace shoal::cli
