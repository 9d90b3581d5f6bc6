// Decides what a step computes. Sequences are visited in the order of their turns and blocks are
// only ever taken from later ones, so the first always advances, however small the cache is.
//
// Whatever arrives, every sequence that has started advances within a bounded number of steps. Let
// V be one, and E those that live and arrived before it: they are finitely many, and never more.
//   - A step passes V over if V lacks rows of the prompt budget or a block, while one that arrived
//     later gets such; or if V is preempted for one that arrived later. Then V counts it, or one of
//     E that is passed over too. Counts only grow, and at kPassedOverMax a sequence is promoted, so
//     after kPassedOverMax such steps for each of E and V, V is promoted, or has ended.
//   - Between two such steps, whatever V lacks goes to E alone, or is held by sequences that take
//     no more of it. The first of E always advances, and all of them have bounded lengths.
//   - When V is promoted, only those of E that are promoted too come before it; the first of these
//     takes what it needs from all others, until it ends.
//   - A sequence that only decodes lacks neither. With several stages a step may leave it out, but
//     those that it takes are under way until as many more steps are, and so cannot be in them; the
//     share of decodes_left times the stages is all that run.
//   - A start may also preempt V for its service class (scheduler_classes.cc): that counts as
//   above,
//     if V arrived before what starts. Promoted sequences are not preempted so, but for a better
//     class they may lose their promotion: only while FloorSequences() others that are promoted run
//     and arrived earlier. These are of E, so after the ends of as many of E as it takes V is
//     promoted for good. While prompts of a better class want rows, those of promoted ones get
//     fewer in a step, but at least one.
// One that waits for its start, at first or preempted, has the floor of ClassQueue; once it is
// promoted, nothing else starts before it, and what runs has a bounded length.

#include <algorithm>
#include <utility>

#include "transport/base/check.h"
#include "worker/engine/schedule/scheduler_state.h"

namespace shoal::engine {
namespace {

// A step with drafts has at most so many rows: while reading the weights takes most of the time,
// one more row costs little.
constexpr int64_t kCheapRows = 16;

}  // namespace

int32_t Scheduler::State::TakeBlock() {
  const int32_t block = blocks.Take();
  prefixes.Forget(block);
  return block;
}

void Scheduler::State::Vacate(Sequence& sequence) {
  blocks.Release(sequence.blocks);
  sequence.blocks.clear();
  slots_free.insert(sequence.slot);
  ends.push_back(sequence.slot);
  sequence.slot = kNoSlot;
  running.erase(sequence.turn);
}

void Scheduler::State::Preempt(Sequence& sequence) {
  Vacate(sequence);
  sequence.incarnation = incarnations++;
  sequence.prompt_logprobs.clear();  // Computed again, to the same bits.
  Enqueue(sequence);
  CountWaiting(sequence, 1);
  ++preemptions;
}

void Scheduler::State::PreemptFor(const Sequence& taker, Sequence& sequence, Pass& pass) {
  NoteTaker(sequence, taker.turn.arrival, pass);
  Preempt(sequence);
  ++sequence.preemptions;
  // Told at once: it may wait for long until there is anything else to tell.
  UpdateOf(sequence).preemptions = sequence.preemptions;
}

// Frees blocks of sequences whose turn is later than that of `sequence`, the last one first, until
// `wanted` are free. Those come later in the same pass, so none of them is in the plan yet.
void Scheduler::State::PreemptLater(const Sequence& sequence, int64_t wanted, Pass& pass) {
  while (blocks.free_count() < wanted && running.rbegin()->first > sequence.turn) {
    PreemptFor(sequence, *running.rbegin()->second, pass);
    pass.took_blocks = true;
  }
}

// Blocks that running sequences still need to finish what they started with, and one token.
int64_t Scheduler::State::BlocksPromised() const {
  int64_t promised = 0;
  for (const auto& [turn, sequence] : running) {
    promised += std::max<int64_t>(
        BlockPool::BlocksFor(sequence->start_count + 1) - sequence->block_count(), 0);
  }
  return promised;
}

// Plans up to `row_limit` rows, fewer if blocks are short. Result: the rows planned.
int64_t Scheduler::State::PlanRows(Sequence& sequence, int64_t row_limit, Pass& pass) {
  const bool prefilling = sequence.prefilling();
  int64_t row_end = sequence.planned + 1;
  if (prefilling) row_end = std::min(sequence.start_count, sequence.planned + row_limit);
  PreemptLater(sequence, BlockPool::BlocksFor(row_end) - sequence.block_count(), pass);
  const int64_t reach = (sequence.block_count() + blocks.free_count()) * BlockPool::kBlockTokens;
  row_end = std::min(row_end, reach);
  if (row_end <= sequence.planned) return 0;

  StepItem item;
  item.slot = sequence.slot;
  item.position_begin = static_cast<uint32_t>(sequence.planned);
  item.row_count = static_cast<uint32_t>(row_end - sequence.planned);
  item.sample = row_end == sequence.token_count() && sequence.params.tokens_max > 0;
  // Of a sequence that goes on, tokens of its answer may follow: their rows are not the prompt's.
  item.prompt_logits =
      prefilling && sequence.WantsPromptLogits() && sequence.planned < sequence.prompt_count;
  if (!prefilling) {
    item.drafts = Draft(sequence, pass);
    row_end += static_cast<int64_t>(item.drafts.size());
    item.row_count += static_cast<uint32_t>(item.drafts.size());
  }
  if (prefilling) pass.prompt_rows_to = std::max(pass.prompt_rows_to, sequence.turn.arrival);
  while (sequence.block_count() < BlockPool::BlocksFor(row_end)) {
    pass.blocks_to = std::max(pass.blocks_to, sequence.turn.arrival);
    item.new_blocks.push_back(TakeBlock());
    sequence.blocks.push_back(item.new_blocks.back());
  }
  for (; sequence.told < sequence.token_count(); ++sequence.told) {
    pass.plan.known.push_back({sequence.slot, sequence.tokens[static_cast<size_t>(sequence.told)]});
  }
  sequence.planned = row_end;
  std::vector<UnprovenBlock> unproven;
  if (prefilling) unproven = AddToPrefixes(sequence, row_end);
  pass.flight.items.push_back(
      {sequence.id, sequence.incarnation, item, std::move(unproven), prefilling});
  pass.plan.items.push_back(std::move(item));
  return pass.flight.items.back().item.row_count;
}

// Rows that a step may spend on drafts: none while a prompt could use them.
int64_t Scheduler::State::DraftRows() const {
  if (options.speculation_tokens_max == 0) return 0;
  if (!waiting.empty() && !slots_free.empty()) return 0;
  for (const auto& [turn, sequence] : running) {
    if (sequence->prefilling()) return 0;
  }
  return std::max<int64_t>(kCheapRows - static_cast<int64_t>(running.size()), 0);
}

// Guesses how `sequence`, which decodes, goes on: within its length, the step and the free blocks.
std::vector<int32_t> Scheduler::State::Draft(const Sequence& sequence, Pass& pass) const {
  const int64_t tokens = sequence.token_count();
  const int64_t tokens_end = std::min(options.context_tokens - tokens,
                                      sequence.params.tokens_max + sequence.prompt_count - tokens);
  const int64_t reach = (sequence.block_count() + blocks.free_count()) * BlockPool::kBlockTokens;
  // The last token of all needs no row.
  std::vector<int32_t> draft = LookUpDraft(
      sequence.tokens,
      std::min({pass.drafts_left, pass.prefill_budget, sequence.drafts.limit(), tokens_end - 1,
                reach - tokens, int64_t{options.speculation_tokens_max}}));
  pass.drafts_left -= static_cast<int64_t>(draft.size());
  pass.prefill_budget -= static_cast<int64_t>(draft.size());  // Drafts and prompts share it.
  return draft;
}

// The blocks that hold the sequence's first positions already. Never the last token's, whose row
// must be computed: so no block that is shared is ever written.
std::vector<PrefixCache::Hit> Scheduler::State::FindPrefix(const Sequence& sequence) const {
  std::vector<PrefixCache::Hit> hits;
  if (!options.prefix_cache || !sequence.SharesBlocks()) return hits;
  const std::string& salt = sequence.salt;
  PrefixCache::Node node = prefixes.Root(salt);
  const std::span<const int32_t> tokens = sequence.tokens;
  for (size_t begin = 0; begin + BlockPool::kBlockTokens < tokens.size();
       begin += BlockPool::kBlockTokens) {
    const auto hit = prefixes.Find(node, tokens.subspan(begin, BlockPool::kBlockTokens), salt);
    if (!hit) break;
    node = hit->node;
    hits.push_back(*hit);
  }
  return hits;
}

// Found ones that nobody has included.
int64_t Scheduler::State::BlocksToStart(const Sequence& sequence,
                                        const std::vector<PrefixCache::Hit>& hits) const {
  const int64_t taken = std::count_if(hits.begin(), hits.end(), [&](const PrefixCache::Hit& hit) {
    return blocks.taken(hit.block);
  });
  return BlockPool::BlocksFor(sequence.token_count() + 1) - taken;
}

// Where nothing runs all blocks are free, and a request that never fits was refused at once; a full
// sequence has no further token, so it may need one block less.
bool Scheduler::State::HasBlocks(int64_t need) const {
  return running.empty() || need <= blocks.free_count() - BlocksPromised();
}

// Result: false if there is no room for it now.
bool Scheduler::State::PlanStart(Sequence& sequence, Pass& pass) {
  while (slots_free.empty()) {
    if (!PreemptWorse(sequence, pass)) return false;
  }
  const std::vector<PrefixCache::Hit> hits = FindPrefix(sequence);
  const auto hit_count = static_cast<int64_t>(hits.size());
  // What is preempted now leaves the blocks that were found in the cache.
  while (!HasBlocks(BlocksToStart(sequence, hits))) {
    if (!PreemptWorse(sequence, pass)) return false;
  }

  CountWaiting(sequence, -1);
  sequence.turn = waiting.front_turn();  // It may have been promoted.
  waiting.Serve(sequence.turn);
  running.emplace(sequence.turn, &sequence);
  sequence.slot = *slots_free.begin();
  slots_free.erase(slots_free.begin());
  sequence.start_count = sequence.token_count();
  sequence.told = sequence.start_count;
  sequence.found_count = hit_count * BlockPool::kBlockTokens;
  sequence.planned = sequence.found_count;
  for (const PrefixCache::Hit& hit : hits) {
    blocks.Share(hit.block);
    sequence.blocks.push_back(hit.block);
  }
  sequence.chain = hits.empty() ? prefixes.Root(sequence.salt) : hits.back().node;
  sequence.chain_blocks = hit_count;
  if (options.prefix_cache && sequence.SharesBlocks()) {
    ++prefix_queries;
    prefix_query_tokens += sequence.token_count();
    prefix_hit_tokens += sequence.planned;
  }
  pass.plan.starts.push_back({sequence.slot, sequence.id, sequence.tokens,
                              static_cast<uint32_t>(sequence.prompt_count), sequence.params,
                              sequence.blocks});
  const int64_t rows = PlanRows(sequence, RowLimit(sequence, pass), pass);
  SHOAL_CHECK(rows > 0, "sequence ", sequence.id, " started without a block");
  pass.prefill_budget -= rows;
  return true;
}

// Starts waiting requests whose turn is before `turn`: one that does not fit holds back the rest.
void Scheduler::State::PlanStartsBefore(const Turn& turn, Pass& pass) {
  while (pass.starts && !waiting.empty() && waiting.front_turn() < turn &&
         pass.prefill_budget > 0) {
    pass.starts = PlanStart(*waiting.front(), pass);
  }
}

std::optional<TimeNs> Scheduler::State::merge_time() const {
  if (gathering.empty()) return std::nullopt;
  return gathering.begin()->second->submitted + options.batch_delay_max_ms * kMillisecondNs;
}

void Scheduler::State::MergeGathering() {
  const bool enough = static_cast<int64_t>(gathering.size()) > options.batch_queue_min;
  if (!enough && (gathering.empty() || now < *merge_time())) return;
  for (const auto& [arrival, sequence] : gathering) Enqueue(*sequence);
  gathering.clear();
}

void Scheduler::State::EndOverdue() {
  while (!deadlines.empty() && deadlines.begin()->first <= now) {
    Finish(deadlines.begin()->second, FinishReason::kCancelled, std::string(kDeadlineOver));
  }
}

void Scheduler::State::PlanPass(Pass& pass) {
  LimitFloor();
  LimitFloorRows(pass);
  for (auto entry = running.begin(); entry != running.end(); ++entry) {
    // What was just preempted must not take its blocks back in the same step.
    if (!pass.took_blocks) {
      // What starts comes before the current one, and may take its place only if it is the last.
      const Turn turn = entry->first;
      PlanStartsBefore(turn, pass);
      entry = running.lower_bound(turn);
      if (entry == running.end()) break;
    }
    // Sequences after the current one may be preempted meanwhile, itself never.
    if (entry->second->CanAdvance()) PlanRunning(*entry->second, pass);
  }
  if (!pass.took_blocks) PlanStartsBefore({INT64_MAX, UINT64_MAX}, pass);
  if (pass.passed_over != nullptr) CountPassedOver(*pass.passed_over);
}

// What the sequence lacks has gone to sequences before it in the pass: from those after it, it
// takes what it needs.
void Scheduler::State::PlanRunning(Sequence& sequence, Pass& pass) {
  const bool prefilling = sequence.prefilling();
  const int64_t row_limit = prefilling ? RowLimit(sequence, pass) : pass.decodes_left;
  if (row_limit > 0) {
    const int64_t rows = PlanRows(sequence, row_limit, pass);
    if (prefilling) pass.prefill_budget -= rows;
    if (!prefilling) pass.decodes_left -= std::min<int64_t>(rows, 1);
    if (rows > 0) return;
  } else if (prefilling) {
    NoteTaker(sequence, pass.prompt_rows_to, pass);
  }
  // Also if it does not decode in this step: when it next may, the block would be gone.
  const bool needs_block = sequence.planned == sequence.block_count() * BlockPool::kBlockTokens;
  if (needs_block && blocks.free_count() == 0) NoteTaker(sequence, pass.blocks_to, pass);
}

void Scheduler::State::NoteTaker(Sequence& sequence, uint64_t taker, Pass& pass) {
  const Turn& turn = sequence.turn;
  if (sequence.promoted() || turn.arrival >= taker) return;
  if (pass.passed_over == nullptr || turn.arrival < pass.passed_over->turn.arrival) {
    pass.passed_over = &sequence;
  }
}

void Scheduler::State::CountPassedOver(Sequence& sequence) {
  if (++sequence.passed_over < kPassedOverMax) return;
  if (sequence.slot == kNoSlot) {  // It was preempted.
    waiting.Promote(sequence.turn.arrival);
    return;
  }
  running.erase(sequence.turn);
  sequence.turn.rank = kPromotedRank;
  running.emplace(sequence.turn, &sequence);
}

// Gives `plan` its number.
void Scheduler::State::Send(StepPlan& plan, StepInFlight flight) {
  busy = busy || !plan.items.empty();
  plan.step = next_step++;
  flight.step = plan.step;
  in_flight.push_back(std::move(flight));
  cancelled_end = false;
}

}  // namespace shoal::engine
