// A herd on a virtual clock: a thousand clients that begin at the same moment, before a server of
// fixed capacity and a bounded queue, with waits that are the same for all and with jitter.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <iostream>
#include <map>
#include <queue>
#include <random>
#include <tuple>
#include <vector>

#include "transport/client/retry_policy.h"

namespace shoal::client {
namespace {

constexpr int kClients = 1'000;

struct HerdServer {
  int64_t service_ms = 10;         // Of one request; it does one at a time.
  int64_t queue_ms_max = 1'000;    // One that would wait longer is refused,
  int64_t retry_after_ms = 1'000;  // with this.
};

struct HerdResult {
  int attempts = 0;
  int served = 0;
  int64_t drained_ms = 0;  // The last one that is served.
  // Of the arrivals in tenths of a second after the first one.
  int peak = 0;
  double peak_to_mean = 0;

  double amplification() const { return static_cast<double>(attempts) / kClients; }
};

class Herd {
 public:
  Herd(const HerdServer& server, const RetryOptions& options, uint64_t seed)
      : server_(server), options_(options), random_(seed) {}

  HerdResult Run() {
    for (int client = 0; client < kClients; ++client) due_.emplace(0, client, 1);
    while (!due_.empty()) {
      const auto [now_ms, client, attempt] = due_.top();
      due_.pop();
      ++result_.attempts;
      if (now_ms >= kSliceMs) ++arrivals_[now_ms / kSliceMs];
      if (Serve(now_ms)) continue;
      const Failure busy{
          .status = 503, .code = "queue_full", .retry_after_ms = server_.retry_after_ms};
      const RetryDecision decision =
          DecideRetry(options_, {.attempt = attempt, .elapsed_ms = now_ms}, busy, draw_(random_));
      if (decision.give_up == GiveUp::kNone) {
        due_.emplace(now_ms + decision.wait_ms, client, attempt + 1);
      }
    }
    CountArrivals();
    return result_;
  }

 private:
  static constexpr int64_t kSliceMs = 100;

  bool Serve(int64_t now_ms) {
    free_ms_ = std::max(free_ms_, now_ms);
    if (free_ms_ - now_ms >= server_.queue_ms_max) return false;
    free_ms_ += server_.service_ms;
    result_.drained_ms = free_ms_;
    ++result_.served;
    return true;
  }
  void CountArrivals() {
    int sum = 0;
    for (const auto& [slice, count] : arrivals_) {
      result_.peak = std::max(result_.peak, count);
      sum += count;
    }
    const int64_t slices = arrivals_.rbegin()->first - arrivals_.begin()->first + 1;
    result_.peak_to_mean = static_cast<double>(result_.peak * slices) / sum;
  }

  const HerdServer server_;
  const RetryOptions options_;
  std::mt19937_64 random_;
  std::uniform_real_distribution<double> draw_{0, 1};
  using Due = std::tuple<int64_t, int, int32_t>;  // Time, client, attempt.
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;
  std::map<int64_t, int> arrivals_;
  int64_t free_ms_ = 0;
  HerdResult result_;
};

void Print(const char* server, const char* profile, const HerdResult& result) {
  std::cout << server << " " << profile << ": served " << result.served << ", attempts per request "
            << result.amplification() << ", peak/mean arrivals " << result.peak_to_mean
            << ", drained after " << result.drained_ms << " ms\n";
}

TEST(Herd, WithoutJitterComesBackAsAHerdAndIsTurnedAwayAgain) {
  // A hundred a second: the herd is ten seconds of work, and a second of it finds room at a time.
  const HerdServer server;
  const HerdResult seed2 = Herd(server, {.profile = RetryProfile::kSeed2}, 1).Run();
  Print("100/s", "seed2", seed2);
  EXPECT_EQ(seed2.served, 500) << "a queue's worth at each of five moments";
  EXPECT_EQ(seed2.attempts, 1'000 + 900 + 800 + 700 + 600);
  EXPECT_GT(seed2.peak_to_mean, 40);
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const HerdResult jittered = Herd(server, {}, seed).Run();
    if (seed == 1) Print("100/s", "default", jittered);
    EXPECT_GT(jittered.served, 950) << seed;
    EXPECT_LT(jittered.peak_to_mean, seed2.peak_to_mean / 4) << seed;
    EXPECT_LT(jittered.amplification(), 0.9 * seed2.amplification()) << seed;
  }
}

TEST(Herd, DrainsSoonerWithJitterWhereAllAreServedInTheEnd) {
  const HerdServer server{.service_ms = 2, .queue_ms_max = 800};  // 500 a second.
  const HerdResult seed2 = Herd(server, {.profile = RetryProfile::kSeed2}, 1).Run();
  Print("500/s", "seed2", seed2);
  EXPECT_EQ(seed2.served, kClients);
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const HerdResult jittered = Herd(server, {}, seed).Run();
    if (seed == 1) Print("500/s", "default", jittered);
    EXPECT_EQ(jittered.served, kClients) << seed;
    EXPECT_LT(jittered.drained_ms, seed2.drained_ms / 2) << seed;
    EXPECT_LT(jittered.peak_to_mean, seed2.peak_to_mean / 4) << seed;
  }
}

// What holds the herd apart is the jitter above the server's word, not the word.
TEST(Herd, ThatHearsRetryAfterAloneStaysAHerd) {
  const HerdServer server;
  const HerdResult together = Herd(server, {.base_ms = 1, .window_max_ms = 1}, 1).Run();
  Print("100/s", "Retry-After alone", together);
  const HerdResult apart = Herd(server, {}, 1).Run();
  EXPECT_EQ(together.peak, 900) << "all who were refused";
  EXPECT_LT(apart.peak, 200);
  EXPECT_LT(together.served, apart.served / 3 * 2);
}

}  // namespace
}  // namespace shoal::client
