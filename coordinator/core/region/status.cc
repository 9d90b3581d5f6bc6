// What others may know of a region.

#include "coordinator/core/catalog.h"
#include "coordinator/core/groups/routing.h"
#include "coordinator/core/invariants.h"
#include "coordinator/core/region.h"

namespace shoal::core {

std::vector<ServedModel> Region::models() const { return ListModels(options_, groups_, streams_); }

RegionStatus Region::status() const {
  RegionStatus status = counts_;
  for (const auto& [number, group] : groups_.all()) status.groups.push_back(group.Status());
  status.models = models();
  status.requests_waiting = static_cast<int32_t>(streams_.waiting_count());
  status.streams_live = static_cast<int64_t>(streams_.all().size());
  status.totals = groups_.totals();
  return status;
}

size_t Region::groups_ready() const { return CountReady(groups_.all()); }

std::string Region::FindBrokenInvariant() const {
  return core::FindBrokenInvariant(groups_, streams_, options_);
}

}  // namespace shoal::core
