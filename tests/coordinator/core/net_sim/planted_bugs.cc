#include "tests/coordinator/core/net_sim/planted_bugs.h"

#include <algorithm>
#include <utility>
#include <variant>

namespace shoal::core::net_sim {

void PlantedBugs::Mutate(RegionOptions& options) const {
  if (bug_ == PlantedBug::kForgetsBoot) options.boot = BootPart(1'700'000'000'000);
  if (bug_ == PlantedBug::kForgetsDetached) options.orphan_grace_ms = 1'000'000'000;
  options.tenants = Mutate(options.tenants);
  Mutate(options.guard);
}

void PlantedBugs::Mutate(GuardRules& guard) const {
  for (BreakerRule& rule : guard.breakers) {
    if (bug_ == PlantedBug::kBreakerStaysOpen) rule.recovery_ms = 1'000'000'000;
    if (bug_ == PlantedBug::kBreakerOpensEarly) rule.threshold /= 2;
  }
  if (bug_ == PlantedBug::kKeepsFailing) guard.outliers.errors_max = 1'000'000'000;
  if (bug_ == PlantedBug::kEjectsSound) guard.outliers.slow_factor = 0.9;
}

std::shared_ptr<const TenantsPolicy> PlantedBugs::Mutate(
    std::shared_ptr<const TenantsPolicy> policy) const {
  auto mutated = std::make_shared<TenantsPolicy>(*policy);
  for (ClassPolicy& of : mutated->classes) {
    if (bug_ == PlantedBug::kKeepsTooMuch) of.floor_share = 0.9;
  }
  for (TenantPolicy& tenant : mutated->tenants) {
    if (bug_ == PlantedBug::kServesWorseFirst) tenant.floor_share = 0.5;
    if (bug_ == PlantedBug::kForgetsInFlight) tenant.requests_in_flight_max = 0;
  }
  return mutated;
}

void PlantedBugs::Reload(std::shared_ptr<const TenantsPolicy> policy, Region& region) const {
  if (bug_ == PlantedBug::kRefillsOnReload) {
    auto unbounded = std::make_shared<TenantsPolicy>(*policy);
    for (TenantPolicy& tenant : unbounded->tenants) tenant.tokens_per_second = 0;
    region.SetTenants(unbounded);
  }
  region.SetTenants(Mutate(std::move(policy)));
}

void PlantedBugs::Mutate(std::vector<HeldStream>& streams) const {
  if (bug_ != PlantedBug::kForgetsHeldDeadlines) return;
  for (HeldStream& held : streams) held.request.deadline_ms = 0;
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

// No region gives back what it does not owe; but one that is told of a rate so high that a
// millisecond of it comes to the same, and a millisecond later of the right one, has given it.
std::shared_ptr<const TenantsPolicy> PlantedBugs::FindRefund(const std::vector<Action>& actions,
                                                             const TenantsPolicy& policy) {
  if (bug_ != PlantedBug::kRefundsTwice) return nullptr;
  std::shared_ptr<TenantsPolicy> fast;
  for (const Action& action : actions) {
    if (const auto* submit = std::get_if<SubmitAction>(&action)) {
      const SequenceRequest& request = submit->request;
      const int64_t left = request.params.tokens_max - std::ssize(request.generated);
      charged_[request.stream] = {request.tenant, left};
    }
    const auto* journal = std::get_if<JournalAction>(&action);
    const auto charged = journal == nullptr ? charged_.end() : charged_.find(journal->stream);
    if (charged == charged_.end()) continue;
    if (const auto* tokens = std::get_if<JournalTokens>(&journal->what)) {
      charged->second.unused -= std::ssize(tokens->tokens);
    }
    if (!std::holds_alternative<JournalEnd>(journal->what) || charged->second.unused <= 0) continue;
    if (!fast) fast = std::make_shared<TenantsPolicy>(policy);
    for (TenantPolicy& tenant : fast->tenants) {
      if (tenant.name != charged->second.tenant || tenant.tokens_per_second == 0) continue;
      if (tenant.burst_tokens == 0) tenant.burst_tokens = tenant.tokens_per_second;
      tenant.tokens_per_second = static_cast<double>(1'000 * charged->second.unused);
    }
  }
  return fast;
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
