// A region and leaders with the workers' own scheduler on a virtual clock: requests arrive at
// random, and what was predicted of their waits is compared with what they come to.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <variant>
#include <vector>

#include "coordinator/core/region.h"
#include "tests/coordinator/core/support.h"
#include "worker/engine/schedule/scheduler.h"

namespace shoal::core {
namespace {

constexpr TimeNs kStepNs = 1 * kMillisecondNs;
constexpr TimeNs kRowNs = 20'000;
constexpr TimeNs kTokenNs = 200'000;
constexpr int32_t kSlots = 8;
constexpr int32_t kStop = 9;

RankRegistration Rank(uint64_t number) {
  RankRegistration rank = MakeRank(number);
  rank.context_tokens = 2'048;
  rank.kv_cache_tokens = 64 * 2'048;
  rank.sequences_max = kSlots;
  rank.queue_requests_max = 1'024;
  return rank;
}

// A group of one rank whose steps take as long as what they compute.
class Leader {
 public:
  Leader(Region& region, ManualClock& clock, ConnectionId connection, bool stops)
      : region_(region), clock_(clock), connection_(connection), stops_(stops) {
    epoch_ = region_.Register(connection, Rank(connection)).epoch;
  }

  void Submit(const SequenceRequest& request) {
    if (request.stream == StreamId{}) {
      canary_ = AnswerCanary({connection_, epoch_, request});
      return;
    }
    scheduler_.SetTime(clock_.now());
    const auto outcome = scheduler_.Submit(request);
    EXPECT_EQ(outcome, engine::SubmitOutcome::kAccepted);
  }
  void Cancel(SequenceId sequence) { scheduler_.Cancel(sequence); }

  // When its step ends.
  std::optional<TimeNs> due() const { return due_; }

  void Begin() {
    if (canary_) {
      EXPECT_TRUE(region_.Update(connection_, epoch_, {*canary_}, scheduler_.stats()));
      canary_.reset();
    }
    if (due_) return;
    scheduler_.SetTime(clock_.now());
    plan_ = scheduler_.NextStep();
    if (!plan_) return Report();  // Of what ended without a step.
    TimeNs takes = kStepNs + plan_->row_count() * kRowNs;
    for (const engine::StepItem& item : plan_->items) takes += item.sample ? kTokenNs : 0;
    due_ = clock_.now() + takes;
  }

  void End() {
    due_.reset();
    scheduler_.SetTime(clock_.now());
    engine::StepResult result{plan_->step, {}};
    for (const engine::StepItem& item : plan_->items) {
      engine::ItemResult& of = result.items.emplace_back();
      of.slot = item.slot;
      const bool stop = stops_ && random_() % 32 == 0;
      if (item.sample) of.chosen = {{.token = stop ? kStop : 5, .logprobs = {}}};
    }
    scheduler_.OnResult(std::move(result));
    Report();
  }

 private:
  void Report() {
    auto updates = scheduler_.TakeUpdates();
    const SchedulerStats stats = scheduler_.stats();
    if (updates.empty() && stats == sent_) return;
    sent_ = stats;
    EXPECT_TRUE(region_.Update(connection_, epoch_, std::move(updates), stats));
  }

  Region& region_;
  ManualClock& clock_;
  const ConnectionId connection_;
  const bool stops_;
  std::mt19937_64 random_{1};
  uint64_t epoch_ = 0;
  engine::Scheduler scheduler_{{.sequences_max = kSlots,
                                .requests_waiting_max = 1'024,
                                .prefill_chunk_tokens = 256,
                                .kv_block_count = 4'096,
                                .context_tokens = 2'048}};
  std::optional<SequenceUpdate> canary_;
  std::optional<engine::StepPlan> plan_;
  std::optional<TimeNs> due_;
  SchedulerStats sent_;
};

struct Load {
  double per_second = 10;
  bool classes = false;
  int64_t deadline_ms = 0;
  bool stops = false;  // Answers end where nobody can know.
};

struct Outcome {
  double median = 0;
  int64_t measured = 0;
  int64_t refused = 0;
  int64_t late = 0;  // Refused as kDeadlineUnreachable.
  int64_t taken = 0;
  int64_t displaced = 0;            // Of those, for one of a better class.
  int64_t expired = 0;              // Ended by their deadline,
  int64_t expired_unheard = 0;      // before their first token.
  int64_t expired_late_ns_max = 0;  // How long after it at most.
  std::vector<StreamError> refusals;
};

class World {
 public:
  World(Load load, uint64_t seed) : load_(load), random_(seed) {
    for (ConnectionId connection = 1; connection <= 2; ++connection) {
      leaders_.emplace(connection,
                       std::make_unique<Leader>(region_, clock_, connection, load.stops));
    }
    Act();
  }

  Outcome Play(int64_t seconds) {
    const TimeNs end = clock_.now() + seconds * kSecondNs;
    TimeNs arrival = clock_.now();
    TimeNs tick = clock_.now();
    while (clock_.now() < end) {
      TimeNs next = std::min(arrival, tick);
      for (const auto& [connection, leader] : leaders_)
        next = std::min(next, leader->due().value_or(next));
      if (const auto deadline = region_.next_deadline()) next = std::min(next, *deadline);
      clock_.AdvanceTo(std::max(next, clock_.now()));
      region_.EndOverdue();
      for (const auto& [connection, leader] : leaders_) {
        if (leader->due() == clock_.now()) leader->End();
      }
      if (arrival == clock_.now()) {
        Arrive();
        arrival +=
            static_cast<TimeNs>(std::exponential_distribution<>(load_.per_second)(random_) * 1e9);
      }
      if (tick == clock_.now()) {
        for (const auto& [number, group] : region_.groups()) {
          EXPECT_TRUE(region_.Heartbeat(group.leader(), group.epoch, ++beats_, true));
        }
        region_.Tick();
        tick += 100 * kMillisecondNs;
      }
      Act();
    }
    outcome_.median = region_.status().wait_errors.median;
    for (const int64_t count : region_.status().wait_errors.counts) outcome_.measured += count;
    EXPECT_EQ(region_.FindBrokenInvariant(), "");
    return outcome_;
  }

 private:
  static RegionOptions Options() {
    RegionOptions options;
    options.queue_requests_max = 64;
    options.canary_interval_ms = 0;
    return options;
  }

  void Arrive() {
    // Heavy tails: most are short, some are very long.
    const auto draw = [&](double median, int64_t most) {
      const double value = std::lognormal_distribution<>(std::log(median), 1.0)(random_);
      return std::clamp<int64_t>(static_cast<int64_t>(value), 1, most);
    };
    Request request{std::vector<int32_t>(static_cast<size_t>(draw(100, 1'000)), 1), {}};
    request.params.tokens_max = draw(40, 400);
    request.params.stop_ids = {kStop};
    request.terms.deadline_ms = load_.deadline_ms;
    if (load_.classes) request.terms.service_class = static_cast<ServiceClass>(random_() % 4);
    const auto taken = region_.Submit(std::move(request));
    if (const auto* id = std::get_if<StreamId>(&taken)) {
      ++outcome_.taken;
      if (load_.deadline_ms > 0) until_[*id] = clock_.now() + load_.deadline_ms * kMillisecondNs;
      return;
    }
    const StreamError& error = std::get<StreamError>(taken);
    ++outcome_.refused;
    if (error.reason == BusyReason::kDeadlineUnreachable) ++outcome_.late;
    outcome_.refusals.push_back(error);
  }

  // Until there is nothing more to be done at this time.
  void Act() {
    do {
      for (const Action& action : region_.TakeActions()) {
        if (const auto* submit = std::get_if<SubmitAction>(&action)) {
          leaders_.at(submit->leader)->Submit(submit->request);
        } else if (const auto* cancel = std::get_if<CancelAction>(&action)) {
          leaders_.at(cancel->leader)->Cancel(cancel->sequence);
        } else if (const auto* deliver = std::get_if<DeliverAction>(&action)) {
          heard_.insert(deliver->stream);
        } else if (const auto* fail = std::get_if<FailAction>(&action)) {
          if (fail->error.reason == BusyReason::kQueueFull) {  // A better class has its place.
            ++outcome_.displaced;
            continue;
          }
          EXPECT_EQ(fail->error.reason, BusyReason::kDeadlineExceeded) << fail->error.message;
          ++outcome_.expired;
          outcome_.expired_unheard += heard_.contains(fail->stream) ? 0 : 1;
          outcome_.expired_late_ns_max =
              std::max(outcome_.expired_late_ns_max, clock_.now() - until_.at(fail->stream));
        }
      }
      for (const auto& [connection, leader] : leaders_) leader->Begin();
    } while (region_.has_actions());
  }

  const Load load_;
  std::mt19937_64 random_;
  ManualClock clock_;
  Region region_{Options(), clock_, MakeTestRandom()};
  std::map<ConnectionId, std::unique_ptr<Leader>> leaders_;
  std::map<StreamId, TimeNs> until_;
  std::set<StreamId> heard_;
  Outcome outcome_;
  uint64_t beats_ = 0;
};

// Two groups of eight slots do about 75 such requests a second. What the lowest of several classes
// waits is seconds, so it takes a while until there is enough to learn from.
void ExpectGoodPredictions(const Load& load, int64_t refused_least) {
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    const Outcome outcome = World(load, seed).Play(load.classes ? 120 : 20);
    EXPECT_GE(outcome.measured, 200);
    EXPECT_GE(outcome.refused, refused_least);
    EXPECT_LE(outcome.median, 0.25) << load.per_second << " a second, seed " << seed;
    std::cout << load.per_second << " requests a second" << (load.classes ? " of all classes" : "")
              << ", seed " << seed << ": median error " << outcome.median << " of "
              << outcome.measured << " waits, " << outcome.refused << " refused\n";
  }
}

TEST(WaitSim, PredictsTheWaitsOfAnIdleRegion) { ExpectGoodPredictions({.per_second = 15}, 0); }

TEST(WaitSim, PredictsTheWaitsOfABusyRegion) { ExpectGoodPredictions({.per_second = 70}, 0); }

TEST(WaitSim, PredictsTheWaitsOfAnOverloadedRegion) {
  ExpectGoodPredictions({.per_second = 300}, 1'000);
}

TEST(WaitSim, PredictsTheWaitsOfEachClass) {
  ExpectGoodPredictions({.per_second = 90, .classes = true}, 0);
}

TEST(WaitSim, PredictsTheWaitsBehindAnswersOfUnknownLength) {
  ExpectGoodPredictions({.per_second = 300, .stops = true}, 1'000);
}

TEST(WaitSim, RefusesWhatCannotMakeItsDeadlineAndSaysWhenToComeBack) {
  const Outcome outcome = World({.per_second = 300, .deadline_ms = 250}, 1).Play(/*seconds=*/20);
  std::cout << outcome.taken << " taken, " << outcome.late << " refused for their deadline, "
            << outcome.expired << " cut off by it, " << outcome.expired_unheard
            << " of them before their first token; median error " << outcome.median << "\n";
  EXPECT_GT(outcome.late, 500);
  EXPECT_LE(outcome.expired_unheard, outcome.taken / 20);
  for (const StreamError& error : outcome.refusals) {
    EXPECT_GT(error.retry_after_ms, 0) << error.message;
    EXPECT_GE(error.predicted_wait_ms, 0) << error.message;
  }
  EXPECT_LE(outcome.expired_late_ns_max, 100 * kMillisecondNs);
  EXPECT_LE(outcome.median, 0.25);
}

}  // namespace
}  // namespace shoal::core
