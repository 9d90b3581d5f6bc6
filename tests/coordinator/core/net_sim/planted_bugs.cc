#include "tests/coordinator/core/net_sim/planted_bugs.h"

#include <algorithm>
#include <utility>
#include <variant>

namespace shoal::core::net_sim {

void PlantedBugs::Mutate(RegionOptions& options) const {
  if (bug_ == PlantedBug::kForgetsBoot) options.boot = BootPart(1'700'000'000'000);
  if (bug_ == PlantedBug::kForgetsDetached) options.orphan_grace_ms = 1'000'000'000;
}

void PlantedBugs::Mutate(std::vector<SequenceUpdate>& updates, const Region& region) const {
  if (bug_ != PlantedBug::kDoesNotTrim) return;
  for (SequenceUpdate& update : updates) {
    for (const auto& [id, stream] : region.streams()) {
      const int64_t known = std::ssize(stream.tokens);
      if (stream.sequence == update.id && update.tokens_before < known) {
        update.tokens_before = known;
      }
    }
  }
}

void PlantedBugs::Mutate(std::vector<Action>& actions, Region& region) {
  if (bug_ == PlantedBug::kForgetsRelease) {
    std::erase_if(actions, [](const Action& action) {
      return std::holds_alternative<ReleaseAction>(action);
    });
  }
  if (bug_ == PlantedBug::kLosesTwiceParked) LoseTwiceParked(actions, region);
  for (Action& action : actions) {
    auto* submit = std::get_if<SubmitAction>(&action);
    if (submit == nullptr || submit->request.stream == StreamId{}) continue;
    SequenceRequest& request = submit->request;
    if (bug_ == PlantedBug::kResumesOneTokenShort && !request.generated.empty()) {
      request.generated.pop_back();
    }
    if (bug_ == PlantedBug::kRepeatsPromptLogprobs && request.params.prompt_logprobs) {
      request.prompt_logprobs_given = false;
    }
    if (bug_ != PlantedBug::kUsesDrainingGroups) continue;
    for (const auto& [number, group] : region.groups()) {
      if (group.state != GroupState::kDraining || !group.ranks[0]) continue;
      submit->leader = group.leader();
      submit->epoch = group.epoch;
    }
  }
}

// A stream that goes to its third group with no token from its second is forgotten on the way.
void PlantedBugs::LoseTwiceParked(std::vector<Action>& actions, Region& region) {
  std::vector<StreamId> lost;
  std::erase_if(actions, [&](const Action& action) {
    const auto* submit = std::get_if<SubmitAction>(&action);
    if (submit == nullptr || submit->request.stream == StreamId{}) return false;
    Placed& placed = placed_[submit->request.stream];
    const size_t tokens = submit->request.generated.size();
    const bool loses =
        placed.groups >= 2 && placed.epoch != submit->epoch && placed.tokens == tokens;
    placed = {submit->epoch, tokens, placed.groups + 1};
    if (loses) lost.push_back(submit->request.stream);
    return loses;
  });
  for (const StreamId id : lost) region.Cancel(id);
  for (Action& action : region.TakeActions()) {
    if (std::holds_alternative<JournalAction>(action)) actions.push_back(std::move(action));
  }
}

}  // namespace shoal::core::net_sim
