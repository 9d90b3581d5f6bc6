#pragma once

// The rows of a step: where each belongs, what is wanted of it, and what went wrong with it.

#include <cstdint>
#include <span>
#include <vector>

#include "worker/engine/step_plan.h"
#include "worker/forward/rows/sequence_table.h"

namespace shoal::forward {

struct Row {
  uint32_t item = 0;
  uint32_t slot = 0;
  int32_t token = 0;
  int64_t position = 0;
  const int32_t* block_table = nullptr;  // Of its sequence: cache blocks, by position / 32.
  // The first layer that made a sum of this row invalid; layer_count: its logits were.
  int64_t bad_layer = -1;
  bool chooses = false;          // A token is chosen from its logits.
  bool scores_the_next = false;  // They give the log-probability of the prompt's next token.

  bool is_wanted() const { return chooses || scores_the_next; }
  void Blame(int64_t layer) {
    if (bad_layer < 0) bad_layer = layer;
  }
};

// Pure: no threads, no ranks. Threads may change different rows at once.
class StepRows {
 public:
  explicit StepRows(int64_t rows_max);

  // The rows of the plan's items, in their order. `sequences` has applied the plan and stays as it
  // is during the step.
  void List(const engine::StepPlan& plan, const SequenceTable& sequences);

  int64_t count() const { return static_cast<int64_t>(rows_.size()); }
  bool empty() const { return rows_.empty(); }
  Row& operator[](int64_t row) { return rows_[row]; }
  const Row& operator[](int64_t row) const { return rows_[row]; }

  int64_t CountWanted() const;
  // Keeps only the rows whose logits are wanted. Result: which they were, in ascending order; valid
  // until the next call.
  std::span<const int64_t> KeepWanted();

  // A number for each row's bad_layer, of which the largest of several ranks' stands for the first
  // of their bad layers, and the way back. Shape: [count()].
  void PutBadLayers(std::span<int64_t> numbers) const;
  void TakeBadLayers(std::span<const int64_t> numbers);

  // Tells each item of the result its first bad row, among those that left too, be it a layer or
  // the logits that went wrong: the one that smaller chunks would have met first.
  void ReportBadRows(const engine::StepPlan& plan, engine::StepResult& result) const;

 private:
  const int64_t rows_max_;
  std::vector<Row> rows_;
  std::vector<Row> bad_rows_that_left_;
  std::vector<int64_t> kept_;
};

}  // namespace shoal::forward
