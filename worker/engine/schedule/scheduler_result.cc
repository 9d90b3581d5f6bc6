// What a step's result does to the sequences that it computed.

#include <algorithm>
#include <iterator>
#include <utility>

#include "transport/base/check.h"
#include "worker/engine/schedule/scheduler_state.h"

namespace shoal::engine {

// To be called before anything is added to the sequence that the update tells of.
SequenceUpdate& Scheduler::State::UpdateOf(const Sequence& sequence) {
  const auto [entry, inserted] = update_of.try_emplace(sequence.id, updates.size());
  if (inserted) {
    SequenceUpdate& update = updates.emplace_back();
    update.id = sequence.id;
    update.preemptions = sequence.preemptions;
    update.tokens_before = sequence.token_count() - sequence.prompt_count;
    if (sequence.params.prompt_logprobs && sequence.prompt_delivered) {
      update.prompt_logprobs_before = sequence.prompt_count - 1;
    }
  }
  return updates[entry->second];
}

void Scheduler::State::Finish(uint64_t id, FinishReason reason, std::string detail) {
  const auto entry = sequences.find(id);
  SHOAL_CHECK(entry != sequences.end(), "sequence ", id);
  Sequence& sequence = entry->second;
  if (sequence.slot != kNoSlot) {
    Vacate(sequence);
    if (reason == FinishReason::kCancelled) cancelled_end = true;
  } else {
    CountWaiting(sequence, -1);
    if (gathering.erase(sequence.turn.arrival) == 0) waiting.Remove(sequence.turn.arrival);
  }
  tokens_left -= TokensLeft(sequence);
  if (sequence.deadline) deadlines.erase({*sequence.deadline, id});
  SequenceUpdate& update = UpdateOf(sequence);
  update.finish = reason;
  update.detail = std::move(detail);
  update_of.erase(id);  // Nothing may be added to what is finished.
  sequences.erase(entry);
}

void Scheduler::State::TakePromptLogprobs(Sequence& sequence, const StepItem& item,
                                          ItemResult& result) {
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
  UpdateOf(sequence).prompt_logprobs = std::move(sequence.prompt_logprobs);
  sequence.prompt_logprobs.clear();
  sequence.prompt_delivered = true;
}

// Result: false if the sequence has ended.
bool Scheduler::State::TakeToken(Sequence& sequence, ChosenToken chosen) {
  SHOAL_CHECK(chosen.token >= 0, "sequence ", sequence.id, " sampled no token");
  SequenceUpdate& update = UpdateOf(sequence);
  sequence.tokens.push_back(chosen.token);
  update.tokens.push_back(chosen.token);
  ++generated_tokens;
  --tokens_left;
  if (sequence.token_count() == sequence.prompt_count + 1) {
    update.cached_tokens = sequence.found_count;
  }
  if (sequence.params.top_logprobs >= 0) update.logprobs.push_back(std::move(chosen.logprobs));
  const std::vector<int32_t>& stops = sequence.params.stop_ids;
  if (std::find(stops.begin(), stops.end(), chosen.token) != stops.end()) {
    Finish(sequence.id, FinishReason::kStop, "");
    return false;
  }
  if (sequence.token_count() - sequence.prompt_count >= sequence.params.tokens_max ||
      sequence.token_count() >= options.context_tokens) {
    Finish(sequence.id, FinishReason::kLength, "");
    return false;
  }
  return true;
}

// Takes what the item's last rows chose, row by row as if each had been a step of its own. The
// first draft that is not what the row before it chose ends that, and the rows after it count for
// nothing.
void Scheduler::State::TakeChosen(Sequence& sequence, const StepItem& item, ItemResult& result) {
  const auto drafted = static_cast<int64_t>(item.drafts.size());
  SHOAL_CHECK(static_cast<int64_t>(result.chosen.size()) == drafted + 1, "slot ", item.slot, ": ",
              result.chosen.size(), " tokens for ", drafted, " drafts");
  drafted_tokens += drafted;
  const int64_t first_row = int64_t{item.row_count} - drafted - 1;
  int64_t accepted = 0;
  for (;; ++accepted, ++accepted_tokens) {
    const int64_t row = first_row + accepted;
    if (result.bad_row == row) {
      Finish(sequence.id, FinishReason::kNumericError, std::move(result.detail));
      return;
    }
    AddToPrefixes(sequence, item.position_begin + row + 1);
    ChosenToken& chosen = result.chosen[static_cast<size_t>(accepted)];
    const int32_t token = chosen.token;
    if (!TakeToken(sequence, std::move(chosen))) return;
    if (accepted == drafted || item.drafts[static_cast<size_t>(accepted)] != token) break;
  }
  sequence.planned = sequence.token_count() - 1;
  sequence.drafts.Note(drafted, accepted);
}

std::vector<UnprovenBlock> Scheduler::State::AddToPrefixes(Sequence& sequence, int64_t row_end) {
  std::vector<UnprovenBlock> unproven;
  if (!options.prefix_cache || !sequence.SharesBlocks()) return unproven;
  const std::span<const int32_t> tokens = sequence.tokens;
  while ((sequence.chain_blocks + 1) * BlockPool::kBlockTokens <= row_end) {
    const auto index = static_cast<size_t>(sequence.chain_blocks);
    const int32_t block = sequence.blocks[index];
    const PrefixCache::Added added = prefixes.Add(
        sequence.chain, tokens.subspan(index * BlockPool::kBlockTokens, BlockPool::kBlockTokens),
        sequence.salt, block);
    sequence.chain = added.node;
    ++sequence.chain_blocks;
    if (!added.is_new) continue;
    blocks.Keep(block);
    unproven.push_back({sequence.chain_blocks * BlockPool::kBlockTokens, block, added.node.entry});
  }
  return unproven;
}

// Takes the blocks that hold row `position` or later ones out of the prefix cache. Sequences that
// started after such a block are computed again, and meet the bad row themselves. Blocks that
// others added after it cannot be found without it.
void Scheduler::State::Withdraw(const std::vector<UnprovenBlock>& unproven, int64_t position) {
  for (const UnprovenBlock& block : unproven) {
    if (block.position_end <= position || !prefixes.Holds(block.block, block.entry)) continue;
    prefixes.Forget(block.block);
    blocks.Drop(block.block);
    std::vector<Sequence*> readers;
    for (const auto& [turn, sequence] : running) {
      const auto& theirs = sequence->blocks;
      if (std::find(theirs.begin(), theirs.end(), block.block) != theirs.end()) {
        readers.push_back(sequence);
      }
    }
    for (Sequence* reader : readers) Preempt(*reader);
  }
}

void Scheduler::State::TakeItem(const ItemInFlight& flight, ItemResult result) {
  SHOAL_CHECK(flight.item.slot == result.slot, "expected slot ", flight.item.slot, ", found ",
              result.slot);
  const StepItem& item = flight.item;
  // Without the rows of guessed tokens, which count only if the guesses were right.
  const int64_t row_count = int64_t{item.row_count} - static_cast<int64_t>(item.drafts.size());
  if (flight.prompt) prompt_rows += item.row_count;
  const bool failed = result.bad_row >= 0 && result.bad_row < row_count;
  const auto entry = sequences.find(flight.id);
  const bool is_current =
      entry != sequences.end() && entry->second.incarnation == flight.incarnation;
  if (failed) {
    if (is_current) Finish(flight.id, FinishReason::kNumericError, std::move(result.detail));
    // Also the blocks of later items: the block with the bad row may be full only with their rows.
    const int64_t position = int64_t{item.position_begin} + result.bad_row;
    Withdraw(flight.unproven, position);
    for (const StepInFlight& step : in_flight) {
      for (const ItemInFlight& later : step.items) {
        if (later.incarnation == flight.incarnation) Withdraw(later.unproven, position);
      }
    }
  }
  if (failed || !is_current) return;
  Sequence& sequence = entry->second;
  const int64_t row_end = item.position_begin + row_count;
  if (item.prompt_logits) TakePromptLogprobs(sequence, item, result);
  if (item.sample) {
    TakeChosen(sequence, item, result);
  } else if (sequence.params.tokens_max == 0 && row_end == sequence.prompt_count) {
    Finish(sequence.id, FinishReason::kLength, "");
  }
}

}  // namespace shoal::engine
