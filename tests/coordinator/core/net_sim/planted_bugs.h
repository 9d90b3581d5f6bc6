#pragma once

// Mistakes put between a region and its world, by changing what it hears and what it says.

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "coordinator/core/region.h"
#include "tests/coordinator/core/net_sim/net/context.h"

namespace shoal::core::net_sim {

class PlantedBugs {
 public:
  explicit PlantedBugs(PlantedBug bug) : bug_(bug) {}

  void Mutate(RegionOptions& options) const;
  // Before the region is to go by it.
  std::shared_ptr<const TenantsPolicy> Mutate(std::shared_ptr<const TenantsPolicy> policy) const;
  // The tenants file was read again.
  void Reload(std::shared_ptr<const TenantsPolicy> policy, Region& region) const;
  void Mutate(std::vector<HeldStream>& streams) const;
  // Before the region hears of them.
  void Mutate(std::vector<SequenceUpdate>& updates, const Region& region) const;
  // After the region said them.
  void Mutate(std::vector<Action>& actions, Region& region);
  // After the region said them: whom it is to go by for a millisecond; null: nobody else.
  std::shared_ptr<const TenantsPolicy> FindRefund(const std::vector<Action>& actions,
                                                  const TenantsPolicy& policy);
  // The epoch that a message of `epoch` is taken for, where its group's successor has `current`.
  uint64_t Mutate(uint64_t epoch, uint64_t current) const {
    return bug_ == PlantedBug::kTakesOldEpochs ? current : epoch;
  }

 private:
  struct Placed {
    uint64_t epoch = 0;
    size_t tokens = 0;
    int groups = 0;
  };
  struct Charged {
    std::string tenant{};
    int64_t unused = 0;
  };

  void LoseTwiceParked(std::vector<Action>& actions, Region& region);
  void Mutate(GuardRules& guard) const;

  const PlantedBug bug_;
  std::map<StreamId, Placed> placed_;
  std::map<StreamId, Charged> charged_;
};

}  // namespace shoal::core::net_sim
