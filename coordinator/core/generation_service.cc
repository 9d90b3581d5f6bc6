#include "coordinator/core/generation_service.h"

namespace shoal::core {

std::string_view ToString(BusyReason reason) {
  switch (reason) {
    case BusyReason::kNone:
      return "";
    case BusyReason::kQueueFull:
      return "queue_full";
    case BusyReason::kNoGroup:
      return "no_group";
    case BusyReason::kGroupLost:
      return "group_lost";
    case BusyReason::kTooLarge:
      return "too_large";
    case BusyReason::kDraining:
      return "draining";
  }
  return "unknown";
}

}  // namespace shoal::core
