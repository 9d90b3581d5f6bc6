#pragma once

// One thing that a region decided or saw, with the figures that it was decided by.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "transport/base/clock.h"
#include "transport/base/generation/stream_error.h"
#include "transport/base/generation/stream_id.h"
#include "transport/base/overload/service_class.h"

namespace shoal {

enum class RecordKind : uint8_t {
  // Of a request:
  kAdmitted,
  kRejected,
  kJoined,  // It gets the answer of another one that asks the same.
  kPlaced,  // A group was given it.
  kFirstToken,
  kPreempted,  // Its group took its place for another one, and computes it again.
  kParked,     // Its group was lost; or is to be empty (reason draining).
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

// "admitted", "rejected", ..., "policy_refused", "panic_began", "panic_ended".
std::string_view ToString(RecordKind kind);
// None for any other name.
std::optional<RecordKind> ParseRecordKind(std::string_view name);

// A number that a decision was made by.
struct RecordFigure {
  std::string name{};  // "tokens_queued"
  double value = 0;
  std::string source{};  // Where it comes from: "group 1's report", "tenants.yaml:4".

  bool operator==(const RecordFigure&) const = default;
};

struct Record {
  uint64_t number = 0;  // Set by the recorder: 1 for its first, then one more each.
  TimeNs time = 0;      // Likewise.
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

struct RecordQuery {
  std::string request{};  // RequestTerms::name, or the id of a stream or an answer. Empty: all.
  // Of that tenant's requests ("": the default one's), and of what every tenant may know: groups,
  // breakers, the ladder. None: of everybody, and what policy files were read as well.
  std::optional<std::string> tenant{};
  int64_t since_ms = 0;  // Not older than that. 0: all.
  uint64_t after = 0;    // Only those with a higher number.
  size_t records_max = 2'000;
};

// What a recorder answers. All that it has comes in several pages: ask again, `after` the last one.
struct RecordPage {
  std::vector<Record> records{};  // The latest last.
  bool more = false;
  int64_t now_unix_ms = 0;
  int64_t oldest_unix_ms = 0;  // Of the oldest record that is remembered; now if there is none.
  uint64_t forgotten = 0;      // Records that had to go for newer ones.

  bool operator==(const RecordPage&) const = default;
};

}  // namespace shoal
