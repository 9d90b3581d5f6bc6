#pragma once

// What answers instead when a model cannot: what a ladder file says of its rungs.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "transport/base/generation/stream_error.h"
#include "transport/base/overload/service_class.h"

namespace shoal::core {

enum class RungKind : uint8_t {
  kModel,      // Groups of another model.
  kCache,      // What was answered to the very same request before.
  kRules,      // Patterns with answers.
  kKnowledge,  // The best paragraph of a folder of texts.
};

// "model", "cache", "rules", "knowledge".
std::string_view ToString(RungKind kind);

// Plain data.
struct Rung {
  std::string name{};  // What clients read as model_used; no other rung has it.
  RungKind kind = RungKind::kModel;
  double quality = 0;  // In [0, 1], as the file declares it; the model itself is 1.
  double cost = 0;     // Of an answer, likewise; the model itself is 1.

  bool operator==(const Rung&) const = default;
};

// Of an empty one nothing is ever degraded.
struct LadderPolicy {
  std::vector<Rung> rungs{};  // Rung n of an answer is rungs[n - 1]; 0 is the model itself.
  // By ServiceClass: no rung of less quality answers a request of that class.
  std::array<double, kServiceClasses> quality_floors{};
  // Refusals that make a lower rung answer.
  std::vector<BusyReason> reasons{BusyReason::kNoGroup,     BusyReason::kQueueFull,
                                  BusyReason::kBreakerOpen, BusyReason::kKvFull,
                                  BusyReason::kGroupLost,   BusyReason::kDeadlineUnreachable};
  // So many of them within that time, and requests begin a rung lower.
  int32_t refusals = 5;
  int64_t within_ms = 10'000;
  // The way down is not taken back, nor the way up, before so much time has passed.
  int64_t hold_ms = 60'000;

  bool operator==(const LadderPolicy&) const = default;
};

}  // namespace shoal::core
