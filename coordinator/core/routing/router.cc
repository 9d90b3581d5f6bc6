#include "coordinator/core/routing/router.h"

#include <algorithm>
#include <array>

#include "coordinator/core/routing/policies/least_conn.h"
#include "coordinator/core/routing/policies/minres_seed.h"
#include "coordinator/core/routing/policies/p2c_least_tokens.h"
#include "coordinator/core/routing/policies/prefix_aware.h"
#include "coordinator/core/routing/policies/wlc_seed.h"
#include "coordinator/core/routing/rendezvous.h"
#include "transport/base/generation/prefix_hash.h"

namespace shoal::core {
namespace {

// So that a group that comes back is chosen at all.
constexpr double kShareMin = 0.01;

// All groups of the key together, with room or without.
struct KeyTotals {
  int64_t sequences = 0;
  int64_t sequences_max = 0;
  // Of those whose pace is known: steps a second of one, on average.
  double steps_per_second = 0;
};

bool HasRoom(const Group& group, const RouteQuestion& question) {
  return group.key == question.key && group.HasRoomFor(question.tokens, question.service_class) &&
         !(question.on_trial && group.trial);
}

double StepsPerSecond(const GroupPace& pace) { return 1e6 / std::max(pace.step_us, 1.0); }

KeyTotals Add(const GroupMap& groups, const ModelKey& key, ServiceClass service_class) {
  KeyTotals totals;
  int64_t paced = 0;
  for (const auto& [number, group] : groups) {
    if (group.key != key || group.state != GroupState::kReady) continue;
    totals.sequences += static_cast<int64_t>(group.load.CountStreams(service_class));
    totals.sequences_max += group.shape().sequences_max;
    if (!group.load.pace()) continue;
    totals.steps_per_second += StepsPerSecond(*group.load.pace());
    ++paced;
  }
  if (paced > 0) totals.steps_per_second /= static_cast<double>(paced);
  return totals;
}

// As a request of that class finds it: what is worse gives way to it.
Candidate MakeCandidate(const Group& group, ServiceClass service_class, const KeyTotals& totals,
                        double share, TimeNs now) {
  Candidate candidate{.group = group.number,
                      .sequences = static_cast<int64_t>(group.load.CountStreams(service_class)),
                      .sequences_max = group.shape().sequences_max,
                      .work_tokens = group.load.WorkTokens(service_class),
                      .share = std::max(share, kShareMin),
                      .busy = group.load.BusyShare(now)};
  // How many sequences a step holds counts as well as how long it takes; one whose steps nobody
  // knows yet is taken for as fast as the others.
  candidate.speed = static_cast<double>(candidate.sequences_max);
  if (group.load.pace()) {
    candidate.speed *= StepsPerSecond(*group.load.pace()) / totals.steps_per_second;
    candidate.latency_ms = group.load.pace()->step_us / 1'000;
  }
  if (group.stats && group.stats->kv_blocks_total > 0) {
    candidate.memory = static_cast<double>(group.stats->kv_blocks_used) /
                       static_cast<double>(group.stats->kv_blocks_total);
  }
  return candidate;
}

// The one that has waited the longest for a request.
std::optional<uint64_t> TakeTurns(const RouteQuestion& question, const GroupMap& groups) {
  const Group* next = nullptr;
  for (const auto& [number, group] : groups) {
    if (!HasRoom(group, question)) continue;
    if (next == nullptr || group.load.last_given() < next->load.last_given()) next = &group;
  }
  return next == nullptr ? std::nullopt : std::optional(next->number);
}

void AddCached(const RouteQuestion& question, const GroupMap& groups,
               std::vector<Candidate>& candidates) {
  if (!question.may_share) return;
  const std::vector<uint64_t> hashes = PrefixHashes(question.salt, question.prompt);
  for (Candidate& candidate : candidates) {
    candidate.cached_tokens = groups.at(candidate.group).prefixes.ExpectedTokens(hashes);
  }
}

}  // namespace

std::string_view ToString(RoutingPolicy policy) {
  static constexpr std::array<std::string_view, 5> kNames = {
      "wlc_seed", "minres_seed", "least_conn", "p2c_least_tokens", "prefix_aware"};
  return kNames.at(static_cast<size_t>(policy));
}

Router::Router(RoutingPolicy policy, bool active) : policy_(policy), active_(active) {}

std::optional<uint64_t> Router::Choose(const RouteQuestion& question, const GroupMap& groups,
                                       const Guard& guard, TimeNs now) const {
  if (!active_) return TakeTurns(question, groups);
  std::vector<const Group*> open;
  for (const auto& [number, group] : groups) {
    if (HasRoom(group, question)) open.push_back(&group);
  }
  if (open.empty()) return std::nullopt;
  if (question.avoid && open.size() > 1) {
    std::erase_if(open, [&](const Group* group) { return group->number == *question.avoid; });
  }
  if (open.size() == 1) return open.front()->number;
  const KeyTotals totals = Add(groups, question.key, question.service_class);
  std::vector<Candidate> candidates;
  candidates.reserve(open.size());
  for (const Group* group : open) {
    candidates.push_back(MakeCandidate(*group, question.service_class, totals,
                                       guard.ShareOf(group->number, now), now));
  }
  if (!question.session.empty()) {
    const std::optional<uint64_t> own =
        ChooseBySession(candidates, question.session, totals.sequences, totals.sequences_max);
    if (own) return own;
  }
  switch (policy_) {
    case RoutingPolicy::kWlcSeed:
      return ChooseByWlc(candidates);
    case RoutingPolicy::kMinresSeed:
      return ChooseByMinres(candidates);
    case RoutingPolicy::kLeastConn:
      return ChooseByLeastConn(candidates);
    case RoutingPolicy::kP2cLeastTokens:
      return ChooseByP2c(candidates, question.tokens, question.stream);
    case RoutingPolicy::kPrefixAware:
      AddCached(question, groups, candidates);
      return ChooseByPrefix(candidates, question.tokens);
  }
  return std::nullopt;
}

}  // namespace shoal::core
