#include "coordinator/core/groups/groups.h"

#include <algorithm>
#include <utility>

#include "coordinator/core/groups/versions.h"
#include "transport/base/check.h"

namespace shoal::core {

namespace {

// Enough for the stragglers of a group that was lost a moment ago.
constexpr size_t kLostGroupsMax = 256;
// What a rank says of earlier epochs is believed below it, so that none can use them up.
constexpr uint64_t kEpochsEnd = uint64_t{1} << 63;

}  // namespace

Groups::Groups(const RegionOptions& options) : options_(options), last_epoch_(options.boot) {}

RegisterOutcome Groups::Register(ConnectionId connection, const RankRegistration& rank) {
  SHOAL_CHECK(!connections_.contains(connection), "connection ", connection);
  const Group* found = FindById(rank.group_id);
  RegisterOutcome refusal = FindRefusal(rank, found);
  if (refusal.kind != RegisterOutcome::Kind::kAccepted) return refusal;

  Group& group = found == nullptr ? Add(rank) : groups_.at(found->number);
  std::optional<GroupRank>& place = group.ranks[static_cast<size_t>(rank.rank)];
  const bool continued = place.has_value();
  if (continued && !place->away) connections_.erase(place->connection);
  if (continued && place->away) --group.ranks_away;
  place = GroupRank{connection, rank};
  connections_[connection] = group.number;
  RegisterOutcome outcome{RegisterOutcome::Kind::kAccepted, "", group.epoch, group.number};
  outcome.continued = continued;
  return outcome;
}

RegisterOutcome Groups::FindRefusal(const RankRegistration& rank, const Group* group) const {
  using Kind = RegisterOutcome::Kind;
  const std::string fault = FindFault(rank);
  if (!fault.empty()) return {Kind::kMismatch, Str(Name(rank), " registered badly: ", fault)};
  const auto lost = std::ranges::find(lost_, rank.group_id, &LostGroup::id);
  if (lost != lost_.end()) {
    return {Kind::kStale, Str("the group of ", Name(rank), " was given up (", lost->why,
                              "): end all its ranks and start a new group")};
  }
  const std::string mismatch = FindModelMismatch(rank);
  if (!mismatch.empty()) return {Kind::kMismatch, mismatch};
  if (group == nullptr) {
    const uint64_t number = ChooseNumber(rank);
    if (!groups_.contains(number)) return {};
    return {Kind::kRetry, Str(Name(rank), " has --group-number ", number, ", and ",
                              groups_.at(number).Name(), " is still there")};
  }
  const std::string difference = FindDifference(group->shape(), rank);
  if (!difference.empty()) {
    return {Kind::kMismatch,
            Str(Name(rank), " differs from the other ranks of ", group->Name(), ": ", difference)};
  }
  const std::string taken = FindTakeOverFault(rank, *group);
  return taken.empty() ? RegisterOutcome{} : RegisterOutcome{Kind::kMismatch, taken};
}

std::string Groups::FindTakeOverFault(const RankRegistration& rank, const Group& group) const {
  const auto& place = group.ranks[static_cast<size_t>(rank.rank)];
  if (!place) return "";
  // It knows the group's epoch; or an earlier coordinator's, or none, if its connection broke
  // before it had heard of this one.
  const bool is_due =
      rank.last_epoch == group.epoch || (place->away && rank.last_epoch < group.epoch);
  if (is_due && place->info.pid == rank.pid && place->info.host == rank.host) return "";
  return Str(Name(rank), " registered twice in ", group.Name());
}

std::string Groups::FindModelMismatch(const RankRegistration& rank) const {
  const std::string& own = options_.model_name;
  const std::string& served = options_.served_model_name;
  if (!own.empty() && rank.model_name != own) {
    if (!options_.other_models) {
      return Str("this region serves model ", own, ", ", Name(rank), " has ", rank.model_name,
                 ": give both the same --model, or the coordinator --other-models");
    }
    if (rank.model_name == served) {
      return Str("this region serves model ", own, " as ", served, ", and ", Name(rank), " has ",
                 "another of that name: give one of them another name");
    }
  }
  const auto model = models_.find(KeyOf(rank));
  if (model == models_.end() || !HasGroup(model->first)) return "";
  const auto& [key, agreed] = *model;
  if (rank.context_tokens != agreed.context_tokens || rank.vocab_size != agreed.vocab_size) {
    return Str("this region's groups of ", key, " have a context of ", agreed.context_tokens,
               " tokens and ", agreed.vocab_size, " token ids, ", Name(rank), " has ",
               rank.context_tokens, " and ", rank.vocab_size,
               ": give all groups the same --context-tokens-max");
  }
  return "";
}

const Group* Groups::FindById(uint64_t group_id) const {
  for (const auto& [number, group] : groups_) {
    if (group.shape().group_id == group_id) return &group;
  }
  return nullptr;
}

std::optional<ConnectionId> Groups::FindConnection(const RankRegistration& rank) const {
  const Group* group = FindById(rank.group_id);
  if (group == nullptr || rank.rank < 0 || rank.rank >= std::ssize(group->ranks)) {
    return std::nullopt;
  }
  const auto& place = group->ranks[static_cast<size_t>(rank.rank)];
  return place && !place->away ? std::optional(place->connection) : std::nullopt;
}

uint64_t Groups::ChooseNumber(const RankRegistration& rank) const {
  // A managed number is for what this coordinator has started. One that it does not manage was
  // given by another coordinator, and so was one of a group that has been a member before.
  const bool is_new = rank.last_epoch == 0;
  if (is_new && rank.group_number && *rank.group_number < options_.managed_groups) {
    return *rank.group_number;
  }
  uint64_t number = options_.managed_groups;
  while (groups_.contains(number)) ++number;
  return number;
}

Group& Groups::Add(const RankRegistration& rank) {
  const uint64_t number = ChooseNumber(rank);
  // Larger than any that its ranks have had, also where this machine's clock went back.
  if (rank.last_epoch < kEpochsEnd) last_epoch_ = std::max(last_epoch_, rank.last_epoch);
  Group& group = groups_[number];
  group.number = number;
  group.epoch = ++last_epoch_;
  group.ranks.resize(static_cast<size_t>(rank.size));
  group.key = KeyOf(rank);
  if (options_.protections.admission) {
    group.streams_max =
        static_cast<size_t>(rank.sequences_max) + static_cast<size_t>(options_.dispatch_ahead);
  }
  Model& model = models_[group.key];
  model.context_tokens = rank.context_tokens;
  model.vocab_size = rank.vocab_size;
  UpdateModel(group.key);
  return group;
}

Group* Groups::FindByConnection(ConnectionId connection) {
  const auto number = connections_.find(connection);
  return number == connections_.end() ? nullptr : &groups_.at(number->second);
}

Group* Groups::Find(uint64_t number) {
  const auto group = groups_.find(number);
  return group == groups_.end() ? nullptr : &group->second;
}

void Groups::ApplyStats(Group& group, const SchedulerStats& stats) {
  for (const auto counter : kSchedulerCounters) {
    // The first update of a group that has served another coordinator counts what was done there.
    if (group.stats)
      totals_.*counter += std::max<int64_t>(0, stats.*counter - (*group.stats).*counter);
  }
  group.stats = stats;
}

std::string Groups::ExpectedDigest(const ModelKey& key) const {
  const auto configured = options_.canary_digests.find(key.numerics_id);
  return configured == options_.canary_digests.end() ? models_.at(key).canary_digest
                                                     : configured->second;
}

void Groups::SetReady(Group& group, std::string canary_digest) {
  group.state = GroupState::kReady;
  Model& model = models_.at(group.key);
  model.has_served = true;
  model.is_digest_proven = model.is_digest_proven || model.canary_digest == canary_digest ||
                           options_.canary_digests.contains(group.key.numerics_id);
  model.canary_digest = group.canary_digest = std::move(canary_digest);
  UpdateModel(group.key);
}

void Groups::SetEnding(Group& group, GroupState state) {
  group.state = state;
  group.canary_due = false;
  UpdateModel(group.key);
}

void Groups::SetAway(ConnectionId connection, std::string why) {
  const auto number = connections_.find(connection);
  Group& group = groups_.at(number->second);
  for (auto& rank : group.ranks) {
    if (rank && rank->connection == connection) rank->away = std::move(why);
  }
  ++group.ranks_away;
  connections_.erase(number);
}

bool Groups::HasGroup(const ModelKey& key) const {
  return std::ranges::any_of(groups_, [&](const auto& entry) { return entry.second.key == key; });
}

void Groups::UpdateModel(const ModelKey& key) {
  Model& model = models_.at(key);
  if (CountReady(groups_, key) == 0) {
    model.ready_since = 0;
  } else if (model.ready_since == 0) {
    model.ready_since = next_ready_++;
  }
  std::erase(remembered_, key);
  if (HasGroup(key)) return;
  if (!model.has_served) {
    models_.erase(key);  // A group that never worked decides nothing for those after it.
    return;
  }
  if (!model.is_digest_proven) model.canary_digest.clear();  // Nor what one group alone computed.
  remembered_.push_back(key);
  if (remembered_.size() <= kModelsRememberedMax) return;
  models_.erase(remembered_.front());
  remembered_.pop_front();
}

void Groups::RemoveRank(ConnectionId connection) {
  const auto number = connections_.find(connection);
  for (auto& rank : groups_.at(number->second).ranks) {
    if (rank && rank->connection == connection) rank.reset();
  }
  connections_.erase(number);
}

Group Groups::Remove(uint64_t number, std::string why) {
  Group group = std::move(groups_.extract(number).mapped());
  lost_.push_back({group.shape().group_id, std::move(why)});
  if (lost_.size() > kLostGroupsMax) lost_.pop_front();
  for (const auto& rank : group.ranks) {
    if (rank && !rank->away) connections_.erase(rank->connection);
  }
  UpdateModel(group.key);
  return group;
}

}  // namespace shoal::core
