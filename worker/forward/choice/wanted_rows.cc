#include "worker/forward/choice/wanted_rows.h"

#include "worker/engine/choice/sampler.h"

namespace shoal::forward {

void WantedRows::List(const StepRows& rows, const SequenceTable& sequences, bool all_logits,
                      engine::StepResult& result) {
  by_maximum.clear();
  from_all.clear();
  for (int64_t r = 0; r < rows.count(); ++r) {
    const Row& row = rows[r];
    engine::ItemResult& item = result.items[row.item];
    if (row.scores_the_next) {
      from_all.push_back({.row = r,
                          .prompt_index = static_cast<int64_t>(item.prompt_logprobs.size()),
                          .chosen_index = -1});
      item.prompt_logprobs.emplace_back();
    }
    if (row.chooses) {
      const GenerationParams& params = sequences.at(row.slot).params;
      const bool from_one_place =
          all_logits || params.top_logprobs >= 0 || !engine::ChoosesByMaximum(params.sampling);
      (from_one_place ? from_all : by_maximum)
          .push_back({.row = r,
                      .prompt_index = -1,
                      .chosen_index = static_cast<int64_t>(item.chosen.size())});
      item.chosen.emplace_back();
    }
  }
}

}  // namespace shoal::forward
