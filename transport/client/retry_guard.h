#pragma once

// What keeps a client's requests, taken together, from making an overload worse: it sends fewer
// where most are refused, and asks again for at most a fifth of them. Standard library only.

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <random>
#include <utility>

#include "transport/client/retry_policy.h"

namespace shoal::client {

// As "Client-Side Throttling" in Google's "Handling Overload" (Site Reliability Engineering,
// chapter 21): of the requests in the last two minutes, those are refused without asking the server
// that go beyond `k` times what it accepted.
struct ThrottleOptions {
  double k = 2;
  int64_t window_ms = 120'000;
  int64_t requests_min = 10;  // Of fewer in the window none is refused: one refusal says little.
};

class AdaptiveThrottle {
 public:
  explicit AdaptiveThrottle(const ThrottleOptions& options = {}) : options_(options) {}

  // max(0, (requests - k accepts) / (requests + 1)).
  double RefusalProbability(int64_t now_ms) {
    Forget(now_ms);
    int64_t requests = 0;
    int64_t accepts = 0;
    for (const Slice& slice : slices_) {
      requests += slice.requests;
      accepts += slice.accepts;
    }
    if (requests < options_.requests_min) return 0;
    const double beyond = static_cast<double>(requests) - options_.k * static_cast<double>(accepts);
    return std::max(0.0, beyond / static_cast<double>(requests + 1));
  }
  // Of a request that is about to be sent; counts it. `draw`: as in DecideRetry.
  bool Allow(int64_t now_ms, double draw) {
    const double refusal = RefusalProbability(now_ms);
    ++At(now_ms).requests;
    return draw >= refusal;
  }
  // The server took a request, whatever became of it.
  void OnAccepted(int64_t now_ms) {
    Forget(now_ms);
    ++At(now_ms).accepts;
  }

 private:
  static constexpr int64_t kSlices = 12;
  struct Slice {
    int64_t number = -1;  // Of the slice of time that it counts; -1: of none.
    int64_t requests = 0;
    int64_t accepts = 0;
  };

  int64_t Number(int64_t now_ms) const {
    return now_ms / std::max<int64_t>(1, options_.window_ms / kSlices);
  }
  Slice& At(int64_t now_ms) {
    Slice& slice = slices_[static_cast<size_t>(Number(now_ms) % kSlices)];
    slice.number = Number(now_ms);
    return slice;
  }
  void Forget(int64_t now_ms) {
    for (Slice& slice : slices_) {
      if (slice.number <= Number(now_ms) - kSlices) slice = {};
    }
  }

  const ThrottleOptions options_;
  std::array<Slice, kSlices> slices_{};
};

// At most `reserve` attempts more than `ratio` for each request.
struct RetryBudgetOptions {
  double ratio = 0.2;
  double reserve = 10;     // So that a client with few requests may ask again at all.
  double saved_max = 100;  // However many requests went well before.
};

class RetryBudget {
 public:
  explicit RetryBudget(const RetryBudgetOptions& options = {})
      : options_(options), left_(options.reserve) {}

  void OnRequest() { left_ = std::min(left_ + options_.ratio, options_.saved_max); }
  // Result: false if there is nothing left for one more attempt.
  bool Take() {
    if (left_ < 1) return false;
    left_ -= 1;
    return true;
  }

 private:
  const RetryBudgetOptions options_;
  double left_;
};

// Of one client, for all of its requests. The articles' profiles know neither throttle nor budget.
// Thread-safe.
class RetryGuard {
 public:
  // `draw`: from 0 up to, and without, 1; null: random numbers of its own. Called under a lock.
  explicit RetryGuard(RetryOptions options, std::function<double()> draw = nullptr)
      : options_(options), draw_(std::move(draw)), random_(std::random_device()()) {}

  const RetryOptions& options() const { return options_; }

  // Before an attempt; result: whether it may be sent. If not, it has failed with Throttled().
  bool MaySend(int32_t attempt, int64_t now_ms) {
    const std::lock_guard lock(mutex_);
    if (options_.profile != RetryProfile::kDefault) return true;
    if (attempt == 1) budget_.OnRequest();
    return throttle_.Allow(now_ms, Draw());
  }
  // The server answered something else than that it is busy.
  void OnAccepted(int64_t now_ms) {
    const std::lock_guard lock(mutex_);
    throttle_.OnAccepted(now_ms);
  }
  RetryDecision OnFailure(const RetryState& state, const Failure& failure) {
    const std::lock_guard lock(mutex_);
    RetryDecision decision = DecideRetry(options_, state, failure, Draw());
    const bool asks_again = decision.give_up == GiveUp::kNone;
    if (!asks_again || options_.profile != RetryProfile::kDefault) return decision;
    if (!budget_.Take()) return {GiveUp::kBudget};
    return decision;
  }

  static Failure Throttled() { return {.status = 503, .code = "client_throttled"}; }
  // Whether a failure says that the server, or whoever stands before it, had no room.
  static bool IsBusy(const Failure& failure) {
    return failure.status == 0 || failure.status == 429 || failure.status == 503;
  }

 private:
  double Draw() {
    if (draw_) return draw_();
    return std::uniform_real_distribution<double>(0, 1)(random_);
  }

  const RetryOptions options_;
  std::mutex mutex_;  // Guards what follows.
  const std::function<double()> draw_;
  std::mt19937_64 random_;
  AdaptiveThrottle throttle_;
  RetryBudget budget_;
};

}  // namespace shoal::client
