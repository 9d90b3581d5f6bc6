// Decides what each step computes. Sequences are visited oldest first and blocks are only ever
// taken from younger ones, so the oldest always advances and every request ends, however small the
// cache is.

#include "worker/engine/scheduler.h"

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>

#include "transport/base/check.h"
#include "worker/engine/block_pool.h"

namespace shoal::engine {
namespace {

constexpr uint32_t kNoSlot = UINT32_MAX;

struct Sequence {
  uint64_t id = 0;
  uint64_t arrival = 0;
  GenerationParams params;
  int64_t prompt_count = 0;
  std::vector<int32_t> tokens;  // The prompt, then what was generated.

  // While it runs:
  uint32_t slot = kNoSlot;
  uint64_t incarnation = 0;  // New with every preemption: results of an older one are ignored.
  int64_t start_count =
      0;                // Tokens that its SequenceStart carried; later ones are known one by one.
  int64_t planned = 0;  // Rows [0, planned) are in plans.
  std::vector<int32_t> blocks;

  // Gathered until the last row of the prompt is there, then delivered at once.
  std::vector<TokenLogprobs> prompt_logprobs;
  bool prompt_delivered = false;

  int64_t token_count() const { return static_cast<int64_t>(tokens.size()); }
  int64_t block_count() const { return static_cast<int64_t>(blocks.size()); }
  bool prefilling() const { return planned < start_count; }
  // The token of row `planned` is there.
  bool CanAdvance() const { return planned < token_count(); }
  bool WantsPromptLogits() const { return params.prompt_logprobs && !prompt_delivered; }
};

// What OnResult must know about an item of a plan that is in flight.
struct ItemInFlight {
  uint64_t id = 0;
  uint64_t incarnation = 0;
  StepItem item;
};

struct StepInFlight {
  uint64_t step = 0;
  std::vector<ItemInFlight> items;
};

}  // namespace

struct Scheduler::State {
  explicit State(const SchedulerOptions& scheduler_options)
      : options(scheduler_options), blocks(scheduler_options.kv_block_count) {
    for (int32_t slot = 0; slot < options.sequences_max; ++slot) {
      slots_free.insert(static_cast<uint32_t>(slot));
    }
  }

  SchedulerOptions options;
  BlockPool blocks;
  std::unordered_map<uint64_t, Sequence> sequences;  // By id; references stay valid.
  std::map<uint64_t, Sequence*> waiting;             // By arrival.
  std::map<uint64_t, Sequence*> running;             // By arrival.
  std::set<uint32_t> slots_free;                     // Also those in `ends`.
  std::vector<uint32_t> ends;                        // Not yet told to the ranks.
  bool cancelled_end = false;                        // One of `ends` must not wait for other work.
  std::deque<StepInFlight> in_flight;
  std::vector<SequenceUpdate> updates;
  std::unordered_map<uint64_t, size_t> update_of;  // Position in `updates`, by id.
  uint64_t arrivals = 0;
  uint64_t incarnations = 0;  // Unique, so that an id that is used again hears nothing of its past.
  uint64_t next_step = 0;
  int64_t preemptions = 0;

  SequenceUpdate& UpdateOf(uint64_t id) {
    const auto [entry, inserted] = update_of.try_emplace(id, updates.size());
    if (inserted) updates.emplace_back().id = id;
    return updates[entry->second];
  }

  // Takes the slot and the blocks from a running sequence.
  void Vacate(Sequence& sequence) {
    blocks.Release(sequence.blocks);
    sequence.blocks.clear();
    slots_free.insert(sequence.slot);
    ends.push_back(sequence.slot);
    sequence.slot = kNoSlot;
    running.erase(sequence.arrival);
  }

  void Finish(uint64_t id, FinishReason reason, std::string detail) {
    const auto entry = sequences.find(id);
    SHOAL_CHECK(entry != sequences.end(), "sequence ", id);
    Sequence& sequence = entry->second;
    if (sequence.slot != kNoSlot) {
      Vacate(sequence);
      if (reason == FinishReason::kCancelled) cancelled_end = true;
    } else {
      waiting.erase(sequence.arrival);
    }
    SequenceUpdate& update = UpdateOf(id);
    update.finish = reason;
    update.detail = std::move(detail);
    update_of.erase(id);  // Nothing may be added to what is finished.
    sequences.erase(entry);
  }

  void Preempt(Sequence& sequence) {
    Vacate(sequence);
    sequence.incarnation = incarnations++;
    sequence.prompt_logprobs.clear();  // Computed again, to the same bits.
    waiting.emplace(sequence.arrival, &sequence);
    ++preemptions;
  }

  // Frees blocks of sequences younger than `sequence`, youngest first, until `wanted` are free.
  // Those come later in the same pass, so none of them is in the plan yet.
  void PreemptYounger(const Sequence& sequence, int64_t wanted) {
    while (blocks.free_count() < wanted && running.rbegin()->first > sequence.arrival) {
      Preempt(*running.rbegin()->second);
    }
  }

  // Blocks that running sequences still need to finish what they started with, and one token.
  int64_t BlocksPromised() const {
    int64_t promised = 0;
    for (const auto& [arrival, sequence] : running) {
      promised += std::max<int64_t>(
          BlockPool::BlocksFor(sequence->start_count + 1) - sequence->block_count(), 0);
    }
    return promised;
  }

  // Plans up to `row_limit` rows, fewer if blocks are short. Result: the rows planned.
  int64_t PlanRows(Sequence& sequence, int64_t row_limit, StepPlan& plan, StepInFlight& flight) {
    const bool prefilling = sequence.prefilling();
    int64_t row_end = sequence.planned + 1;
    if (prefilling) row_end = std::min(sequence.start_count, sequence.planned + row_limit);
    PreemptYounger(sequence, BlockPool::BlocksFor(row_end) - sequence.block_count());
    const int64_t reach = (sequence.block_count() + blocks.free_count()) * BlockPool::kBlockTokens;
    row_end = std::min(row_end, reach);
    if (row_end <= sequence.planned) return 0;

    StepItem item;
    item.slot = sequence.slot;
    item.position_begin = static_cast<uint32_t>(sequence.planned);
    item.row_count = static_cast<uint32_t>(row_end - sequence.planned);
    item.sample = row_end == sequence.token_count() && sequence.params.tokens_max > 0;
    item.prompt_logits = prefilling && sequence.WantsPromptLogits();
    while (sequence.block_count() < BlockPool::BlocksFor(row_end)) {
      item.new_blocks.push_back(blocks.Take());
      sequence.blocks.push_back(item.new_blocks.back());
    }
    if (!prefilling) {
      plan.known.push_back({sequence.slot, sequence.tokens[static_cast<size_t>(sequence.planned)]});
    }
    sequence.planned = row_end;
    flight.items.push_back({sequence.id, sequence.incarnation, item});
    plan.items.push_back(std::move(item));
    return flight.items.back().item.row_count;
  }

  void PlanRunning(int64_t& prefill_budget, StepPlan& plan, StepInFlight& flight) {
    const int64_t stages = options.steps_in_flight_max;
    int64_t decodes_left = (static_cast<int64_t>(running.size()) + stages - 1) / stages;
    // Sequences after the current one may be preempted meanwhile, itself never; so the iterator
    // holds.
    for (auto entry = running.begin(); entry != running.end(); ++entry) {
      Sequence& sequence = *entry->second;
      if (!sequence.CanAdvance()) continue;
      if (sequence.prefilling()) {
        if (prefill_budget > 0) prefill_budget -= PlanRows(sequence, prefill_budget, plan, flight);
      } else if (decodes_left > 0) {
        decodes_left -= PlanRows(sequence, 1, plan, flight);
      }
    }
  }

  // Starts waiting requests, first come, first served: one that does not fit holds back the rest.
  void PlanStarts(int64_t& prefill_budget, StepPlan& plan, StepInFlight& flight) {
    int64_t promised = BlocksPromised();
    while (prefill_budget > 0 && !waiting.empty() && !slots_free.empty()) {
      Sequence& sequence = *waiting.begin()->second;
      const int64_t need = BlockPool::BlocksFor(sequence.token_count() + 1);
      // Nothing runs: all blocks are free, and a request that never fits was refused at once. A
      // full sequence has no further token, so it may need one block less than `need`.
      if (!running.empty() && need > blocks.free_count() - promised) return;
      waiting.erase(waiting.begin());
      running.emplace(sequence.arrival, &sequence);
      sequence.slot = *slots_free.begin();
      slots_free.erase(slots_free.begin());
      sequence.start_count = sequence.token_count();
      sequence.planned = 0;
      plan.starts.push_back({sequence.slot, sequence.id, sequence.tokens,
                             static_cast<uint32_t>(sequence.prompt_count), sequence.params});
      const int64_t rows = PlanRows(sequence, prefill_budget, plan, flight);
      SHOAL_CHECK(rows > 0, "sequence ", sequence.id, " started without a block");
      prefill_budget -= rows;
      promised += std::max<int64_t>(need - sequence.block_count(), 0);
    }
  }

  // Gives `plan` its number and what every plan carries.
  void Send(StepPlan& plan, StepInFlight flight) {
    plan.step = next_step++;
    flight.step = plan.step;
    in_flight.push_back(std::move(flight));
    cancelled_end = false;
  }

  void TakePromptLogprobs(Sequence& sequence, const StepItem& item, ItemResult& result) {
    // The token after the prompt's last row is not of the prompt.
    const int64_t wanted = std::min<int64_t>(
        item.row_count, sequence.prompt_count - 1 - static_cast<int64_t>(item.position_begin));
    if (wanted > 0) {
      SHOAL_CHECK(static_cast<int64_t>(result.prompt_logprobs.size()) >= wanted, "slot ", item.slot,
                  ": ", result.prompt_logprobs.size(), " log-probabilities for ", wanted, " rows");
      const auto begin = std::make_move_iterator(result.prompt_logprobs.begin());
      sequence.prompt_logprobs.insert(sequence.prompt_logprobs.end(), begin, begin + wanted);
    }
    if (item.position_begin + item.row_count < sequence.prompt_count) return;
    UpdateOf(sequence.id).prompt_logprobs = std::move(sequence.prompt_logprobs);
    sequence.prompt_logprobs.clear();
    sequence.prompt_delivered = true;
  }

  void TakeToken(Sequence& sequence, ItemResult& result) {
    SHOAL_CHECK(result.token >= 0, "slot ", result.slot, " sampled no token");
    sequence.tokens.push_back(result.token);
    SequenceUpdate& update = UpdateOf(sequence.id);
    update.tokens.push_back(result.token);
    if (sequence.params.top_logprobs >= 0) update.logprobs.push_back(std::move(result.logprobs));
    const std::vector<int32_t>& stops = sequence.params.stop_ids;
    if (std::find(stops.begin(), stops.end(), result.token) != stops.end()) {
      Finish(sequence.id, FinishReason::kStop, "");
    } else if (sequence.token_count() - sequence.prompt_count >= sequence.params.tokens_max ||
               sequence.token_count() >= options.context_tokens) {
      Finish(sequence.id, FinishReason::kLength, "");
    }
  }

  void TakeItem(const ItemInFlight& flight, ItemResult result) {
    SHOAL_CHECK(flight.item.slot == result.slot, "expected slot ", flight.item.slot, ", found ",
                result.slot);
    const auto entry = sequences.find(flight.id);
    if (entry == sequences.end() || entry->second.incarnation != flight.incarnation) return;
    Sequence& sequence = entry->second;
    if (result.numeric_error) {
      Finish(sequence.id, FinishReason::kNumericError, std::move(result.detail));
      return;
    }
    if (flight.item.prompt_logits) TakePromptLogprobs(sequence, flight.item, result);
    if (flight.item.sample) {
      TakeToken(sequence, result);
    } else if (sequence.params.tokens_max == 0 &&
               flight.item.position_begin + flight.item.row_count == sequence.prompt_count) {
      Finish(sequence.id, FinishReason::kLength, "");
    }
  }
};

Scheduler::Scheduler(const SchedulerOptions& options) {
  SHOAL_CHECK(options.sequences_max > 0 && options.requests_waiting_max >= 0 &&
                  options.prefill_chunk_tokens > 0 && options.kv_block_count > 0 &&
                  options.context_tokens > 0 && options.steps_in_flight_max > 0,
              "sequences ", options.sequences_max, ", waiting ", options.requests_waiting_max,
              ", chunk ", options.prefill_chunk_tokens, ", blocks ", options.kv_block_count,
              ", context ", options.context_tokens, ", in flight ", options.steps_in_flight_max);
  state_ = std::make_unique<State>(options);
}

Scheduler::~Scheduler() = default;

SubmitOutcome Scheduler::Submit(uint64_t id, std::vector<int32_t> prompt,
                                const GenerationParams& params) {
  SHOAL_CHECK(!prompt.empty(), "sequence ", id, " has no prompt");
  SHOAL_CHECK(!state_->sequences.contains(id), "sequence ", id, " is there already");
  const SchedulerOptions& options = state_->options;
  const auto prompt_count = static_cast<int64_t>(prompt.size());
  const int64_t room = options.context_tokens - prompt_count;
  if (room < std::min<int64_t>(params.tokens_max, 1)) return SubmitOutcome::kNeverFits;
  const int64_t longest = prompt_count + std::min(params.tokens_max, room);
  if (longest > options.kv_block_count * BlockPool::kBlockTokens) {
    return SubmitOutcome::kNeverFits;
  }
  // A request that a free slot is there for does not count as waiting.
  if (state_->waiting.size() >=
      static_cast<size_t>(options.requests_waiting_max) + state_->slots_free.size()) {
    return SubmitOutcome::kQueueFull;
  }
  Sequence sequence;
  sequence.id = id;
  sequence.arrival = state_->arrivals++;
  sequence.incarnation = state_->incarnations++;
  sequence.params = params;
  sequence.prompt_count = prompt_count;
  sequence.tokens = std::move(prompt);
  Sequence& stored = state_->sequences.emplace(id, std::move(sequence)).first->second;
  state_->waiting.emplace(stored.arrival, &stored);
  return SubmitOutcome::kAccepted;
}

void Scheduler::Cancel(uint64_t id) {
  if (state_->sequences.contains(id)) state_->Finish(id, FinishReason::kCancelled, "");
}

void Scheduler::CancelAll() {
  while (!state_->running.empty()) Cancel(state_->running.begin()->second->id);
  while (!state_->waiting.empty()) Cancel(state_->waiting.begin()->second->id);
}

std::optional<StepPlan> Scheduler::NextStep() {
  State& state = *state_;
  if (steps_in_flight() >= state.options.steps_in_flight_max) return std::nullopt;
  StepPlan plan;
  StepInFlight flight;
  const int64_t preemptions_before = state.preemptions;
  int64_t prefill_budget = state.options.prefill_chunk_tokens;
  state.PlanRunning(prefill_budget, plan, flight);
  // What was just preempted must not take its blocks back in the same step.
  if (state.preemptions == preemptions_before) state.PlanStarts(prefill_budget, plan, flight);
  if (plan.items.empty() && !state.cancelled_end) return std::nullopt;
  plan.ends = std::exchange(state.ends, {});
  state.Send(plan, std::move(flight));
  return plan;
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

bool Scheduler::idle() const { return state_->sequences.empty() && state_->in_flight.empty(); }

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats;
  stats.steps_total = static_cast<int64_t>(state_->next_step);
  stats.sequences_running = static_cast<int32_t>(state_->running.size());
  stats.requests_waiting = static_cast<int32_t>(state_->waiting.size());
  stats.kv_blocks_total = state_->blocks.block_count();
  stats.kv_blocks_used = stats.kv_blocks_total - state_->blocks.free_count();
  return stats;
}

int64_t Scheduler::preemptions_total() const { return state_->preemptions; }

}  // namespace shoal::engine
