// What others may know of a region.

#include <algorithm>
#include <iterator>
#include <utility>

#include "coordinator/core/catalog.h"
#include "coordinator/core/groups/versions.h"
#include "coordinator/core/invariants.h"
#include "coordinator/core/region.h"
#include "transport/base/check.h"

namespace shoal::core {

std::vector<ServedModel> Region::models() const { return ListModels(options_, groups_, streams_); }

namespace {

// Of groups that nobody manages the numbers are as many as groups were ever here at once.
constexpr size_t kLastLossesMax = 1'024;

}  // namespace

void Region::NoteLoss(uint64_t number, std::string why) {
  last_losses_[number] = std::move(why);
  if (last_losses_.size() > kLastLossesMax) last_losses_.erase(std::prev(last_losses_.end()));
}

RegionStatus Region::status() const {
  RegionStatus status = counts_;
  for (const auto& [number, group] : groups_.all()) status.groups.push_back(group.Status());
  for (uint64_t number = 0; number < options_.managed_groups; ++number) {
    if (groups_.all().contains(number)) continue;
    GroupStatus& lost = status.groups.emplace_back();
    lost.group = number;
    lost.name = Str("group ", number);
    lost.state = GroupState::kLost;
  }
  std::ranges::sort(status.groups, {}, &GroupStatus::group);
  for (GroupStatus& group : status.groups) {
    group.managed = group.group < options_.managed_groups;
    const auto loss = last_losses_.find(group.group);
    if (loss != last_losses_.end()) group.last_loss = loss->second;
  }
  status.models = models();
  status.breakers = guard_.breakers();
  status.requests_waiting = static_cast<int32_t>(streams_.waiting_count());
  status.streams_live = static_cast<int64_t>(streams_.all().size());
  status.totals = groups_.totals();
  status.wait_errors = waits_.errors();
  status.requests_rejected = recorder_.counts().rejected;
  return status;
}

size_t Region::groups_ready() const { return CountReady(groups_.all()); }

std::string Region::FindBrokenInvariant() const {
  return core::FindBrokenInvariant(groups_, streams_, ended_, flights_, tenants_, deadlines_,
                                   options_);
}

}  // namespace shoal::core
