#include "worker/forward/rows/sequence_table.h"

#include "kernels/format/packed.h"
#include "transport/base/check.h"

namespace shoal::forward {

void SequenceTable::Apply(const engine::StepPlan& plan) {
  for (const uint32_t slot : plan.ends) {
    SHOAL_CHECK(slot < slots_.size() && slots_[slot].live, "slot ", slot);
    slots_[slot] = {};
  }
  for (const engine::SequenceStart& start : plan.starts) {
    SHOAL_CHECK(start.slot < slots_.size() && !slots_[start.slot].live, "slot ", start.slot);
    slots_[start.slot] = {.live = true,
                          .id = start.id,
                          .tokens = start.tokens,
                          .draft_count = 0,
                          .prompt_count = start.prompt_count,
                          .params = start.params,
                          .blocks = start.blocks};
  }
  for (const engine::KnownToken& known : plan.known) {
    SHOAL_CHECK(known.slot < slots_.size() && slots_[known.slot].live, "slot ", known.slot);
    SequenceState& state = slots_[known.slot];
    state.tokens.resize(state.tokens.size() - static_cast<size_t>(state.draft_count));
    state.draft_count = 0;
    state.tokens.push_back(known.token);
  }
  for (const engine::StepItem& item : plan.items) {
    SHOAL_CHECK(item.slot < slots_.size() && slots_[item.slot].live, "slot ", item.slot);
    SequenceState& state = slots_[item.slot];
    state.blocks.insert(state.blocks.end(), item.new_blocks.begin(), item.new_blocks.end());
    if (!item.drafts.empty()) {
      SHOAL_CHECK(state.draft_count == 0, "slot ", item.slot, ": drafts after drafts");
      state.tokens.insert(state.tokens.end(), item.drafts.begin(), item.drafts.end());
      state.draft_count = static_cast<int64_t>(item.drafts.size());
    }
    const size_t end = size_t{item.position_begin} + item.row_count;
    SHOAL_CHECK(end <= state.tokens.size(), "slot ", item.slot, ": rows up to ", end, " of ",
                state.tokens.size(), " tokens");
    SHOAL_CHECK(end <= state.blocks.size() * kKvBlockTokens, "slot ", item.slot, ": rows up to ",
                end, " in ", state.blocks.size(), " blocks");
  }
}

}  // namespace shoal::forward
