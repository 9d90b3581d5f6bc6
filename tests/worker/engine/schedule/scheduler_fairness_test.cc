// A sequence that has started goes on, whatever urgent requests arrive, even without end.

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <random>
#include <set>

#include "tests/worker/engine/engine_fixture.h"
#include "transport/base/check.h"

namespace shoal::engine {
namespace {

GenerationParams ParamsOf(int32_t priority, int64_t tokens_max) {
  GenerationParams params = Tokens(tokens_max);
  params.priority = priority;
  return params;
}

constexpr uint64_t kVictim = 2;

// Starts a victim of low priority that is not the first to arrive, then keeps one of `urgent`'s
// requests waiting. Result: the steps until the victim has ended, at most `steps_max`.
int StepsBeside(const SchedulerOptions& options, int32_t prompt_tokens, int64_t tokens_max,
                const std::function<void(Engine& engine, uint64_t id)>& submit_urgent,
                int steps_max) {
  Engine engine(options);
  engine.Submit(1, Prompt(5), Tokens(1));
  engine.Drain();
  engine.Submit(kVictim, Prompt(prompt_tokens), ParamsOf(5, tokens_max));
  engine.Step();
  uint64_t id = kVictim;
  for (int step = 1; step <= steps_max; ++step) {
    if (engine.scheduler.stats().requests_waiting == 0) submit_urgent(engine, ++id);
    engine.Step();
    for (const SequenceUpdate& update : engine.scheduler.TakeUpdates()) {
      if (update.id == kVictim && update.finish != FinishReason::kNone) return step;
    }
  }
  return steps_max;
}

TEST(SchedulerFairness, FinishesAPromptBesideStartsThatUseTheWholeBudget) {
  SchedulerOptions options = kOptions;
  options.sequences_max = 8;
  const auto urgent = [](Engine& engine, uint64_t id) {
    engine.Submit(id, Prompt(64, 300), ParamsOf(0, 1));
  };
  // Eight steps that pass it over, and three of its own.
  EXPECT_LE(StepsBeside(options, 200, 1, urgent, 1000), 11);
}

TEST(SchedulerFairness, GivesADecodeItsBlockBesideStartsThatTakeEachFreeOne) {
  SchedulerOptions options = kOptions;
  options.kv_block_count = 4;
  const auto urgent = [](Engine& engine, uint64_t id) {
    engine.Submit(id, Prompt(20, 300), ParamsOf(0, 3));
  };
  // Of its 20 tokens the seventh needs the fourth block, which eight requests of three steps have
  // before.
  EXPECT_LE(StepsBeside(options, 90, 20, urgent, 1000), 20 + 8 * 3);
}

TEST(SchedulerFairness, LetsNobodyBePreemptedBeforeItAdvancesForEver) {
  SchedulerOptions options = kOptions;
  options.kv_block_count = 6;
  options.prefill_chunk_tokens = 8;
  // It starts in one block and takes a second, when the victim has the other five.
  const auto urgent = [](Engine& engine, uint64_t id) {
    engine.Submit(id, Prompt(30, 300), ParamsOf(0, 10));
  };
  EXPECT_LT(StepsBeside(options, 150, 5, urgent, 2000), 300);
}

// Victims of random shapes and priorities start, now and then, beside urgent requests without end.
// The seed decides everything.
class Flood {
 public:
  // `classes`: what is urgent is of better service classes, too.
  Flood(uint64_t seed, bool classes)
      : random_(seed),
        classes_(classes),
        options_(RandomOptions()),
        scheduler_(options_),
        group_(options_) {}

  void Play() {
    for (int round = 0; round < 12; ++round) {
      // In half of the rounds an urgent prompt is a step's whole budget.
      urgent_prompt_ = Draw(2) == 0 ? std::min(options_.prefill_chunk_tokens, Longest() - 1)
                                    : 1 + Draw(Longest() - 1);
      urgent_tokens_ = 1 + Draw(std::min<int64_t>(Longest() - urgent_prompt_, 8));
      for (int64_t victims = 1 + Draw(3); victims > 0; --victims) {
        const int64_t prompt = 1 + Draw(Longest() - 1);
        Submit(prompt, 1 + Draw(Longest() - prompt), static_cast<int32_t>(1 + Draw(3)));
        victims_.insert(next_id_ - 1);
        for (int64_t steps = Draw(4); steps > 0; --steps) Step();
      }
      for (int step = 0; !victims_.empty(); ++step) {
        ASSERT_LT(step, 20000) << "sequence " << *victims_.begin() << " never ends";
        while (scheduler_.stats().requests_waiting == 0) Submit(urgent_prompt_, urgent_tokens_, 0);
        Step();
        if (::testing::Test::HasFailure()) return;
      }
      while (!scheduler_.idle()) Step();
    }
  }

  int64_t preemptions() const { return scheduler_.stats().preemptions_total; }

 private:
  struct Progress {
    int64_t ground = 0;  // The furthest position that it has reached.
    int64_t waited = 0;  // Steps since it last got further.
  };

  int64_t Draw(int64_t bound) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(bound));
  }
  // Of a request, prompt and answer.
  int64_t Longest() const {
    return std::min(options_.context_tokens, options_.kv_block_count * 32);
  }

  SchedulerOptions RandomOptions() {
    SchedulerOptions options;
    options.sequences_max = static_cast<int32_t>(1 + Draw(5));
    options.requests_waiting_max = 100;
    options.prefill_chunk_tokens = 1 + Draw(Draw(2) == 0 ? 16 : 80);
    options.kv_block_count = 2 + Draw(8);
    options.context_tokens = 60 + Draw(60);
    options.steps_in_flight_max = static_cast<int32_t>(1 + Draw(3));
    options.prefix_cache = Draw(2) != 0;
    options.speculation_tokens_max = static_cast<int32_t>(std::max<int64_t>(0, Draw(8) - 3));
    return options;
  }

  void Submit(int64_t prompt, int64_t tokens, int32_t priority) {
    const auto first = static_cast<int32_t>(Draw(400));
    SequenceRequest request{next_id_++, Prompt(static_cast<int32_t>(prompt), first),
                            ParamsOf(priority, tokens)};
    if (classes_) request.service_class = static_cast<ServiceClass>(priority);
    ASSERT_EQ(scheduler_.Submit(std::move(request)), SubmitOutcome::kAccepted);
  }

  void Step() {
    const std::optional<StepPlan> plan = scheduler_.NextStep();
    if (plan) {
      Note(*plan);
      results_.push_back(group_.Apply(*plan));
    }
    if (!plan || Draw(2) == 0) Deliver();
  }

  void Note(const StepPlan& plan) {
    for (const SequenceStart& start : plan.starts) {
      slots_[start.slot] = start.id;
      started_.try_emplace(start.id);
    }
    for (auto& [id, progress] : started_) ++progress.waited;
    for (const StepItem& item : plan.items) {
      Progress& progress = started_[slots_.at(item.slot)];
      const int64_t end =
          int64_t{item.position_begin} + item.row_count - static_cast<int64_t>(item.drafts.size());
      if (end <= progress.ground) continue;
      progress = {.ground = end, .waited = 0};
    }
    for (const auto& [id, progress] : started_) {
      EXPECT_LE(progress.waited, classes_ ? kWaitMaxOfClasses : kWaitMax)
          << "sequence " << id << " waits at " << progress.ground;
    }
  }

  void Deliver() {
    if (results_.empty()) return;
    scheduler_.OnResult(std::move(results_.front()));
    results_.pop_front();
    for (const SequenceUpdate& update : scheduler_.TakeUpdates()) {
      if (update.finish == FinishReason::kNone) continue;
      started_.erase(update.id);
      victims_.erase(update.id);
    }
  }

  // Several times what the slowest of these runs needs.
  static constexpr int64_t kWaitMax = 400;
  static constexpr int64_t kWaitMaxOfClasses = 2'500;

  std::mt19937_64 random_;
  const bool classes_;
  SchedulerOptions options_;
  Scheduler scheduler_;
  FakeGroup group_;
  int64_t urgent_prompt_;
  int64_t urgent_tokens_;
  std::deque<StepResult> results_;
  std::map<uint32_t, uint64_t> slots_;
  std::map<uint64_t, Progress> started_;  // By id; those that live.
  std::set<uint64_t> victims_;            // Those that live.
  uint64_t next_id_ = 1;
};

TEST(SchedulerFairness, LetsEveryStartedSequenceAdvanceWithinABoundedNumberOfSteps) {
  int64_t preemptions = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(Str("seed ", seed));
    Flood flood(seed, /*classes=*/false);
    flood.Play();
    if (::testing::Test::HasFailure()) return;
    preemptions += flood.preemptions();
  }
  EXPECT_GT(preemptions, 300) << "the runs are of use only if they meet the rare paths";
}

TEST(SchedulerFairness, LetsEveryStartedSequenceAdvanceBesideBetterClassesWithoutEnd) {
  int64_t preemptions = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(Str("seed ", seed));
    Flood flood(seed, /*classes=*/true);
    flood.Play();
    if (::testing::Test::HasFailure()) return;
    preemptions += flood.preemptions();
  }
  EXPECT_GT(preemptions, 1'000) << "the runs are of use only if classes preempt each other";
}

}  // namespace
}  // namespace shoal::engine
