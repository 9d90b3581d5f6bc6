#include "coordinator/core/generation_service.h"

#include <algorithm>
#include <iomanip>
#include <sstream>
#include <utility>

namespace shoal::core {
namespace {

// When a client may come back after a refusal: about what a step, respectively a group's start,
// takes.
constexpr int64_t kRetryAfterBusyMs = 1'000;
constexpr int64_t kRetryAfterNoGroupMs = 5'000;

int64_t RetryAfterMs(BusyReason reason) {
  switch (reason) {
    case BusyReason::kQueueFull:
    case BusyReason::kGroupLost:
      return kRetryAfterBusyMs;
    case BusyReason::kNoGroup:
    case BusyReason::kDraining:
      return kRetryAfterNoGroupMs;
    case BusyReason::kTooLarge:
    case BusyReason::kRefused:
      return 0;
  }
  return 0;
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const StreamId& id) {
  std::ostringstream digits;
  digits << std::hex << std::setfill('0') << std::setw(16) << id.high << std::setw(16) << id.low;
  return out << digits.str();
}

std::string_view ToString(BusyReason reason) {
  switch (reason) {
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
    case BusyReason::kRefused:
      return "refused";
  }
  return "unknown";
}

StreamError MakeStreamError(BusyReason reason, std::string message) {
  return {reason, std::move(message), RetryAfterMs(reason)};
}

const ServedModel* FindModel(const std::vector<ServedModel>& models, const std::string& name) {
  if (name.empty()) return &models.front();
  const auto model = std::ranges::find(models, name, &ServedModel::name);
  return model == models.end() ? nullptr : &*model;
}

std::string JoinNames(const std::vector<ServedModel>& models) {
  std::string names;
  const std::string* last = nullptr;  // Versions of one name stand side by side.
  for (const ServedModel& model : models) {
    if (last == nullptr || *last != model.name) names += (last == nullptr ? "" : ", ") + model.name;
    last = &model.name;
  }
  return names;
}

}  // namespace shoal::core
