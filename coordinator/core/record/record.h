#pragma once

// One thing that a region decided or saw, with the figures that it was decided by.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "transport/base/clock.h"
#include "transport/base/generation/stream_error.h"
#include "transport/base/generation/stream_id.h"
#include "transport/base/overload/service_class.h"

namespace shoal::core {

enum class RecordKind : uint8_t {
  // Of a request:
  kAdmitted,
  kRejected,
  kJoined,  // It gets the answer of another one that asks the same.
  kPlaced,  // A group was given it.
  kFirstToken,
  kPreempted,  // Its group took its place for another one.
  kParked,     // Its group was lost.
  kDegraded,   // A lower rung of the ladder answers it.
  kExpired,    // Its deadline is over.
  kFinished,
  kFailed,
  kCancelled,
  // Of a group:
  kGroupReady,
  kGroupLost,
  kEjected,
  kReturned,
  kDrained,
  // Of the region:
  kBreakerOpened,
  kBreakerProbed,
  kBreakerClosed,
  kRungChanged,
  kPolicyLoaded,
  kPolicyRefused,
  kPanicBegan,  // Too many groups fail to leave them out.
  kPanicEnded,
};
constexpr int kRecordKinds = static_cast<int>(RecordKind::kPanicEnded) + 1;

// "admitted", "rejected", ..., "policy_refused", "panic_began",
// "panic_ended".
std::string_view ToString(RecordKind kind);

// A number that a decision was made by.
struct RecordFigure {
  std::string name{};  // "tokens_queued"
  double value = 0;
  std::string source{};  // Where it comes from: "group 1's report", "tenants.yaml:4".

  bool operator==(const RecordFigure&) const = default;
};

struct Record {
  TimeNs time = 0;      // Set by the recorder.
  int64_t unix_ms = 0;  // Likewise; milliseconds since 1970.
  RecordKind kind = RecordKind::kAdmitted;
  StreamId stream{};      // Zero: of no stream.
  std::string request{};  // RequestTerms::name.
  std::string tenant{};
  std::optional<ServiceClass> service_class{};
  std::optional<uint64_t> group{};
  std::optional<BusyReason> reason{};
  std::string detail{};  // For people, one line.
  std::vector<RecordFigure> figures{};

  bool operator==(const Record&) const = default;
};

}  // namespace shoal::core
