#pragma once

// A bound on work in the long run that lets a burst through, and one that lets none.

#include <cstdint>
#include <optional>

#include "transport/base/clock.h"

namespace shoal::core {

__extension__ using Int128 = __int128;

// Tokens a second, as whole millionths. Rates are at most this, so that no sum below overflows.
constexpr double kTokensPerSecondMax = 1e9;
constexpr double kBurstTokensMax = 1e12;

// What has been taken since a start, less what was given back, is at most the burst and the rate
// times the time since then, whatever the order. Exact: levels are whole 1e-15ths of a token, the
// work of one nanosecond at the lowest rate, so that nothing is lost or gained by rounding.
class TokenBucket {
 public:
  // Full. `tokens_per_second` above 0; `burst_tokens` 0: one second's work, and at least 1.
  TokenBucket(double tokens_per_second, double burst_tokens, TimeNs now);

  // From now on that rate and burst. What it holds stays, as far as it fits.
  void Configure(double tokens_per_second, double burst_tokens, TimeNs now);
  // Result: false, and nothing is taken, if it does not hold so many now.
  bool Take(int64_t tokens, TimeNs now);
  // What was taken before and not used.
  void GiveBack(int64_t tokens, TimeNs now);
  // The least whole milliseconds until it will hold so many, if nobody takes any before. None: it
  // never will, that is more than its burst.
  std::optional<int64_t> WaitMs(int64_t tokens, TimeNs now) const;
  int64_t burst_tokens() const;

 private:
  // What it holds at `now`, which may be before its last use: then nothing has been added.
  Int128 LevelAt(TimeNs now) const;

  int64_t rate_ = 0;  // Millionths of a token a second: 1e-15ths a nanosecond.
  Int128 burst_ = 0;
  Int128 level_ = 0;
  TimeNs time_ = 0;  // At which it held level_.
};

// The Generic Cell Rate Algorithm (ITU-T I.371, annex A; virtual scheduling) on tokens of work: in
// the long run the rate, however they come.
class Gcra {
 public:
  // Whether work may go on now: it is on time, or early by no more than what `slack_ns` allows.
  bool Conforms(TimeNs now, TimeNs slack_ns) const { return next_ - slack_ns <= now; }
  // So much goes on now. `tokens_per_second` above 0.
  void Take(int64_t tokens, double tokens_per_second, TimeNs now);

 private:
  TimeNs next_ = 0;  // When the next is due.
};

}  // namespace shoal::core
