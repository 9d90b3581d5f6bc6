#pragma once

// A fault that a rank commits on purpose: a switch for tests of what finds it, and of what then
// happens to the group. The variable SHOAL_PLANT_FAULT of a rank's environment; unset in service.

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "parallel/plan/plan.h"

namespace shoal::forward {

enum class FaultKind : uint8_t {
  kWrongSum,     // One bit of a sum is another one on this rank, after the ranks have added it up.
  kExit,         // The process ends, with status 9.
  kHang,         // The step never ends; threads beside it go on.
  kOutOfMemory,  // std::bad_alloc.
};

// "wrong-sum:rank=1,step=20", "exit:rank=0,step=1,once=/tmp/struck", ...
struct PlantedFault {
  FaultKind kind = FaultKind::kWrongSum;
  int32_t rank = 0;   // In the group.
  uint64_t step = 0;  // The first step that has rows and a number not below this one is struck.
  // Of the model, for kWrongSum; none: this rank's first. The first sum of it from that step on: a
  // step that only reads a prompt has none in the model's last layer.
  std::optional<int64_t> layer;
  // Strikes only if this file does not exist, and makes it: a group that is started again, with
  // the same environment, is then spared. Empty: every group is struck.
  std::string once;

  bool operator==(const PlantedFault&) const = default;
};

// Errors: kInvalidArgument, quoting the text and what is wrong with it.
PlantedFault ParsePlantedFault(std::string_view text);

// Of SHOAL_PLANT_FAULT; none if it is unset or empty. Errors: as above.
std::optional<PlantedFault> PlantedFaultOfEnvironment();

// Threading: OnStep from one thread; TakesSum from any.
class FaultSwitch {
 public:
  // `shards`: of all ranks. Errors: kInvalidArgument, on every rank, if there is no such rank or it
  // has no such layer.
  FaultSwitch(const std::optional<PlantedFault>& fault, std::span<const plan::RankShard> shards,
              int32_t rank);

  // At the beginning of a step that has rows. Commits the fault if it is time, or arms TakesSum.
  void OnStep(uint64_t step) {
    if (fault_ && step >= fault_->step) [[unlikely]]
      Strike();
  }
  // True once, for the first sum of the layer after that.
  bool TakesSum(int64_t layer) {
    if (armed_layer_.load(std::memory_order_relaxed) != layer) [[likely]]
      return false;
    return armed_layer_.exchange(kNoLayer) == layer;
  }

 private:
  static constexpr int64_t kNoLayer = -1;

  void Strike();

  std::optional<PlantedFault> fault_;  // Of this rank, that has not struck.
  int64_t layer_ = kNoLayer;
  std::atomic<int64_t> armed_layer_{kNoLayer};
};

}  // namespace shoal::forward
