#pragma once

// Why a request was not served: not what it was told, but what was short.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "coordinator/core/record/record.h"

namespace shoal::core {

enum class Cause : uint8_t {
  kOwnQuota,  // Its tenant asked for more than its quota.
  kPool,      // A bounded pool was full: the queue, the KV cache.
  kCompute,   // The groups were there and could not keep up.
  kLoss,      // A process or a connection was lost.
  kStopping,  // Somebody stopped it on purpose.
  kRequest,   // The request itself was wrong.
  kUnknown,
};
constexpr int kCauses = static_cast<int>(Cause::kUnknown) + 1;
// "own_quota", "pool_exhausted", "compute_short", "network_or_process_lost", "stopping",
// "request_wrong", "unknown".
std::string_view ToString(Cause cause);

struct CauseFound {
  Cause cause = Cause::kUnknown;
  std::string because{};  // The evidence, one line.
};

// Reads records in their order, those of all requests and groups.
class CauseFinder {
 public:
  // None for a record that is not of a request that was refused, failed or expired.
  std::optional<CauseFound> Next(const Record& record);

 private:
  void Follow(const Record& record);
  CauseFound FindLoss(BusyReason reason) const;
  CauseFound FindOverload(const Record& record) const;
  CauseFound FindBreaker(const Record& record) const;

  std::map<uint64_t, TimeNs> away_;  // Groups lost or ejected, since when.
  std::set<uint64_t> drained_;       // Groups that left because they were asked to.
  std::optional<TimeNs> back_;       // When the last of them was back.
  // By what a breaker measured that opened: a group that was away then.
  std::map<std::string, std::optional<uint64_t>> open_;
};

}  // namespace shoal::core
