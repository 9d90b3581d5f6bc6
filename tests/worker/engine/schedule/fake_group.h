#pragma once

// A group of ranks without a model: applies plans as ranks must, checks each of them against the
// scheduler's promises, and answers with tokens that are a pure hash of the tokens before them.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "transport/base/generation/generation.h"
#include "worker/engine/schedule/scheduler.h"
#include "worker/engine/step_plan.h"

namespace shoal::engine {

// What a request gives when it runs alone.
struct Stream {
  std::vector<int32_t> tokens;
  std::vector<TokenLogprobs> logprobs;
  std::vector<TokenLogprobs> prompt_logprobs;
  FinishReason finish = FinishReason::kNone;
  std::string detail;
};

Stream RunAlone(const std::vector<int32_t>& prompt, const GenerationParams& params,
                int64_t context_tokens);

// Every broken promise is a test failure (EXPECT) that names the step.
class FakeGroup {
 public:
  explicit FakeGroup(const SchedulerOptions& options);

  StepResult Apply(const StepPlan& plan);

  size_t live_slots() const { return slots_.size(); }
  int64_t rows_computed() const { return rows_computed_; }
  int64_t blocks_owned() const;

 private:
  struct Slot {
    SequenceStart start;
    std::vector<int32_t> tokens;
    std::vector<int32_t> blocks;
    int64_t computed = 0;
    int64_t found = 0;        // Blocks that it started with.
    int64_t draft_count = 0;  // Of the last tokens, those that are guesses.
  };
  // What the cache holds for one position.
  struct Cell {
    int64_t position = -1;
    uint64_t prefix = 0;
  };

  void ApplyStart(const SequenceStart& start);
  void ApplyBlocks(const StepItem& item, Slot& slot);
  void ApplyKnown(const KnownToken& known);
  void ApplyDrafts(const StepItem& item, Slot& slot) const;
  ItemResult ApplyItem(const StepItem& item, Slot& slot);
  Cell& CellOf(const Slot& slot, int64_t position);

  SchedulerOptions options_;
  uint64_t next_step_ = 0;
  int64_t rows_computed_ = 0;
  std::map<uint32_t, Slot> slots_;
  std::vector<std::set<uint32_t>> block_owners_;  // Slots.
  std::vector<Cell> cells_;
};

}  // namespace shoal::engine
