#include "coordinator/core/groups/groups.h"

#include <algorithm>
#include <utility>

#include "coordinator/core/groups/routing.h"
#include "transport/base/check.h"

namespace shoal::core {

namespace {

// Enough for the stragglers of a group that was lost a moment ago.
constexpr size_t kLostGroupsMax = 256;

}  // namespace

Groups::Groups(const RegionOptions& options) : options_(options), last_epoch_(options.boot) {}

RegisterOutcome Groups::Register(ConnectionId connection, const RankRegistration& rank) {
  SHOAL_CHECK(!connections_.contains(connection), "connection ", connection);
  Group* group = FindById(rank.group_id);
  RegisterOutcome refusal = FindRefusal(rank, group);
  if (refusal.kind != RegisterOutcome::Kind::kAccepted) return refusal;

  if (group == nullptr) group = &Add(rank);
  group->ranks[static_cast<size_t>(rank.rank)] = GroupRank{connection, rank};
  connections_[connection] = group->number;
  return {RegisterOutcome::Kind::kAccepted, "", group->epoch, group->number};
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
  if (group == nullptr) return {};
  const std::string difference = FindDifference(group->shape(), rank);
  if (!difference.empty()) {
    return {Kind::kMismatch,
            Str(Name(rank), " differs from the other ranks of ", group->Name(), ": ", difference)};
  }
  if (group->ranks[static_cast<size_t>(rank.rank)].has_value()) {
    return {Kind::kMismatch, Str(Name(rank), " registered twice in ", group->Name())};
  }
  return {};
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

Group* Groups::FindById(uint64_t group_id) {
  for (auto& [number, group] : groups_) {
    if (group.shape().group_id == group_id) return &group;
  }
  return nullptr;
}

Group& Groups::Add(const RankRegistration& rank) {
  uint64_t number = 0;
  while (groups_.contains(number)) ++number;
  Group& group = groups_[number];
  group.number = number;
  group.epoch = ++last_epoch_;
  group.ranks.resize(static_cast<size_t>(rank.size));
  group.key = KeyOf(rank);
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

void Groups::SetStopping(Group& group) {
  group.state = GroupState::kStopping;
  UpdateModel(group.key);
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
    if (rank) connections_.erase(rank->connection);
  }
  UpdateModel(group.key);
  return group;
}

}  // namespace shoal::core
