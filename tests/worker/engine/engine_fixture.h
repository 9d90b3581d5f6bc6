#pragma once

// A scheduler whose plans a fake group computes, and what its tests submit.

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <numeric>
#include <optional>
#include <vector>

#include "tests/worker/engine/schedule/fake_group.h"
#include "worker/engine/schedule/scheduler.h"

namespace shoal::engine {

inline const SchedulerOptions kOptions{.sequences_max = 4,
                                       .requests_waiting_max = 8,
                                       .prefill_chunk_tokens = 64,
                                       .kv_block_count = 64,
                                       .context_tokens = 256,
                                       .steps_in_flight_max = 1};

inline std::vector<int32_t> Prompt(int32_t count, int32_t first = 1) {
  std::vector<int32_t> prompt(static_cast<size_t>(count));
  std::iota(prompt.begin(), prompt.end(), first);
  return prompt;
}

inline GenerationParams Tokens(int64_t tokens_max) {
  GenerationParams params;
  params.tokens_max = tokens_max;
  return params;
}

// A scheduler whose plans a fake group computes.
struct Engine {
  explicit Engine(const SchedulerOptions& options)
      : scheduler(options), group(options), context_tokens(options.context_tokens) {}

  void Submit(uint64_t id, const std::vector<int32_t>& prompt, const GenerationParams& params) {
    ASSERT_EQ(scheduler.Submit({id, prompt, params}), SubmitOutcome::kAccepted);
  }
  // Plans, applies and answers one step. Result: the plan, or nothing if there was none.
  std::optional<StepPlan> Step() {
    std::optional<StepPlan> plan = scheduler.NextStep();
    if (plan) scheduler.OnResult(group.Apply(*plan));
    return plan;
  }
  // All updates until nothing is left, joined by id.
  std::map<uint64_t, SequenceUpdate> Drain() {
    std::map<uint64_t, SequenceUpdate> joined;
    for (int step = 0; step < 10000 && !scheduler.idle(); ++step) {
      Step();
      for (const SequenceUpdate& update : scheduler.TakeUpdates()) {
        SequenceUpdate& all = joined[update.id];
        all.tokens.insert(all.tokens.end(), update.tokens.begin(), update.tokens.end());
        all.finish = update.finish;
        all.cached_tokens += update.cached_tokens;
      }
    }
    EXPECT_TRUE(scheduler.idle());
    return joined;
  }

  Scheduler scheduler;
  FakeGroup group;
  int64_t context_tokens;
};

}  // namespace shoal::engine
