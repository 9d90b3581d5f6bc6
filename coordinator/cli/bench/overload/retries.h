#pragma once

// When a client whose request was refused asks again. Pure.

#include <array>
#include <cstdint>
#include <optional>

#include "coordinator/cli/bench/overload/traffic.h"
#include "transport/base/clock.h"
#include "transport/client/retry_guard.h"

namespace shoal::cli {

struct RetryQuestion {
  TrafficTenant tenant = TrafficTenant::kNormal;
  bool angry = false;
  int32_t attempts = 1;         // So far.
  int64_t retry_after_ms = -1;  // As client::Failure has it.
  TimeNs now = 0;
  TimeNs deadline = 0;  // Of the whole request.
};

// What all clients together may do. A patient client asks again as the library's do
// (client::DecideRetry), with jitter of up to 100 ms, then 200 ms, and three times at most. All
// patient clients of a tenant together repeat a tenth of their requests at most: who finds nothing
// left of that gives up. An angry client asks again at once, until its deadline.
class RetryRules {
 public:
  // `patient`: false makes every client angry.
  RetryRules(bool patient, uint64_t seed) : patient_(patient), numbers_(seed) {}

  // A request's first attempt: what may be repeated grows by a tenth.
  void Begin(TrafficTenant tenant) { budgets_[static_cast<size_t>(tenant)].OnRequest(); }
  // When to ask again; nothing: not at all.
  std::optional<TimeNs> Next(const RetryQuestion& question);

 private:
  bool patient_;
  UniformNumbers numbers_;
  static client::RetryBudget MakeBudget() {
    return client::RetryBudget({.ratio = 0.1, .reserve = 0, .saved_max = 10});
  }
  std::array<client::RetryBudget, kTrafficTenants> budgets_ = {MakeBudget(), MakeBudget(),
                                                               MakeBudget()};
};

}  // namespace shoal::cli
