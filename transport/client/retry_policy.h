#pragma once

// When a client that was refused asks again: a pure function of what it heard, a random draw and
// the time that has passed. Standard library only.

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace shoal::client {

// Three are taken from published advice as it stands, so that what they do to a server can be
// measured: they wait without a look at what the server said, and ask again whatever went wrong.
enum class RetryProfile : uint8_t {
  kNone,       // Never.
  kDefault,    // Full jitter above what the server asks for; only where it helps. For all new code.
  kSeed1Text,  // Waits 1 s; 2 to 4 s; 4 to 8 s, each evenly distributed.
  kSeed1Code,  // min(2^n + U(0, 1), 10) s for n = 0, 1; the third failure is the last.
  kSeed2,      // tenacity's stop_after_attempt(5), wait_exponential(multiplier=1, min=4, max=10):
               // 4, 4, 4, 8 s, the same for everybody.
};

struct RetryProfileName {
  RetryProfile profile;
  std::string_view name;
};
constexpr std::array<RetryProfileName, 5> kRetryProfileNames = {{
    {RetryProfile::kNone, "none"},
    {RetryProfile::kDefault, "default"},
    {RetryProfile::kSeed1Text, "seed1_text"},
    {RetryProfile::kSeed1Code, "seed1_code"},
    {RetryProfile::kSeed2, "seed2"},
}};

inline std::string_view ToString(RetryProfile profile) {
  for (const RetryProfileName& known : kRetryProfileNames) {
    if (known.profile == profile) return known.name;
  }
  return "unknown";
}

// None for any other name.
inline std::optional<RetryProfile> ParseRetryProfile(std::string_view name) {
  for (const RetryProfileName& known : kRetryProfileNames) {
    if (known.name == name) return known.profile;
  }
  return std::nullopt;
}

struct RetryOptions {
  RetryProfile profile = RetryProfile::kDefault;
  // What follows is of kDefault alone; the others have numbers of their own, and no end in time.
  int32_t attempts_max = 5;  // The first one included.
  int64_t base_ms = 1'000;   // The jitter's window after the first attempt; then twice that, ...
  int64_t window_max_ms = 10'000;
  int64_t total_ms = 60'000;  // From the first attempt on; no attempt begins later.
};

// How an attempt failed.
struct Failure {
  int32_t status = 0;              // HTTP's. 0: no answer came, the connection was refused or lost.
  std::string code{};              // As in the error's body, such as "queue_full".
  int64_t retry_after_ms = -1;     // As the server said; 0: it says that asking again is of no use.
                                   // -1: it said nothing.
  int64_t predicted_wait_ms = -1;  // Until the first token, as the server said. -1: it did not.
  bool begun = false;              // Something of the answer has been handed on.
  bool timed_out = false;          // The client lost its patience; the server may be at work still.
};

// No server's word makes a client wait longer.
constexpr int64_t kWaitMsMax = 7 * 24 * 3'600'000LL;

// Where a request stands.
struct RetryState {
  int32_t attempt = 1;      // The one that failed: 1 for the first.
  int64_t elapsed_ms = 0;   // Since the first one began.
  int64_t deadline_ms = 0;  // Of the request itself, from the first attempt on. 0: none.
};

enum class GiveUp : uint8_t {
  kNone,      // It is asked again.
  kFinal,     // Another attempt would end like this one, or is not safe.
  kAttempts,  // There were as many as there may be.
  kDeadline,  // The next one could not end, or not begin, in time.
  kBudget,    // The client asks again too often already (retry_guard.h).
};

inline std::string_view ToString(GiveUp reason) {
  constexpr std::array<std::string_view, 5> kNames = {"none", "final", "attempts", "deadline",
                                                      "budget"};
  return kNames[static_cast<size_t>(reason)];
}

struct RetryDecision {
  GiveUp give_up = GiveUp::kNone;
  int64_t wait_ms = 0;  // Before the next attempt, if there is one.

  bool operator==(const RetryDecision&) const = default;
};

// Whether asking again is safe and may help: nothing of the answer was heard, and the server was
// busy, or stopped, or is not there, rather than unable.
inline bool IsRetriable(const Failure& failure) {
  if (failure.begun || failure.timed_out || failure.retry_after_ms == 0) return false;
  for (const std::string_view final :
       {"deadline_exceeded", "refused", "numeric_error", "request_suspect", "stream_taken"}) {
    if (failure.code == final) return false;
  }
  for (const int32_t status : {0, 408, 429, 500, 502, 503, 504}) {
    if (failure.status == status) return true;
  }
  return false;
}

// The wait after that attempt by the articles' profiles; none after the last.
inline std::optional<int64_t> SeedWaitMs(RetryProfile profile, int32_t attempt, double draw) {
  const auto within = [draw](int64_t from, int64_t to) {
    return from + static_cast<int64_t>(draw * static_cast<double>(to - from));
  };
  const int64_t power_ms = int64_t{1'000} << std::min(attempt - 1, 10);
  switch (profile) {
    case RetryProfile::kSeed1Text:
      if (attempt > 3) return std::nullopt;
      return attempt == 1 ? 1'000 : within(power_ms, 2 * power_ms);
    case RetryProfile::kSeed1Code:
      if (attempt > 2) return std::nullopt;
      return std::min<int64_t>(within(power_ms, power_ms + 1'000), 10'000);
    case RetryProfile::kSeed2:
      if (attempt > 4) return std::nullopt;
      return std::clamp<int64_t>(power_ms, 4'000, 10'000);
    case RetryProfile::kNone:
    case RetryProfile::kDefault:
      break;
  }
  return std::nullopt;
}

// The window that the default's jitter is drawn from after that attempt.
inline int64_t JitterWindowMs(const RetryOptions& options, int32_t attempt) {
  int64_t window_ms = std::max<int64_t>(1, options.base_ms);
  for (int32_t i = 1; i < attempt && window_ms < options.window_max_ms; ++i) window_ms *= 2;
  return std::min(window_ms, std::max<int64_t>(1, options.window_max_ms));
}

// `draw`: evenly distributed from 0 up to, and without, 1.
inline RetryDecision DecideRetry(const RetryOptions& options, const RetryState& state,
                                 const Failure& failure, double draw) {
  RetryDecision decision;
  int64_t total_ms = state.deadline_ms > 0 ? state.deadline_ms : INT64_MAX;
  if (options.profile == RetryProfile::kDefault) {
    if (!IsRetriable(failure)) return {GiveUp::kFinal};
    if (state.attempt >= options.attempts_max) return {GiveUp::kAttempts};
    total_ms = std::min(total_ms, options.total_ms);
    // Above what the server asks for, never cut off at it: all who were told the same time would
    // come back at once.
    const int64_t floor_ms =
        std::clamp<int64_t>(failure.retry_after_ms, 0, std::min(total_ms, kWaitMsMax));
    const auto window_ms = static_cast<double>(JitterWindowMs(options, state.attempt));
    decision.wait_ms = floor_ms + static_cast<int64_t>(draw * window_ms);
    const bool hopeless =
        state.deadline_ms > 0 && failure.predicted_wait_ms >= state.deadline_ms - state.elapsed_ms;
    if (hopeless) return {GiveUp::kDeadline};
  } else {
    if (failure.begun) return {GiveUp::kFinal};
    const std::optional<int64_t> wait_ms = SeedWaitMs(options.profile, state.attempt, draw);
    if (!wait_ms) return {GiveUp::kAttempts};
    decision.wait_ms = *wait_ms;
  }
  if (decision.wait_ms >= total_ms - state.elapsed_ms) return {GiveUp::kDeadline};
  return decision;
}

}  // namespace shoal::client
