#pragma once

// Which rows of a step need logits, and what for.

#include <cstdint>
#include <span>
#include <vector>

#include "worker/engine/step_plan.h"
#include "worker/forward/rows/sequence_table.h"
#include "worker/forward/rows/step_rows.h"

namespace shoal::forward {

// To choose the token after a row (prompt_index -1), which is the item's chosen_index-th, or for
// the log-probability of the prompt's next token, which is the item's prompt_index-th.
struct WantedRow {
  int64_t row;
  int64_t prompt_index;
  int64_t chosen_index;

  bool operator==(const WantedRow&) const = default;
};

// Pure. No row is wanted twice: the one that chooses first has the whole prompt before it.
struct WantedRows {
  // Makes room in the result's items for what is to come. `all_logits`: whoever chooses needs all
  // logits in one place, as if log-probabilities were asked for.
  void List(const StepRows& rows, const SequenceTable& sequences, bool all_logits,
            engine::StepResult& result);

  std::vector<WantedRow> by_maximum;  // The ranks' maxima decide the token.
  std::vector<WantedRow> from_all;    // All logits are needed in one place.
};

}  // namespace shoal::forward
