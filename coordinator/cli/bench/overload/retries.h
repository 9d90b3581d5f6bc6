#pragma once

// When a client whose request was refused asks again. Pure.

#include <array>
#include <cstdint>
#include <optional>

#include "coordinator/cli/bench/overload/traffic.h"
#include "transport/base/clock.h"

namespace shoal::cli {

struct RetryQuestion {
  TrafficTenant tenant = TrafficTenant::kNormal;
  bool angry = false;
  int32_t attempts = 1;         // So far.
  int64_t retry_after_ms = -1;  // As the server said; -1: it did not.
  TimeNs now = 0;
  TimeNs deadline = 0;  // Of the whole request.
};

// What all clients together may do. A patient client waits at least as long as the server says, and
// by full jitter for up to 100 ms, then 200 ms; it asks three times at most, and not when it would
// be too late. All patient clients of a tenant together repeat a tenth of their requests at most:
// who finds nothing left of that gives up. An angry client asks again at once, until its deadline.
class RetryRules {
 public:
  // `patient`: false makes every client angry.
  RetryRules(bool patient, uint64_t seed) : patient_(patient), numbers_(seed) {}

  // A request's first attempt: what may be repeated grows by a tenth.
  void Begin(TrafficTenant tenant);
  // When to ask again; nothing: not at all.
  std::optional<TimeNs> Next(const RetryQuestion& question);

 private:
  bool patient_;
  UniformNumbers numbers_;
  std::array<double, kTrafficTenants> budget_{};  // Retries that are left.
};

}  // namespace shoal::cli
