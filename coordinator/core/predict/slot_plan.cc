#include "coordinator/core/predict/slot_plan.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core {

SlotPlan::SlotPlan(std::vector<SlotPace> groups) {
  SHOAL_CHECK(!groups.empty());
  for (const SlotPace& pace : groups) {
    groups_.push_back({pace, std::vector<double>(static_cast<size_t>(pace.slots), 0.0)});
  }
}

void SlotPlan::AddPlaced(size_t number, const Job& job) {
  Group& group = groups_[number];
  std::ranges::pop_heap(group.free, std::greater<>());
  double& slot = group.free.back();
  const double prompt = job.rows * group.pace.row;
  if (prompt > 0) group.prompts_done = std::max(group.prompts_done, slot) + prompt;
  slot += prompt * group.pace.slots + job.tokens * group.pace.step_full;
  std::ranges::push_heap(group.free, std::greater<>());
}

void SlotPlan::Add(const Job& job) { AddPlaced(FindNext().group, job); }

SlotPlan::Next SlotPlan::FindNext() const {
  // Of groups with a free slot, that with the least prompts to be computed.
  const auto first = std::ranges::min_element(groups_, {}, [](const Group& group) {
    return std::pair(group.free.front(), group.prompts_done);
  });
  return {first->free.front(), static_cast<size_t>(first - groups_.begin()), first->prompts_done};
}

}  // namespace shoal::core
