#pragma once

// One request inside the scheduler. Included by the scheduler's own files and its tests.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "transport/base/class_queue.h"
#include "transport/base/clock.h"
#include "transport/base/generation/generation.h"
#include "transport/base/overload/service_class.h"
#include "worker/engine/cache/prefix_cache.h"
#include "worker/engine/schedule/prompt_lookup.h"
#include "worker/engine/step_plan.h"

namespace shoal::engine {

constexpr uint32_t kNoSlot = UINT32_MAX;

// No priority of one service class reaches into another.
constexpr int64_t kRanksPerClass = 10'000;
static_assert(kRanksPerClass > kPriorityMax - kPriorityMin);

struct Sequence {
  uint64_t id = 0;
  TimeNs submitted = 0;
  Turn turn;  // Its rank and arrival; preemption takes from the last one.
  ServiceClass service_class = ServiceClass::kCritical;
  std::optional<TimeNs> deadline;  // When it ends at the latest.
  int32_t preemptions = 0;         // Times that its place was taken for another one.
  int32_t passed_over = 0;  // Steps in which it was the first to arrive of those passed over.
  GenerationParams params;
  std::string salt;  // PrefixSalt: whose prefixes it may find.
  int64_t prompt_count = 0;
  std::vector<int32_t> tokens;  // The prompt, then what was generated.

  // While it runs:
  uint32_t slot = kNoSlot;
  uint64_t incarnation = 0;  // New with every preemption: results of an older one are ignored.
  int64_t start_count = 0;   // Tokens that its start carried; later ones are told as they come.
  int64_t found_count = 0;   // Of these, found in the prefix cache.
  int64_t planned = 0;       // Rows [0, planned) are in plans.
  int64_t told = 0;          // Tokens that the ranks know.
  std::vector<int32_t> blocks;
  // The first chain_blocks of `blocks` are in the prefix cache, up to this node; there their
  // content may lie in other blocks, of sequences that computed it at the same time.
  PrefixCache::Node chain;
  int64_t chain_blocks = 0;

  DraftGauge drafts;

  // Gathered until the last row of the prompt is there, then delivered at once.
  std::vector<TokenLogprobs> prompt_logprobs;
  bool prompt_delivered = false;

  // Its turn's rank while it is not promoted: the service class comes before the priority.
  int64_t rank() const { return RankOf(service_class, params.priority); }
  static int64_t RankOf(ServiceClass service_class, int32_t priority) {
    return static_cast<int64_t>(service_class) * kRanksPerClass + priority;
  }
  bool promoted() const { return turn.rank == kPromotedRank; }
  int64_t token_count() const { return static_cast<int64_t>(tokens.size()); }
  int64_t block_count() const { return static_cast<int64_t>(blocks.size()); }
  bool prefilling() const { return planned < start_count; }
  // The token of row `planned` is there.
  bool CanAdvance() const { return planned < token_count(); }
  bool WantsPromptLogits() const { return params.prompt_logprobs && !prompt_delivered; }
  // A sequence that needs its prompt's log-probabilities computes every position, and its blocks
  // are found by nobody.
  bool SharesBlocks() const { return !params.prompt_logprobs; }
};

// A block that others find before its rows are computed: their own rows come after them, in the
// same step or a later one.
struct UnprovenBlock {
  int64_t position_end = 0;  // One past its last position.
  int32_t block = 0;
  uint64_t entry = 0;  // As PrefixCache::Node.
};

// What OnResult must know about an item of a plan that is in flight.
struct ItemInFlight {
  uint64_t id = 0;
  uint64_t incarnation = 0;
  StepItem item;
  std::vector<UnprovenBlock> unproven;  // By position.
  bool prompt = false;                  // Its rows are of what the sequence started with.
};

struct StepInFlight {
  uint64_t step = 0;
  std::vector<ItemInFlight> items;
};

}  // namespace shoal::engine
