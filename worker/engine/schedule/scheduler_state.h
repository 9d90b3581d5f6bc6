#pragma once

// The scheduler's state and its two halves: planning (scheduler_plan.cc) and taking results
// (scheduler_result.cc). Included by the scheduler's own files.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "worker/engine/cache/block_pool.h"
#include "worker/engine/cache/prefix_cache.h"
#include "worker/engine/schedule/scheduler.h"
#include "worker/engine/schedule/sequence.h"

namespace shoal::engine {

struct Scheduler::State {
  explicit State(const SchedulerOptions& scheduler_options);

  // What a pass over the sequences builds, and what is left to give away in it.
  struct Pass {
    StepPlan plan;
    StepInFlight flight;
    int64_t prefill_budget = 0;
    int64_t decodes_left = 0;
    int64_t drafts_left = 0;
    bool starts = true;        // False once one must wait: those after it then wait too.
    bool took_blocks = false;  // From running sequences, for one that runs.
    // The best class that prompts want rows of: each promoted prompt of a worse one gets at most
    // floor_rows. None: nobody minds.
    std::optional<ServiceClass> prompts_of{};
    int64_t floor_rows = 0;
    // The latest arrival among the sequences that got prompt rows, and among those that took
    // blocks.
    uint64_t prompt_rows_to = 0;
    uint64_t blocks_to = 0;
    Sequence* passed_over = nullptr;  // The first to arrive of those that the pass passed over.
  };

  // Planning.
  void PlanPass(Pass& pass);
  int64_t DraftRows() const;
  void EndOverdue();
  void Send(StepPlan& plan, StepInFlight flight);

  // Results.
  void TakeItem(const ItemInFlight& flight, ItemResult result);

  void Finish(uint64_t id, FinishReason reason, std::string detail);
  // Adds `sequence` to those that may start, or start again.
  void Enqueue(Sequence& sequence) { waiting.Add(sequence.turn, &sequence); }
  // Lets those that gather start, if there are enough of them or one has waited long enough.
  void MergeGathering();
  std::optional<TimeNs> merge_time() const;
  // What is reported of those that wait; `sign`: 1 when it begins to, -1 when it no longer does.
  void CountWaiting(const Sequence& sequence, int sign);
  // Tokens that it may still generate.
  static int64_t TokensLeft(const Sequence& sequence);

  const SchedulerOptions options;
  BlockPool blocks;
  PrefixCache prefixes;
  std::unordered_map<uint64_t, Sequence> sequences;  // By id; references stay valid.
  TimeNs now = 0;
  bool busy = false;  // A step was under way at some time since `now`.
  std::set<std::pair<TimeNs, uint64_t>> deadlines;  // Of those that live, with their ids.
  std::map<uint64_t, Sequence*> gathering;          // By arrival: those that may not start yet.
  ClassQueue<Sequence*> waiting;
  std::map<Turn, Sequence*> running;
  std::set<uint32_t> slots_free;  // Also those in `ends`.
  std::vector<uint32_t> ends;     // Not yet told to the ranks.
  bool cancelled_end = false;     // One of `ends` must not wait for other work.
  std::deque<StepInFlight> in_flight;
  std::vector<SequenceUpdate> updates;
  std::unordered_map<uint64_t, size_t> update_of;  // Position in `updates`, by id.
  uint64_t arrivals = 0;
  uint64_t incarnations = 0;  // Unique: results of an earlier use of the same id are ignored.
  uint64_t next_step = 0;
  int64_t preemptions = 0;
  int64_t drafted_tokens = 0;
  int64_t accepted_tokens = 0;
  int64_t prefix_queries = 0;
  int64_t prefix_query_tokens = 0;
  int64_t prefix_hit_tokens = 0;
  int64_t waiting_rows = 0;  // As SchedulerStats::prompt_rows_left, of those that wait or gather.
  int64_t tokens_left = 0;   // As SchedulerStats::tokens_left.
  int64_t prompt_rows = 0;
  int64_t generated_tokens = 0;
  TimeNs busy_ns = 0;

 private:
  int32_t TakeBlock();
  // Takes the slot and the blocks from a running sequence.
  void Vacate(Sequence& sequence);
  void Preempt(Sequence& sequence);  // It is computed again.
  void PreemptFor(const Sequence& taker, Sequence& sequence, Pass& pass);
  void PreemptLater(const Sequence& sequence, int64_t wanted, Pass& pass);
  int64_t BlocksPromised() const;
  int64_t PlanRows(Sequence& sequence, int64_t row_limit, Pass& pass);
  std::vector<int32_t> Draft(const Sequence& sequence, Pass& pass) const;
  void PlanStartsBefore(const Turn& turn, Pass& pass);
  bool PlanStart(Sequence& sequence, Pass& pass);
  // The blocks that it would take from the free ones.
  int64_t BlocksToStart(const Sequence& sequence, const std::vector<PrefixCache::Hit>& hits) const;
  bool HasBlocks(int64_t need) const;
  std::vector<PrefixCache::Hit> FindPrefix(const Sequence& sequence) const;
  void PlanRunning(Sequence& sequence, Pass& pass);
  // `sequence` lacks what went to the sequence of arrival `taker`, or was preempted for it.
  static void NoteTaker(Sequence& sequence, uint64_t taker, Pass& pass);
  void CountPassedOver(Sequence& sequence);

  // Between classes (scheduler_classes.cc).
  int64_t FloorSequences() const;
  std::optional<ServiceClass> BestWaiting() const;
  Sequence* FindWorse(ServiceClass service_class) const;
  bool PreemptWorse(const Sequence& front, Pass& pass);
  void LimitFloor();
  void LimitFloorRows(Pass& pass) const;
  bool CouldStart(const Sequence& sequence) const;
  int64_t RowLimit(const Sequence& sequence, const Pass& pass) const;

  SequenceUpdate& UpdateOf(const Sequence& sequence);
  void TakePromptLogprobs(Sequence& sequence, const StepItem& item, ItemResult& result);
  void TakeChosen(Sequence& sequence, const StepItem& item, ItemResult& result);
  bool TakeToken(Sequence& sequence, ChosenToken chosen);
  // Lets others find the full blocks of rows [0, row_end), whose tokens are sure. Result: those
  // that they could not find before.
  std::vector<UnprovenBlock> AddToPrefixes(Sequence& sequence, int64_t row_end);
  // Row `position` is bad: nobody may read it, or the rows after it.
  void Withdraw(const std::vector<UnprovenBlock>& unproven, int64_t position);
};

}  // namespace shoal::engine
