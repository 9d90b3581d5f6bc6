#pragma once

// What a rank knows of the sequences that run: the same on every rank after the same plans.

#include <cstdint>
#include <vector>

#include "worker/engine/step_plan.h"

namespace shoal::forward {

struct SequenceState {
  bool live = false;
  uint64_t id = 0;
  // The prompt, then the tokens generated so far; after a step with drafts also those, right or
  // wrong, until the next known token.
  std::vector<int32_t> tokens;
  int64_t draft_count = 0;
  int64_t prompt_count = 0;
  GenerationParams params;
  std::vector<int32_t> blocks;  // Cache blocks, by position / 32.
};

class SequenceTable {
 public:
  explicit SequenceTable(int32_t sequences_max) : slots_(sequences_max) {}

  // Ends, starts, known tokens and new blocks, in that order. A plan that names a slot or position
  // that cannot be is a bug of the leader.
  void Apply(const engine::StepPlan& plan);

  const SequenceState& at(uint32_t slot) const { return slots_[slot]; }

 private:
  std::vector<SequenceState> slots_;
};

}  // namespace shoal::forward
