// Random runs: whatever arrives, is cancelled or runs out of blocks, every stream is the one that
// its request gives alone; also one that goes on where another group stopped, from any token.

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <random>

#include "tests/worker/engine/schedule/fake_group.h"
#include "transport/base/check.h"
#include "worker/engine/schedule/scheduler.h"

namespace shoal::engine {
namespace {

struct Request {
  std::vector<int32_t> prompt;
  GenerationParams params;
  size_t brought = 0;  // Tokens of its answer that it came with.
  bool prompt_logprobs_given = false;
  Stream received;
  int64_t cached_tokens = 0;
  bool cancelled = false;
};

// One random run. The seed decides everything.
class RandomRun {
 public:
  explicit RandomRun(uint64_t seed)
      : random_(seed), options_(RandomOptions()), scheduler_(options_), group_(options_) {}

  void Play() {
    for (int event = 0; event < 400; ++event) {
      const int64_t choice = Draw(10);
      if (choice < 3) {
        SubmitOne();
      } else if (choice == 3) {
        CancelOne();
      } else if (choice < 7) {
        Plan();
      } else {
        Deliver();
      }
      CheckInvariants();
      if (::testing::Test::HasFailure()) return;
    }
    for (int64_t left = 200000; !scheduler_.idle() && left > 0; --left) {
      Plan();
      Deliver();
      CheckInvariants();
      if (::testing::Test::HasFailure()) return;
    }
    ASSERT_TRUE(scheduler_.idle()) << "requests are left that never end";
    CheckEnd();
  }

  SchedulerStats stats() const { return scheduler_.stats(); }
  int64_t finished() const { return finished_; }
  // Tokens that requests came with, whose streams then ended by themselves.
  int64_t continued_tokens() const {
    int64_t count = 0;
    for (const auto& [id, request] : requests_) {
      if (request.received.finish == FinishReason::kCancelled) continue;
      count += static_cast<int64_t>(request.brought);
    }
    return count;
  }

 private:
  int64_t Draw(int64_t bound) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(bound));
  }

  SchedulerOptions RandomOptions() {
    SchedulerOptions options;
    options.sequences_max = static_cast<int32_t>(1 + Draw(8));
    options.requests_waiting_max = static_cast<int32_t>(Draw(20));
    options.prefill_chunk_tokens = 1 + Draw(Draw(2) == 0 ? 8 : 100);
    options.kv_block_count = 1 + Draw(14);
    options.context_tokens = 40 + Draw(150);
    options.steps_in_flight_max = static_cast<int32_t>(1 + Draw(4));
    options.prefix_cache = Draw(4) != 0;
    options.speculation_tokens_max = static_cast<int32_t>(std::max<int64_t>(0, Draw(12) - 3));
    if (Draw(3) == 0) options.batch_policy = BatchPolicy::kThreshold;
    options.batch_queue_min = static_cast<int32_t>(Draw(12));
    return options;
  }

  void SubmitOne() {
    Request request;
    const int64_t length = 1 + Draw(Draw(3) == 0 ? 120 : 20);
    // Some begin as others do, some go on as another one's answer did.
    const auto base = static_cast<int32_t>(Draw(3));
    const int64_t shared = Draw(2) == 0 ? Draw(length + 1) : 0;
    for (int32_t i = 0; i < length; ++i) {
      request.prompt.push_back(i < shared ? base + 3 * i : static_cast<int32_t>(Draw(500)));
    }
    if (Draw(4) == 0 && !requests_.empty()) {
      const Request& earlier = std::prev(requests_.end())->second;
      request.prompt = earlier.prompt;
      request.prompt.insert(request.prompt.end(), earlier.received.tokens.begin(),
                            earlier.received.tokens.end());
    }
    GenerationParams& params = request.params;
    params.sampling.seed = random_();
    params.tokens_max = 1 + Draw(60);
    params.prompt_logprobs = Draw(4) == 0;
    params.priority = static_cast<int32_t>(Draw(4)) % 3;
    params.cache_salt = std::string(static_cast<size_t>(Draw(4) / 3), 's');
    if (params.prompt_logprobs && Draw(3) == 0) params.tokens_max = 0;
    params.top_logprobs = static_cast<int32_t>(Draw(4)) - 1;
    for (int64_t i = Draw(8); i > 0; --i)
      params.stop_ids.push_back(static_cast<int32_t>(Draw(500)));
    const uint64_t id = next_id_++;
    const auto count = static_cast<int64_t>(request.prompt.size());
    const int64_t total = std::min(count + params.tokens_max, options_.context_tokens);
    const bool fits = count + std::min<int64_t>(params.tokens_max, 1) <= options_.context_tokens &&
                      total <= options_.kv_block_count * 32;
    SequenceRequest submitted{id, request.prompt, params};
    if (fits && Draw(3) == 0) BringTokens(submitted);
    request.brought = submitted.generated.size();
    request.prompt_logprobs_given = submitted.prompt_logprobs_given;
    const SubmitOutcome outcome = scheduler_.Submit(std::move(submitted));
    EXPECT_EQ(outcome != SubmitOutcome::kNeverFits, fits);
    if (outcome == SubmitOutcome::kAccepted) requests_[id] = std::move(request);
  }

  // As if another group had begun with it, and had got as far as any place in its answer.
  void BringTokens(SequenceRequest& request) {
    const Stream alone = RunAlone(request.prompt, request.params, options_.context_tokens);
    // The last token comes with the end, unless that is an error.
    const auto count = static_cast<int64_t>(alone.tokens.size());
    const int64_t places = count + (alone.finish == FinishReason::kNumericError ? 1 : 0);
    if (places == 0) return;
    const int64_t brought = Draw(3) == 0 ? places - 1 : Draw(places);
    request.generated.assign(alone.tokens.begin(), alone.tokens.begin() + brought);
    request.prompt_logprobs_given = request.params.prompt_logprobs && brought > 0 && Draw(3) != 0;
  }

  void CancelOne() {
    if (next_id_ == 1) return;
    const auto id = static_cast<uint64_t>(1 + Draw(static_cast<int64_t>(next_id_)));
    const auto entry = requests_.find(id);
    if (entry != requests_.end()) entry->second.cancelled = true;
    scheduler_.Cancel(id);
  }

  void Plan() {
    now_ += Draw(20) * kMillisecondNs;
    scheduler_.SetTime(now_);
    const bool idle_step = Draw(20) == 0;
    const std::optional<StepPlan> plan =
        idle_step ? scheduler_.NextIdleStep() : scheduler_.NextStep();
    if (!plan) return;
    results_.push_back(group_.Apply(*plan));
    EXPECT_LE(group_.live_slots(), static_cast<size_t>(options_.sequences_max));
  }

  void Deliver() {
    if (!results_.empty()) {
      scheduler_.OnResult(results_.front());
      results_.pop_front();
    }
    if (Draw(3) == 0) Collect();
  }

  void Collect() {
    for (SequenceUpdate& update : scheduler_.TakeUpdates()) {
      Request& request = requests_.at(update.id);
      Stream& received = request.received;
      EXPECT_EQ(received.finish, FinishReason::kNone) << "an update after the end";
      EXPECT_EQ(update.tokens_before,
                static_cast<int64_t>(request.brought + received.tokens.size()));
      const bool has_prompts = request.prompt_logprobs_given || !received.prompt_logprobs.empty();
      EXPECT_EQ(update.prompt_logprobs_before,
                has_prompts ? static_cast<int64_t>(request.prompt.size()) - 1 : 0);
      request.cached_tokens += update.cached_tokens;
      if (update.cached_tokens > 0) {
        EXPECT_TRUE(request.brought == 0 && received.tokens.empty()) << "with the first token";
        EXPECT_LT(update.cached_tokens, static_cast<int64_t>(request.prompt.size()));
      }
      if (!update.prompt_logprobs.empty()) {
        EXPECT_TRUE(received.prompt_logprobs.empty()) << "delivered twice";
        EXPECT_TRUE(received.tokens.empty()) << "delivered after a token";
        received.prompt_logprobs = update.prompt_logprobs;
      }
      received.tokens.insert(received.tokens.end(), update.tokens.begin(), update.tokens.end());
      received.logprobs.insert(received.logprobs.end(), update.logprobs.begin(),
                               update.logprobs.end());
      received.finish = update.finish;
      received.detail = update.detail;
      if (update.finish != FinishReason::kNone) ++finished_;
    }
  }

  void CheckInvariants() {
    const SchedulerStats stats = scheduler_.stats();
    EXPECT_GE(stats.kv_blocks_used, 0);
    EXPECT_LE(stats.kv_blocks_used, options_.kv_block_count);
    EXPECT_EQ(stats.kv_blocks_total, options_.kv_block_count);
    EXPECT_LE(stats.sequences_running, options_.sequences_max);
    EXPECT_EQ(static_cast<size_t>(scheduler_.steps_in_flight()), results_.size());
    EXPECT_LE(scheduler_.steps_in_flight(), options_.steps_in_flight_max);
  }

  void CheckEnd() {
    Collect();
    EXPECT_EQ(scheduler_.stats().kv_blocks_used, 0);
    const std::optional<StepPlan> last = scheduler_.NextIdleStep();
    ASSERT_TRUE(last);
    static_cast<void>(group_.Apply(*last));
    EXPECT_EQ(group_.live_slots(), 0U);
    EXPECT_EQ(group_.blocks_owned(), 0);
    for (const auto& [id, request] : requests_) {
      SCOPED_TRACE(Str("request ", id));
      CheckStream(request);
    }
  }

  void CheckStream(const Request& request) {
    Stream alone = RunAlone(request.prompt, request.params, options_.context_tokens);
    alone.tokens.erase(alone.tokens.begin(),
                       alone.tokens.begin() + static_cast<ptrdiff_t>(request.brought));
    if (!alone.logprobs.empty()) {
      alone.logprobs.erase(alone.logprobs.begin(),
                           alone.logprobs.begin() + static_cast<ptrdiff_t>(request.brought));
    }
    if (request.prompt_logprobs_given) alone.prompt_logprobs.clear();
    const Stream& received = request.received;
    if (received.finish == FinishReason::kCancelled) {
      EXPECT_TRUE(request.cancelled);
      ASSERT_LE(received.tokens.size(), alone.tokens.size());
      alone.tokens.resize(received.tokens.size());
      alone.logprobs.resize(received.logprobs.size());
      if (received.tokens.empty()) alone.prompt_logprobs = received.prompt_logprobs;
    } else {
      EXPECT_EQ(received.finish, alone.finish);
      EXPECT_EQ(received.detail, alone.detail);
    }
    EXPECT_EQ(received.tokens, alone.tokens);
    EXPECT_EQ(received.logprobs, alone.logprobs);
    EXPECT_EQ(received.prompt_logprobs, alone.prompt_logprobs);
  }

  std::mt19937_64 random_;
  SchedulerOptions options_;
  Scheduler scheduler_;
  FakeGroup group_;
  std::deque<StepResult> results_;
  std::map<uint64_t, Request> requests_;
  uint64_t next_id_ = 1;
  TimeNs now_ = 0;
  int64_t finished_ = 0;
};

TEST(SchedulerProperty, EveryStreamIsTheOneItsRequestGivesAlone) {
  int64_t preemptions = 0;
  int64_t hit_tokens = 0;
  int64_t drafted = 0;
  int64_t accepted = 0;
  int64_t finished = 0;
  int64_t continued = 0;
  for (uint64_t seed = 1; seed <= 400; ++seed) {
    SCOPED_TRACE(Str("seed ", seed));
    RandomRun run(seed);
    run.Play();
    if (::testing::Test::HasFailure()) return;
    preemptions += run.stats().preemptions_total;
    drafted += run.stats().drafted_tokens_total;
    accepted += run.stats().accepted_tokens_total;
    hit_tokens += run.stats().prefix_cache_hit_tokens_total;
    finished += run.finished();
    continued += run.continued_tokens();
  }
  // The runs are of use only if they meet the rare paths.
  EXPECT_GT(preemptions, 100);
  EXPECT_GT(hit_tokens, 3000);
  EXPECT_GT(accepted, 1000);
  EXPECT_GT(drafted - accepted, 1000);
  EXPECT_GT(finished, 10000);
  EXPECT_GT(continued, 10000);
}

}  // namespace
}  // namespace shoal::engine
