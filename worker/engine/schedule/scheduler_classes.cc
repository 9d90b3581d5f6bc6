// What service classes do to each other beyond the order of their turns.
//
// A request that there is no room for preempts sequences of worse classes; those that were promoted
// are before it, for good, so they could take every slot and every row of the prompts' budget in
// time. Hence the floor: against a better class only the first few of them are promoted, and of a
// step's prompt rows they get a share.

#include <algorithm>
#include <vector>

#include "worker/engine/schedule/scheduler_state.h"

namespace shoal::engine {

// So many promoted sequences keep their places against any class: of the slots what promotion gives
// of the turns.
int64_t Scheduler::State::FloorSequences() const {
  return std::max(1, options.sequences_max / (kPassedOverMax + 1));
}

// Of those that wait and of those that they hold back.
std::optional<ServiceClass> Scheduler::State::BestWaiting() const {
  if (waiting.empty()) return std::nullopt;
  ServiceClass best = waiting.front()->service_class;
  const auto ordinary = waiting.turns().lower_bound({kPromotedRank + 1, 0});
  if (ordinary != waiting.turns().end()) {
    best = std::min(best, waiting.at(*ordinary)->service_class);
  }
  return best;
}

// The last of the sequences of the worst class, if that is worse; null if none may be preempted.
Sequence* Scheduler::State::FindWorse(ServiceClass service_class) const {
  if (running.empty()) return nullptr;
  Sequence* last = running.rbegin()->second;
  return last->promoted() || last->service_class <= service_class ? nullptr : last;
}

// Makes room for the front of those that wait. What it preempts comes later in the pass, because
// its turn is the last of all. Result: false if there is nothing to be preempted.
bool Scheduler::State::PreemptWorse(const Sequence& front, Pass& pass) {
  Sequence* worse = FindWorse(*BestWaiting());
  if (worse == nullptr) return false;
  PreemptFor(front, *worse, pass);
  return true;
}

// While a better class waits, promoted sequences beyond the floor are ordinary again.
void Scheduler::State::LimitFloor() {
  const std::optional<ServiceClass> best = BestWaiting();
  if (!best) return;
  std::vector<Sequence*> beyond;
  int64_t before_front = 0;
  int64_t index = 0;
  for (const auto& [turn, sequence] : running) {
    if (!sequence->promoted()) break;
    if (index++ >= FloorSequences() && sequence->service_class > *best) beyond.push_back(sequence);
    if (turn.arrival < waiting.front_turn().arrival) ++before_front;
  }
  Sequence& front = *waiting.front();
  if (waiting.front_turn().rank == kPromotedRank && before_front >= FloorSequences() &&
      front.service_class > *best) {
    waiting.Demote(front.turn.arrival, front.rank());
    front.turn.rank = front.rank();
    front.passed_over = 0;
  }
  for (Sequence* sequence : beyond) {
    running.erase(sequence->turn);
    sequence->turn.rank = sequence->rank();
    sequence->passed_over = 0;
    running.emplace(sequence->turn, sequence);
  }
}

void Scheduler::State::LimitFloorRows(Pass& pass) const {
  const bool promoted_waits = !waiting.empty() && waiting.front_turn().rank == kPromotedRank;
  const bool promoted_runs = !running.empty() && running.begin()->second->promoted();
  if (!promoted_waits && !promoted_runs) return;
  for (const auto& [turn, sequence] : running) {
    if (sequence->promoted() || !sequence->prefilling()) continue;
    pass.prompts_of = sequence->service_class;  // The first one is of the best class.
    break;
  }
  const auto ordinary = waiting.turns().lower_bound({kPromotedRank + 1, 0});
  if (ordinary != waiting.turns().end() && CouldStart(*waiting.at(*ordinary))) {
    const ServiceClass theirs = waiting.at(*ordinary)->service_class;
    pass.prompts_of = std::min(pass.prompts_of.value_or(theirs), theirs);
  }
  const int64_t parts = (kPassedOverMax + 1) * FloorSequences();
  pass.floor_rows = std::max<int64_t>(1, options.prefill_chunk_tokens / parts);
}

// Whether it would, were it not for those that are promoted.
bool Scheduler::State::CouldStart(const Sequence& sequence) const {
  if (FindWorse(sequence.service_class) != nullptr) return true;
  return !slots_free.empty() && HasBlocks(BlocksToStart(sequence, FindPrefix(sequence)));
}

// Prompt rows that it may get of what is left of the step's.
int64_t Scheduler::State::RowLimit(const Sequence& sequence, const Pass& pass) const {
  const bool limited =
      sequence.promoted() && pass.prompts_of && *pass.prompts_of < sequence.service_class;
  return limited ? std::min(pass.floor_rows, pass.prefill_budget) : pass.prefill_budget;
}

}  // namespace shoal::engine
