#include "coordinator/core/groups/health.h"

#include <algorithm>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core {

Health::Health(const RegionOptions& options, const Clock& clock)
    : options_(options), clock_(clock), last_tick_(clock.now()) {}

void Health::Heartbeat(ConnectionId connection, uint64_t progress, bool pending) {
  Pulse& pulse = pulses_[connection];
  pulse.silence_ns = 0;
  if (!pending || !pulse.pending || progress != pulse.progress) pulse.stuck_ns = 0;
  pulse.progress = progress;
  pulse.pending = pending;
}

std::vector<Health::Loss> Health::Tick(const GroupMap& groups) {
  const TimeNs interval = options_.heartbeat_ms * kMillisecondNs;
  const TimeNs elapsed = std::clamp<TimeNs>(clock_.now() - last_tick_, 0, 2 * interval);
  last_tick_ = clock_.now();
  std::map<ConnectionId, Pulse> pulses;
  std::map<uint64_t, TimeNs> ages_ns;
  std::vector<Loss> losses;
  for (const auto& [number, group] : groups) {
    const TimeNs due_ns = group.CanaryWaits() ? 0 : elapsed;
    const TimeNs age_ns = ages_ns[group.epoch] = ages_ns_[group.epoch] + due_ns;
    for (const auto& rank : group.ranks) {
      if (!rank) continue;
      Pulse& pulse = pulses[rank->connection] = pulses_[rank->connection];
      if (rank->away) {
        pulse.away_ns = pulse.away_ns ? *pulse.away_ns + elapsed : 0;
        continue;
      }
      pulse.silence_ns += elapsed;
      if (pulse.pending) pulse.stuck_ns += elapsed;
    }
    Loss loss = FindLoss(group, age_ns, pulses);
    if (!loss.why.empty()) losses.push_back(std::move(loss));
  }
  pulses_ = std::move(pulses);
  ages_ns_ = std::move(ages_ns);
  return losses;
}

TimeNs Health::silence_max_ns() const {
  return options_.heartbeat_ms * options_.heartbeats_missed_max * kMillisecondNs;
}

bool Health::IsQuiet(const Group& group) const {
  return std::ranges::any_of(group.ranks, [this](const auto& rank) {
    if (!rank || rank->away) return false;
    const auto pulse = pulses_.find(rank->connection);
    return pulse != pulses_.end() && pulse->second.silence_ns > silence_max_ns() / 2;
  });
}

Health::Loss Health::FindLoss(const Group& group, TimeNs age_ns,
                              const std::map<ConnectionId, Pulse>& pulses) const {
  Loss loss{group.number};
  if ((group.state == GroupState::kForming || group.state == GroupState::kCanary) &&
      age_ns > options_.join_timeout_ms * kMillisecondNs) {
    loss.cause = LossCause::kNeverReady;
    loss.why =
        Str("not ready within ", options_.join_timeout_ms,
            " ms: ", group.complete() ? "its canary has not come back" : "not all ranks joined");
  }
  for (const auto& rank : group.ranks) {
    if (!rank) continue;
    const Pulse& pulse = pulses.at(rank->connection);
    if (rank->away) {
      if (*pulse.away_ns < options_.rejoin_grace_ms * kMillisecondNs) continue;
      loss.cause = LossCause::kRankDied;
      loss.why = Str(Name(rank->info), ": ", *rank->away);
    } else if (pulse.silence_ns > silence_max_ns()) {
      loss.cause = LossCause::kSilent;
      loss.why =
          Str(Name(rank->info), ": no heartbeat for ", pulse.silence_ns / kMillisecondNs, " ms");
    } else if (pulse.stuck_ns > options_.progress_timeout_ms * kMillisecondNs) {
      loss.cause = LossCause::kStuck;
      loss.why = Str(Name(rank->info), ": no progress for ", pulse.stuck_ns / kMillisecondNs,
                     " ms with work pending");
    }
  }
  return loss;
}

}  // namespace shoal::core
