#pragma once

// Decides what each step of a group computes: iteration-level batching over a paged KV cache.
//
// Pure: no threads or I/O, and the time is what it is told. The leader rank owns one; tests drive
// it with a fake model.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "transport/base/clock.h"
#include "transport/base/generation/prefix_hash.h"
#include "transport/base/generation/sequence_request.h"
#include "transport/base/group.h"
#include "worker/engine/step_plan.h"

namespace shoal::engine {

// When requests that wait may join the running ones.
enum class BatchPolicy : uint8_t {
  kContinuous,  // With the next step.
  // All at once: when more than batch_queue_min wait, or one has waited for batch_delay_max_ms.
  kThreshold,
};

struct SchedulerOptions {
  int32_t sequences_max = 32;           // Sequences that run at once (slots).
  int32_t requests_waiting_max = 1024;  // Requests that wait and have no free slot.
  int64_t prefill_chunk_tokens = 512;   // Prompt rows of one step, all sequences together.
  int64_t kv_block_count = 0;           // Blocks of 32 positions.
  int64_t context_tokens = 0;           // Longest sequence; generation stops there with kLength.
  int32_t steps_in_flight_max = 1;      // The number of pipeline stages.
  BatchPolicy batch_policy = BatchPolicy::kContinuous;
  int32_t batch_queue_min = 10;
  int64_t batch_delay_max_ms = 50;
  // Tokens of one sequence that a step may guess and verify; 0: none.
  int32_t speculation_tokens_max = 0;
  // Blocks are found by sequences of the same prefix, and kept when theirs have ended.
  bool prefix_cache = false;
  std::string prefix_secret{};  // See PrefixCache.
  std::string numerics_id{};
};

enum class [[nodiscard]] SubmitOutcome : uint8_t{
    kAccepted,
    kQueueFull,  // Try another group, or later.
    kNeverFits,  // Longer than the context or than the whole cache: tell the user.
};

// Order:     by service class, then by priority, lower ones first, and of one priority first come,
//            first served; with a floor, so that whatever arrives, none waits for ever
//            (class_queue.h for its start, scheduler_plan.cc from then on). Every step visits the
//            running sequences in this order: those that can decode get one row, those in their
//            prompt what is left of the prefill budget; waiting requests start in their turn. So a
//            decode waits for at most one chunk of prompts. With several steps in flight a step
//            decodes at most its share of the running sequences, so that every pipeline stage has
//            work.
// Blocks:    taken as positions are needed. When none are free, the sequence whose turn is last is
//            preempted: its blocks are freed and it waits in its turn, with its tokens, to be
//            recomputed. A request that has waited is never failed for lack of blocks.
// Classes:   a request for which there is no slot, or no block, takes those of sequences of a worse
//            service class, the worst and of it the last one first; these wait as above. So it is
//            behind their prompts for no longer than the steps under way take, but for the floor
//            (scheduler_classes.cc).
// Deadlines: a sequence whose deadline is over ends with the next plan, whether it has started or
//            not: TakeUpdates reports kCancelled with kDeadlineOver.
// Prefixes:  with prefix_cache, full blocks that were computed without an error stay until their
//            memory is needed, least recently used first; a sequence starts after those that it
//            finds. Never with prompt_logprobs, and at least its last token is computed.
// Drafts:    with speculation_tokens_max, a decode may carry guessed tokens (prompt_lookup.h), each
//            with a row of its own; they are taken while they are what the rows before them chose,
//            so streams are those of plain decoding. Only in steps that no prompt has work for, and
//            that stay small.
// Threading: one thread.
class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);
  ~Scheduler();

  // As CheckRequest wants it, and its id is not that of a live sequence. With `generated` it goes
  // on as if it had generated those tokens here and had been preempted since; updates tell of what
  // comes after them. kNeverFits: the prompt and `generated` leave no room in the context (for one
  // more token, unless tokens_max is 0), or the prompt and tokens_max, cut at the context, exceed
  // the cache.
  SubmitOutcome Submit(SequenceRequest request);

  // Frees the sequence's slot and blocks with the next plan; TakeUpdates reports kCancelled.
  // Unknown or finished ids are ignored.
  void Cancel(uint64_t id);
  void CancelAll();

  // What time it is; it never goes back. Deadlines count from the last time that it was told, and
  // what is under way between two such times makes them busy. Plans depend on it only for
  // deadlines, and with BatchPolicy::kThreshold.
  void SetTime(TimeNs now);
  // When NextStep may have a plan although nothing else happens: those that wait will have waited
  // long enough, or a deadline is over.
  std::optional<TimeNs> wake_time() const;

  // The next plan, or nothing if no sequence can advance now (all in flight, or none there). Plans
  // with only ends, starts or known tokens are not sent alone, except that a cancelled sequence's
  // end is.
  std::optional<StepPlan> NextStep();

  // A plan without items, so that ranks hear from an idle leader; nothing if too many are in
  // flight.
  std::optional<StepPlan> NextIdleStep();

  // The last plan. It has no result.
  StepPlan StopStep();

  // Results arrive in the order of their plans, one for every plan but the last.
  void OnResult(StepResult result);

  // What happened since the last call, in a stable order; also that a sequence was preempted.
  std::vector<SequenceUpdate> TakeUpdates();

  int32_t steps_in_flight() const;
  // What is left of that sequence's deadline, at least 1. 0: it has none, or is not there.
  int64_t deadline_left_ms(uint64_t id) const;
  bool idle() const;  // Nothing runs, waits or is in flight.
  SchedulerStats stats() const;

  // As PrefixCache's.
  void ReportPrefixesAnew();
  PrefixReport TakePrefixReport();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace shoal::engine
