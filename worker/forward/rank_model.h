#pragma once

// One rank's part of the forward pass: its layers, heads, MLP columns and vocabulary rows.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "kernels/cpu/table.h"
#include "kernels/device/thread_team.h"
#include "parallel/comm/communicator.h"
#include "parallel/model/model.h"
#include "parallel/plan/plan.h"
#include "worker/engine/step_plan.h"
#include "worker/forward/rank_options.h"

namespace shoal::forward {

// Order:     all ranks of the group construct it, and run the same plans in the same order.
// Result:    every output is a function of the sequence's own tokens and parameters alone.
// Threading: one thread, which is thread 0 of the team.
// Errors:    those of the communicators; after one, the object is of no further use.
// Cost:      buffers have the size of the largest plan from the start; what a step still allocates
//            is small: sequences' tokens, the result, and what the filters of choosing sort.
class RankModel {
 public:
  // `group` spans all ranks, `stage` those of this rank's pipeline stage; both outlive the object.
  RankModel(const model::Model& model, std::span<const plan::RankShard> shards,
            const RankOptions& options, const cpu::KernelTable& kernels, device::ThreadTeam& team,
            comm::Communicator& group, comm::Communicator& stage);
  ~RankModel();

  // Runs the plan's items. Result: on the first rank of the last stage the outcome of each item; on
  // the others nothing.
  std::optional<engine::StepResult> Run(const engine::StepPlan& plan);

  // After Run, in all stages but the last: hands the rows on to the next stage, whose Run waits for
  // them.
  void SendRows();

  // Errors: kInvalidArgument for a grammar that cannot be compiled for this model. Every rank
  // compiles the grammars of the plans it runs: those must have passed.
  void CheckGrammar(const GrammarSource& source);

  // 32 hex digits, equal on every rank and for every cut.
  const std::string& numerics_id() const;
  // Bytes of this rank's packed matrices, without norms, caches and activations.
  int64_t weight_bytes() const;

 private:
  class Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace shoal::forward
