// The fake cache keeps, for every position, a hash of the prefix that it was computed from: a row
// reads its predecessor's through the block table, so a table that is shared, stale or out of order
// shows.

#include "tests/worker/engine/schedule/fake_group.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <span>

#include "transport/base/error.h"

namespace shoal::engine {
namespace {

constexpr uint64_t kEmptyPrefix = 0x243f6a8885a308d3ULL;
constexpr int64_t kBlock = 32;

uint64_t Mix(uint64_t prefix, int32_t token) {
  uint64_t x =
      prefix ^ (static_cast<uint64_t>(static_cast<uint32_t>(token)) + 0x9e3779b97f4a7c15ULL);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// With every third seed the text mostly repeats itself, so that guesses come true.
int32_t NextToken(std::span<const int32_t> tokens, uint64_t prefix, uint64_t seed) {
  const uint64_t mixed = Mix(prefix, static_cast<int32_t>(seed));
  if (seed % 3 == 1 && mixed % 16 != 0)
    return tokens[tokens.size() - std::min<size_t>(5, tokens.size())];
  return static_cast<int32_t>(mixed % 500);
}

// Only with a seed, so that tests without one need not think of it.
bool RowFails(uint64_t prefix, uint64_t seed) { return seed != 0 && prefix % 3001 == 0; }

std::string FailureDetail(int64_t position) { return Str("layer 0, position ", position); }

TokenLogprobs Logprobs(uint64_t prefix, int32_t token, int32_t top_count) {
  TokenLogprobs result;
  result.logprob = static_cast<float>(Mix(prefix, token) % 1000);
  for (int32_t i = 0; i < top_count; ++i)
    result.top.emplace_back(i, static_cast<float>(prefix % 7));
  return result;
}

}  // namespace

Stream RunAlone(const std::vector<int32_t>& prompt, const GenerationParams& params,
                int64_t context_tokens) {
  Stream stream;
  std::vector<int32_t> tokens = prompt;
  uint64_t prefix = kEmptyPrefix;
  for (size_t position = 0;; ++position) {
    prefix = Mix(prefix, tokens[position]);
    if (RowFails(prefix, params.sampling.seed)) {
      stream.finish = FinishReason::kNumericError;
      stream.detail = FailureDetail(static_cast<int64_t>(position));
      // Nothing of the prompt is delivered unless all of it was computed.
      if (position < prompt.size()) stream.prompt_logprobs.clear();
      return stream;
    }
    if (position + 1 < prompt.size()) {
      if (params.prompt_logprobs) {
        stream.prompt_logprobs.push_back(
            Logprobs(prefix, tokens[position + 1], params.top_logprobs));
      }
      continue;
    }
    if (params.tokens_max == 0) break;
    const int32_t token = NextToken(tokens, prefix, params.sampling.seed);
    tokens.push_back(token);
    stream.tokens.push_back(token);
    if (params.top_logprobs >= 0) {
      stream.logprobs.push_back(Logprobs(prefix, token, params.top_logprobs));
    }
    if (std::find(params.stop_ids.begin(), params.stop_ids.end(), token) != params.stop_ids.end()) {
      stream.finish = FinishReason::kStop;
      return stream;
    }
    if (static_cast<int64_t>(stream.tokens.size()) == params.tokens_max ||
        static_cast<int64_t>(tokens.size()) == context_tokens) {
      break;
    }
  }
  stream.finish = FinishReason::kLength;
  return stream;
}

FakeGroup::FakeGroup(const SchedulerOptions& options)
    : options_(options),
      block_owners_(static_cast<size_t>(options.kv_block_count)),
      cells_(static_cast<size_t>(options.kv_block_count * kBlock)) {}

int64_t FakeGroup::blocks_owned() const {
  return std::count_if(block_owners_.begin(), block_owners_.end(),
                       [](const std::set<uint32_t>& owners) { return !owners.empty(); });
}

FakeGroup::Cell& FakeGroup::CellOf(const Slot& slot, int64_t position) {
  const int64_t block = slot.blocks.at(static_cast<size_t>(position / kBlock));
  return cells_.at(static_cast<size_t>(block * kBlock + position % kBlock));
}

void FakeGroup::ApplyStart(const SequenceStart& start) {
  EXPECT_LT(start.slot, static_cast<uint32_t>(options_.sequences_max));
  EXPECT_FALSE(slots_.contains(start.slot)) << "slot " << start.slot << " is taken";
  const auto found = static_cast<int64_t>(start.blocks.size());
  EXPECT_LT(found * kBlock, static_cast<int64_t>(start.tokens.size())) << "no row is left";
  EXPECT_TRUE(found == 0 || !start.params.prompt_logprobs) << "it must compute every position";
  slots_[start.slot] = {start, start.tokens, start.blocks, found * kBlock, found, 0};
}

void FakeGroup::ApplyBlocks(const StepItem& item, Slot& slot) {
  // Blocks that it started with may have been given to an item before it in the same plan.
  for (const int32_t block : slot.blocks) {
    block_owners_.at(static_cast<size_t>(block)).insert(item.slot);
  }
  for (const int32_t block : item.new_blocks) {
    std::set<uint32_t>& owners = block_owners_.at(static_cast<size_t>(block));
    EXPECT_TRUE(owners.empty()) << "block " << block << " of slot " << *owners.begin()
                                << " given to " << item.slot;
    owners.insert(item.slot);
    slot.blocks.push_back(block);
  }
  const int64_t row_end = int64_t{item.position_begin} + item.row_count;
  const int64_t needed = (row_end + kBlock - 1) / kBlock;
  EXPECT_GE(static_cast<int64_t>(slot.blocks.size()), needed);
  if (!item.new_blocks.empty()) {
    EXPECT_EQ(static_cast<int64_t>(slot.blocks.size()), needed)
        << "blocks are taken as positions are needed";
  }
}

void FakeGroup::ApplyKnown(const KnownToken& known) {
  Slot& slot = slots_.at(known.slot);
  slot.tokens.resize(slot.tokens.size() - static_cast<size_t>(slot.draft_count));
  slot.draft_count = 0;
  slot.tokens.push_back(known.token);
}

void FakeGroup::ApplyDrafts(const StepItem& item, Slot& slot) const {
  if (item.drafts.empty()) return;
  const auto count = static_cast<int64_t>(item.drafts.size());
  EXPECT_TRUE(item.sample);
  EXPECT_EQ(count + 1, item.row_count);
  EXPECT_EQ(slot.draft_count, 0);
  EXPECT_LE(count, options_.speculation_tokens_max);
  slot.tokens.insert(slot.tokens.end(), item.drafts.begin(), item.drafts.end());
  slot.draft_count = count;
  const auto token_count = static_cast<int64_t>(slot.tokens.size());
  EXPECT_LT(token_count, options_.context_tokens) << "guesses beyond the context";
  EXPECT_LT(token_count - slot.start.prompt_count, slot.start.params.tokens_max)
      << "guesses beyond the answer";
}

ItemResult FakeGroup::ApplyItem(const StepItem& item, Slot& slot) {
  ItemResult result;
  result.slot = item.slot;
  const GenerationParams& params = slot.start.params;
  ApplyDrafts(item, slot);
  const int64_t row_end = int64_t{item.position_begin} + item.row_count;
  const auto token_count = static_cast<int64_t>(slot.tokens.size());
  EXPECT_GT(item.row_count, 0U);
  EXPECT_EQ(int64_t{item.position_begin}, slot.computed) << "rows in order, each once";
  EXPECT_LE(row_end, token_count) << "a row's token is known";
  EXPECT_EQ(item.sample, row_end == token_count && params.tokens_max > 0);
  ApplyBlocks(item, slot);
  if (::testing::Test::HasFailure()) Throw(ErrorCode::kFailed, "the plan cannot be applied");

  const std::span<const int32_t> tokens = slot.tokens;
  uint64_t prefix = kEmptyPrefix;
  for (int64_t position = 0; position < slot.computed; ++position) {
    const Cell& cell = CellOf(slot, position);
    prefix = Mix(prefix, tokens[static_cast<size_t>(position)]);
    EXPECT_EQ(cell.position, position);
    EXPECT_EQ(cell.prefix, prefix) << "position " << position << " was overwritten";
  }
  int64_t right_end = row_end - slot.draft_count;  // One past the last row whose token is right.
  for (int64_t position = slot.computed; position < row_end; ++position) {
    const auto index = static_cast<size_t>(position);
    prefix = Mix(prefix, tokens[index]);
    EXPECT_GE(position / kBlock, slot.found) << "a block that others may read is written";
    CellOf(slot, position) = {position, prefix};
    ++rows_computed_;
    if (RowFails(prefix, params.sampling.seed) && result.bad_row < 0) {
      result.bad_row = static_cast<int32_t>(position - item.position_begin);
      result.detail = FailureDetail(position);
    }
    if (item.prompt_logits && position + 1 < slot.start.prompt_count) {
      result.prompt_logprobs.push_back(Logprobs(prefix, tokens[index + 1], params.top_logprobs));
    }
    if (!item.sample || position + 1 < row_end - slot.draft_count) continue;
    ChosenToken& chosen = result.chosen.emplace_back();
    chosen.token = NextToken(tokens.first(index + 1), prefix, params.sampling.seed);
    if (params.top_logprobs >= 0) {
      chosen.logprobs = Logprobs(prefix, chosen.token, params.top_logprobs);
    }
    if (right_end == position + 1 && right_end < row_end && tokens[index + 1] == chosen.token) {
      ++right_end;
    }
  }
  slot.computed = right_end;
  return result;
}

StepResult FakeGroup::Apply(const StepPlan& plan) {
  SCOPED_TRACE(Str("step ", plan.step));
  EXPECT_EQ(plan.step, next_step_++);
  for (const uint32_t slot : plan.ends) {
    EXPECT_EQ(slots_.erase(slot), 1U) << "end of slot " << slot << ", which is free";
    for (std::set<uint32_t>& owners : block_owners_) owners.erase(slot);
  }
  for (const SequenceStart& start : plan.starts) ApplyStart(start);
  for (const KnownToken& known : plan.known) ApplyKnown(known);

  StepResult result;
  result.step = plan.step;
  std::set<uint32_t> seen;
  int64_t prompt_rows = 0;
  for (const StepItem& item : plan.items) {
    EXPECT_TRUE(seen.insert(item.slot).second) << "two items of slot " << item.slot;
    Slot& slot = slots_.at(item.slot);
    if (item.position_begin < slot.start.tokens.size()) prompt_rows += item.row_count;
    result.items.push_back(ApplyItem(item, slot));
  }
  EXPECT_LE(prompt_rows, options_.prefill_chunk_tokens);
  return result;
}

}  // namespace shoal::engine
