#pragma once

// The end of the last stage: logits of the rows that need them, and what is chosen from them.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "worker/engine/choice/sampler.h"
#include "worker/engine/step_plan.h"
#include "worker/forward/choice/sequence_rules.h"
#include "worker/forward/choice/wanted_rows.h"
#include "worker/forward/ops/ops.h"
#include "worker/forward/rank_options.h"
#include "worker/forward/rows/stage_exchange.h"

namespace shoal::forward {

// What turns the last residuals into logits.
struct OutputWeights {
  const float* norm = nullptr;
  const PackedMatrix& matrix;       // This rank's rows of the vocabulary.
  std::span<const std::byte> next;  // The memory of the matrices that the next step begins with.
};

struct ChooserParts {
  Ops& ops;
  RowExecutor& executor;
  StageExchange& exchange;
  Activations& activations;
  StepRows& rows;
  const SequenceTable& sequences;
  SequenceRules& rules;
};

// Order:     all ranks of the last stage choose together.
// Threading: one thread, which is thread 0 of the executor's.
class TokenChooser {
 public:
  // `vocab`: this rank's part. All outlives the object, `on_logits` too.
  TokenChooser(const ChooserParts& parts, const OutputWeights& output, plan::Range vocab,
               const model::ModelConfig& config, const math::ChoiceKernels& kernels,
               int32_t thread_count, const LogitsSink& on_logits);

  // The outcome of each item, on the first rank of the stage; on the others it lacks what only that
  // one has. Rows with logits that are not finite are blamed on the layer after the last one.
  engine::StepResult Choose(const engine::StepPlan& plan);

 private:
  using Tile = std::span<const WantedRow>;

  // Fills activations.logits for at most kLogitTileRows rows.
  void ComputeLogits(Tile tile);
  void ChooseByMaximum(Tile tile, engine::StepResult& result);
  void ChooseFromAll(Tile tile, engine::StepResult& result);
  // Calls choose(i, thread) with the index of every row of the tile, on all threads.
  template <typename Function>
  void ForEachChoice(Tile tile, const Function& choose);
  // Result: false if a logit is not finite.
  bool ChooseOne(const WantedRow& wanted, std::span<float> logits, engine::Sampler& sampler,
                 engine::ItemResult& item);

  const ChooserParts parts_;
  const OutputWeights output_;
  const plan::Range vocab_;
  const int64_t vocab_size_;
  const int64_t layer_count_;
  const LogitsSink& on_logits_;
  WantedRows wanted_;
  std::vector<int64_t> logit_rows_;
  std::vector<engine::Candidate> candidates_;
  std::vector<engine::Sampler> samplers_;  // By thread.
  std::vector<int64_t> choice_begins_;
};

}  // namespace shoal::forward
