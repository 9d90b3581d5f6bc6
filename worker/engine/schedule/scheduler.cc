#include "worker/engine/schedule/scheduler.h"

#include <algorithm>
#include <utility>

#include "transport/base/check.h"
#include "transport/base/generation/prefix_hash.h"
#include "worker/engine/schedule/scheduler_state.h"

namespace shoal::engine {

Scheduler::State::State(const SchedulerOptions& scheduler_options)
    : options(scheduler_options),
      blocks(scheduler_options.kv_block_count),
      prefixes(scheduler_options.kv_block_count, scheduler_options.prefix_secret,
               scheduler_options.numerics_id) {
  for (int32_t slot = 0; slot < options.sequences_max; ++slot) {
    slots_free.insert(static_cast<uint32_t>(slot));
  }
}

Scheduler::Scheduler(const SchedulerOptions& options) {
  SHOAL_CHECK(options.sequences_max > 0 && options.requests_waiting_max >= 0 &&
                  options.prefill_chunk_tokens > 0 && options.kv_block_count > 0 &&
                  options.context_tokens > 0 && options.steps_in_flight_max > 0 &&
                  options.batch_queue_min >= 0 && options.batch_delay_max_ms >= 0 &&
                  options.speculation_tokens_max >= 0,
              "sequences ", options.sequences_max, ", waiting ", options.requests_waiting_max,
              ", chunk ", options.prefill_chunk_tokens, ", blocks ", options.kv_block_count,
              ", context ", options.context_tokens, ", in flight ", options.steps_in_flight_max,
              ", batch from ", options.batch_queue_min, " or ", options.batch_delay_max_ms, " ms",
              ", drafts ", options.speculation_tokens_max);
  state_ = std::make_unique<State>(options);
}

Scheduler::~Scheduler() = default;

SubmitOutcome Scheduler::Submit(SequenceRequest request) {
  const uint64_t id = request.id;
  const GenerationParams& params = request.params;
  SHOAL_CHECK(!request.prompt.empty(), "sequence ", id, " has no prompt");
  SHOAL_CHECK(!state_->sequences.contains(id), "sequence ", id, " is there already");
  const SchedulerOptions& options = state_->options;
  const auto prompt_count = static_cast<int64_t>(request.prompt.size());
  const auto generated_count = static_cast<int64_t>(request.generated.size());
  const int64_t room = options.context_tokens - prompt_count;
  const int64_t tokens_max = std::min(params.tokens_max, room);
  const int64_t tokens_least = params.tokens_max == 0 ? 0 : generated_count + 1;
  if (tokens_max < tokens_least) return SubmitOutcome::kNeverFits;
  if (prompt_count + tokens_max > options.kv_block_count * BlockPool::kBlockTokens) {
    return SubmitOutcome::kNeverFits;
  }
  // A request for which a slot is free does not count as waiting.
  if (state_->waiting.size() + state_->gathering.size() >=
      static_cast<size_t>(options.requests_waiting_max) + state_->slots_free.size()) {
    return SubmitOutcome::kQueueFull;
  }
  Sequence sequence;
  sequence.id = id;
  sequence.service_class = request.service_class;
  sequence.turn = {Sequence::RankOf(request.service_class, params.priority), state_->arrivals++};
  sequence.incarnation = state_->incarnations++;
  sequence.params = params;
  sequence.salt = PrefixSalt(request.tenant, params.cache_salt);
  sequence.params.tokens_max = tokens_max;  // Bounded, so that sums with it cannot overflow.
  sequence.prompt_count = prompt_count;
  sequence.prompt_delivered = request.prompt_logprobs_given;
  sequence.tokens = std::move(request.prompt);
  sequence.tokens.insert(sequence.tokens.end(), request.generated.begin(), request.generated.end());
  if (request.deadline_ms > 0) {
    sequence.deadline = state_->now + request.deadline_ms * kMillisecondNs;
    state_->deadlines.emplace(*sequence.deadline, id);
  }
  Sequence& stored = state_->sequences.emplace(id, std::move(sequence)).first->second;
  state_->CountWaiting(stored, 1);
  state_->tokens_left += State::TokensLeft(stored);
  if (options.batch_policy == BatchPolicy::kThreshold) {
    stored.submitted = state_->now;
    state_->gathering.emplace(stored.turn.arrival, &stored);
  } else {
    state_->Enqueue(stored);
  }
  return SubmitOutcome::kAccepted;
}

void Scheduler::Cancel(uint64_t id) {
  if (state_->sequences.contains(id)) state_->Finish(id, FinishReason::kCancelled, "");
}

void Scheduler::CancelAll() {
  while (!state_->running.empty()) Cancel(state_->running.begin()->second->id);
  while (!state_->waiting.empty()) Cancel(state_->waiting.front()->id);
  while (!state_->gathering.empty()) Cancel(state_->gathering.begin()->second->id);
}

void Scheduler::SetTime(TimeNs now) {
  if (state_->busy) state_->busy_ns += now - state_->now;
  state_->busy = !state_->in_flight.empty();
  state_->now = now;
}

std::optional<TimeNs> Scheduler::wake_time() const {
  std::optional<TimeNs> wake = state_->merge_time();
  if (!state_->deadlines.empty()) {
    const TimeNs deadline = state_->deadlines.begin()->first;
    wake = std::min(wake.value_or(deadline), deadline);
  }
  return wake;
}

int64_t Scheduler::State::TokensLeft(const Sequence& sequence) {
  return sequence.params.tokens_max - (sequence.token_count() - sequence.prompt_count);
}

void Scheduler::State::CountWaiting(const Sequence& sequence, int sign) {
  waiting_rows += sign * sequence.token_count();
}

std::optional<StepPlan> Scheduler::NextStep() {
  State& state = *state_;
  state.EndOverdue();
  const int32_t stages = state.options.steps_in_flight_max;
  if (steps_in_flight() >= stages) return std::nullopt;
  State::Pass pass;
  pass.prefill_budget = state.options.prefill_chunk_tokens;
  pass.decodes_left = (static_cast<int64_t>(state.running.size()) + stages - 1) / stages;
  state.MergeGathering();
  pass.drafts_left = state.DraftRows();
  state.PlanPass(pass);
  if (pass.plan.items.empty() && !state.cancelled_end) return std::nullopt;
  pass.plan.ends = std::exchange(state.ends, {});
  state.Send(pass.plan, std::move(pass.flight));
  return std::move(pass.plan);
}

std::optional<StepPlan> Scheduler::NextIdleStep() {
  if (steps_in_flight() >= state_->options.steps_in_flight_max) return std::nullopt;
  StepPlan plan;
  plan.ends = std::exchange(state_->ends, {});
  state_->Send(plan, {});
  return plan;
}

StepPlan Scheduler::StopStep() {
  StepPlan plan;
  plan.stop = true;
  plan.step = state_->next_step++;
  return plan;
}

void Scheduler::OnResult(StepResult result) {
  SHOAL_CHECK(!state_->in_flight.empty(), "no step is in flight, result of step ", result.step);
  const StepInFlight flight = std::move(state_->in_flight.front());
  state_->in_flight.pop_front();
  SHOAL_CHECK(flight.step == result.step && flight.items.size() == result.items.size(),
              "expected step ", flight.step, " with ", flight.items.size(), " items, found step ",
              result.step, " with ", result.items.size());
  for (size_t i = 0; i < flight.items.size(); ++i) {
    state_->TakeItem(flight.items[i], std::move(result.items[i]));
  }
}

std::vector<SequenceUpdate> Scheduler::TakeUpdates() {
  state_->update_of.clear();
  return std::exchange(state_->updates, {});
}

int32_t Scheduler::steps_in_flight() const {
  return static_cast<int32_t>(state_->in_flight.size());
}

int64_t Scheduler::deadline_left_ms(uint64_t id) const {
  const auto entry = state_->sequences.find(id);
  if (entry == state_->sequences.end() || !entry->second.deadline) return 0;
  return std::max<int64_t>(1, (*entry->second.deadline - state_->now) / kMillisecondNs);
}

bool Scheduler::idle() const { return state_->sequences.empty() && state_->in_flight.empty(); }

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats;
  stats.steps_total = static_cast<int64_t>(state_->next_step);
  stats.sequences_running = static_cast<int32_t>(state_->running.size());
  stats.requests_waiting = static_cast<int32_t>(state_->waiting.size() + state_->gathering.size());
  stats.kv_blocks_total = state_->blocks.block_count();
  stats.kv_blocks_used = stats.kv_blocks_total - state_->blocks.free_count();
  stats.kv_blocks_kept = state_->blocks.kept_count();
  stats.prefix_cache_queries_total = state_->prefix_queries;
  stats.prefix_cache_query_tokens_total = state_->prefix_query_tokens;
  stats.prefix_cache_hit_tokens_total = state_->prefix_hit_tokens;
  stats.preemptions_total = state_->preemptions;
  stats.drafted_tokens_total = state_->drafted_tokens;
  stats.accepted_tokens_total = state_->accepted_tokens;
  stats.prompt_rows_left = state_->waiting_rows;
  stats.tokens_left = state_->tokens_left;
  for (const auto& [turn, sequence] : state_->running) {
    if (sequence->prefilling()) stats.prompt_rows_left += sequence->start_count - sequence->planned;
  }
  stats.prompt_rows_total = state_->prompt_rows;
  stats.generated_tokens_total = state_->generated_tokens;
  stats.busy_us_total = state_->busy_ns * 1'000 / kMillisecondNs;
  return stats;
}

void Scheduler::ReportPrefixesAnew() { state_->prefixes.ReportAnew(); }

PrefixReport Scheduler::TakePrefixReport() { return state_->prefixes.TakeReport(); }

}  // namespace shoal::engine
