#pragma once

// One step of a group: what the leader decides and broadcasts, and what the last stage answers.
//
// Every rank applies the same plans in the same order to the same state, so a plan carries only
// what is new: sequences that start (with their prompt and parameters), blocks that sequences gain,
// tokens that earlier steps produced, and sequences that end.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "transport/base/generation/generation.h"

namespace shoal::engine {

// A sequence takes a slot, in [0, sequences_max), until its end.
struct SequenceStart {
  uint32_t slot = 0;
  uint64_t id = 0;
  std::vector<int32_t> tokens;  // The prompt and, after a preemption, the tokens generated so far.
  uint32_t prompt_count = 0;    // How many of them are the prompt.
  GenerationParams params;
  std::vector<int32_t> blocks;  // Full ones that hold its first positions already.
};

// Rows [position_begin, position_begin + row_count) of the sequence in `slot` pass through the
// model.
struct StepItem {
  uint32_t slot = 0;
  uint32_t position_begin = 0;
  uint32_t row_count = 0;
  // The last row chooses the next token; with drafts every row chooses the one after its own.
  bool sample = false;
  bool prompt_logits = false;       // Every row's logits are wanted, for prompt_logprobs.
  std::vector<int32_t> new_blocks;  // Appended to the sequence's block table before the step.
  // Guessed tokens of the rows after the first one. The ranks forget them with the sequence's next
  // known token; rows after a wrong guess are computed anew.
  std::vector<int32_t> drafts{};
};

// A token of an earlier step, told to every rank.
struct KnownToken {
  uint32_t slot = 0;
  int32_t token = 0;
};

struct StepPlan {
  uint64_t step = 0;           // Rises by one.
  bool stop = false;           // The group ends after this plan; it has no items.
  std::vector<uint32_t> ends;  // Applied first: slots that become free.
  std::vector<SequenceStart> starts;
  std::vector<KnownToken> known;
  std::vector<StepItem> items;

  int64_t row_count() const {
    int64_t rows = 0;
    for (const StepItem& item : items) rows += item.row_count;
    return rows;
  }
};

// A token that a row chose.
struct ChosenToken {
  int32_t token = -1;
  TokenLogprobs logprobs;  // If asked for.
};

// The outcome of one item, in the plan's order.
struct ItemResult {
  uint32_t slot = 0;
  std::vector<ChosenToken> chosen;  // By the last rows of the item, as StepItem::sample says.
  // If asked for: of the token after each row. The prompt's last row may be left out.
  std::vector<TokenLogprobs> prompt_logprobs;
  int32_t bad_row = -1;  // The item's first row that met a number that is not finite; -1: none.
  std::string detail;    // "layer 7, position 12"
};

struct StepResult {
  uint64_t step = 0;
  std::vector<ItemResult> items;
};

// The wire form: little-endian, bounded. Decode errors: kFailed (peers run the same build).
std::vector<std::byte> Encode(const StepPlan& plan);
StepPlan DecodeStepPlan(std::span<const std::byte> bytes);
std::vector<std::byte> Encode(const StepResult& result);
StepResult DecodeStepResult(std::span<const std::byte> bytes);

}  // namespace shoal::engine
