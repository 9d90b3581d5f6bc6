#include "tests/coordinator/core/routing/balance_sim.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <utility>

#include "coordinator/core/guard/guard.h"
#include "tests/coordinator/core/support.h"

namespace shoal::core {
namespace {

// A step takes so long for itself and for each of its rows, in a group of speed 1.
constexpr double kStepMs = 10;
constexpr double kRowMs = 0.5;
constexpr int32_t kSlots = 16;
constexpr int64_t kChunkRows = 256;
constexpr int64_t kPromptTokens = 64;
constexpr double kAnswerTokens = 60;  // On average; exponential.
constexpr int64_t kAnswerMax = 400;

struct Work {
  int64_t prompt_left = 0;
  int64_t tokens_left = 0;
  int64_t tokens_max_left = 0;
};

struct SimGroup {
  double speed = 1;
  std::vector<std::pair<SequenceId, Work>> sequences;  // In the order of their coming.
  SchedulerStats stats;
  double step_end_ms = -1;  // None is under way.
  double step_ms = 0;
  std::vector<SequenceId> in_step;
  double slot_ms = 0;  // Slots in use x time.
};

class Simulation {
 public:
  Simulation(const BalanceTrace& trace, BalanceArm arm, RoutingPolicy policy)
      : trace_(trace),
        arm_(arm),
        router_(policy, arm == BalanceArm::kPolicy),
        guard_({}, arm == BalanceArm::kPolicy),
        random_(trace.seed) {
    for (size_t i = 0; i < trace.speeds.size(); ++i) {
      Group group = MakeReadyGroup(i);
      group.ranks[0]->info.sequences_max = kSlots;
      group.ranks[0]->info.queue_requests_max = 10'000;
      group.ranks[0]->info.kv_cache_tokens = 1'000'000;
      groups_.emplace(i, std::move(group));
      sims_.push_back({.speed = trace.speeds[i], .sequences = {}, .stats = {}, .in_step = {}});
    }
    const double row_ms = kStepMs / kSlots + kRowMs;
    const double request_ms = kPromptTokens * kRowMs + kAnswerTokens * row_ms;
    const double speed = std::accumulate(trace.speeds.begin(), trace.speeds.end(), 0.0);
    arrival_ms_ = request_ms / (trace.load * speed);
  }

  BalanceResult Run() {
    double next_arrival = Exponential(arrival_ms_);
    double next_report = static_cast<double>(trace_.report_ms);
    double next_sample = 50;
    const double end = trace_.seconds * 1'000;
    while (now_ms_ < end) {
      double next = std::min({next_arrival, next_report, next_sample});
      for (const SimGroup& group : sims_) {
        if (group.step_end_ms >= 0) next = std::min(next, group.step_end_ms);
      }
      for (SimGroup& group : sims_) {
        group.slot_ms += (next - now_ms_) * std::min<double>(kSlots, std::ssize(group.sequences));
      }
      now_ms_ = next;
      for (size_t i = 0; i < sims_.size(); ++i) {
        if (sims_[i].step_end_ms == now_ms_) EndStep(i);
      }
      if (now_ms_ == next_arrival) {
        Arrive();
        next_arrival += Exponential(arrival_ms_);
      }
      if (now_ms_ == next_report) {
        for (size_t i = 0; i < sims_.size(); ++i) Report(i);
        next_report += static_cast<double>(trace_.report_ms);
      }
      if (now_ms_ == next_sample) {
        Sample();
        next_sample += 50;
      }
    }
    return Result();
  }

 private:
  TimeNs now() const { return static_cast<TimeNs>(now_ms_ * 1e6) + kSecondNs; }

  double Exponential(double mean) { return std::exponential_distribution<>(1 / mean)(random_); }

  void Arrive() {
    const auto tokens =
        std::clamp<int64_t>(std::llround(Exponential(kAnswerTokens)), 1, kAnswerMax);
    const std::string session;
    const std::vector<int32_t> prompt(kPromptTokens, static_cast<int32_t>(sequence_ + 1));
    const std::string salt;
    const int64_t tokens_max = 2 * tokens;  // What clients ask for is more than what they get.
    const StreamId stream{random_(), random_()};
    size_t chosen = 0;
    if (arm_ == BalanceArm::kStaticWeights) {
      // Weights that were right once: the same for all.
      chosen = std::uniform_int_distribution<size_t>(0, sims_.size() - 1)(random_);
    } else {
      chosen = router_
                   .Choose({.key = groups_.at(0).key,
                            .tokens = kPromptTokens + tokens_max,
                            .stream = stream,
                            .session = session,
                            .prompt = prompt,
                            .salt = salt},
                           groups_, guard_, now())
                   .value();
    }
    const SequenceId sequence = ++sequence_;
    groups_.at(chosen).Give(sequence, {.tokens = kPromptTokens + tokens_max});
    sims_[chosen].sequences.emplace_back(sequence, Work{kPromptTokens, tokens, tokens_max});
    if (sims_[chosen].step_end_ms < 0) BeginStep(chosen);
  }

  void BeginStep(size_t number) {
    SimGroup& group = sims_[number];
    group.in_step.clear();
    int64_t rows = 0;
    int64_t prompt_rows = 0;
    const size_t running = std::min<size_t>(kSlots, group.sequences.size());
    for (size_t i = 0; i < running; ++i) {
      auto& [id, work] = group.sequences[i];
      if (work.prompt_left > 0) {
        const int64_t chunk = std::min(work.prompt_left, kChunkRows - prompt_rows);
        if (chunk <= 0) continue;
        work.prompt_left -= chunk;
        prompt_rows += chunk;
        if (work.prompt_left > 0) continue;
      } else {
        ++rows;
      }
      group.in_step.push_back(id);
    }
    group.step_ms = (kStepMs + kRowMs * static_cast<double>(rows + prompt_rows)) / group.speed;
    group.step_end_ms = now_ms_ + group.step_ms;
    group.stats.prompt_rows_total += prompt_rows;
  }

  void EndStep(size_t number) {
    SimGroup& group = sims_[number];
    ++group.stats.steps_total;
    group.stats.busy_us_total += std::llround(group.step_ms * 1'000);
    for (const SequenceId id : group.in_step) {
      const auto entry =
          std::ranges::find(group.sequences, id, [](const auto& pair) { return pair.first; });
      Work& work = entry->second;
      --work.tokens_left;
      --work.tokens_max_left;
      ++group.stats.generated_tokens_total;
      if (work.tokens_left > 0) {
        groups_.at(number).load.SetWork(id, work.tokens_max_left);
        continue;
      }
      groups_.at(number).Forget(id);
      group.sequences.erase(entry);
      ++result_.finished;
    }
    group.step_end_ms = -1;
    if (!group.sequences.empty()) BeginStep(number);
  }

  void Report(size_t number) {
    Group& group = groups_.at(number);
    group.stats = sims_[number].stats;
    group.stats->kv_blocks_total = 1'000;
    group.stats->kv_blocks_used = std::min<int64_t>(1'000, 20 * std::ssize(group.sequences));
    group.load.Learn(*group.stats, now());
  }

  void Sample() {
    double sum = 0;
    double squares = 0;
    for (const SimGroup& group : sims_) {
      const double load = static_cast<double>(std::ssize(group.sequences)) / kSlots;
      sum += load;
      squares += load * load;
      ++samples_;
      if (load > 1) ++overloads_;
    }
    if (squares == 0) return;
    evenness_ += sum * sum / (static_cast<double>(sims_.size()) * squares);
    ++evenness_samples_;
  }

  BalanceResult Result() {
    for (const SimGroup& group : sims_) {
      result_.utilization.push_back(group.slot_ms / (now_ms_ * kSlots));
    }
    result_.evenness = evenness_ / static_cast<double>(evenness_samples_);
    result_.overload = static_cast<double>(overloads_) / static_cast<double>(samples_);
    return result_;
  }

  const BalanceTrace trace_;
  const BalanceArm arm_;
  Router router_;
  Guard guard_;
  std::mt19937_64 random_;
  GroupMap groups_;
  std::vector<SimGroup> sims_;
  double arrival_ms_ = 0;
  double now_ms_ = 0;
  SequenceId sequence_ = 0;
  BalanceResult result_;
  double evenness_ = 0;
  int64_t evenness_samples_ = 0;
  int64_t overloads_ = 0;
  int64_t samples_ = 0;
};

}  // namespace

double BalanceResult::Deviation() const {
  const auto count = static_cast<double>(utilization.size());
  const double mean = std::accumulate(utilization.begin(), utilization.end(), 0.0) / count;
  double squares = 0;
  for (const double value : utilization) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / count) / mean;
}

BalanceResult RunBalance(const BalanceTrace& trace, BalanceArm arm, RoutingPolicy policy) {
  return Simulation(trace, arm, policy).Run();
}

}  // namespace shoal::core
