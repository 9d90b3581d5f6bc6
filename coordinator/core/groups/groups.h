#pragma once

// Who has joined: the groups, the connections of their ranks, and the models that they serve.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "coordinator/core/groups/group.h"
#include "coordinator/core/groups/model.h"
#include "coordinator/core/region_options.h"

namespace shoal::core {

// Models without a group that are remembered.
constexpr size_t kModelsRememberedMax = 64;

// Threading: none; owned by Region.
class Groups {
 public:
  // `options` outlives it.
  explicit Groups(const RegionOptions& options);

  // Takes the rank in, or says why not. The connection is new.
  RegisterOutcome Register(ConnectionId connection, const RankRegistration& rank);

  // The connection of that rank of the group that its ranks register under that id. None if there
  // is none.
  std::optional<ConnectionId> FindConnection(const RankRegistration& rank) const;
  // The group of a connection's rank; null if no rank has it (any more).
  Group* FindByConnection(ConnectionId connection);
  // Null if there is none.
  Group* Find(uint64_t number);
  // There must be one.
  Group& at(uint64_t number) { return groups_.at(number); }

  void ApplyStats(Group& group, const SchedulerStats& stats);
  // What the digest of its canary must be. Empty: any will do, for it is the first.
  std::string ExpectedDigest(const ModelKey& key) const;
  // Its canary has come to that: it takes requests.
  void SetReady(Group& group, std::string canary_digest);
  // It takes no more: kDraining or kStopping.
  void SetEnding(Group& group, GroupState state);
  // The rank's connection broke; it may come back on another one.
  void SetAway(ConnectionId connection, std::string why);
  // Forgets one rank. It must not be its group's last.
  void RemoveRank(ConnectionId connection);
  // Gives the group up, so that its stragglers hear of it. Result: the group as it was.
  Group Remove(uint64_t number, std::string why);

  uint64_t last_epoch() const { return last_epoch_; }
  const GroupMap& all() const { return groups_; }
  const std::map<ConnectionId, uint64_t>& connections() const { return connections_; }
  // Those that have a group, and the latest of those that have had one that was ready: what their
  // groups agreed on is not forgotten while all of them start anew.
  const ModelMap& models() const { return models_; }
  // As in RegionStatus.
  const SchedulerStats& totals() const { return totals_; }

 private:
  struct LostGroup {
    uint64_t id = 0;  // Its own, as its ranks register it.
    std::string why;
  };

  RegisterOutcome FindRefusal(const RankRegistration& rank, const Group* group) const;
  // Why it cannot serve beside the others; empty if it can.
  std::string FindModelMismatch(const RankRegistration& rank) const;
  const Group* FindById(uint64_t group_id) const;
  // Why the rank cannot take a place that another connection has, or had; empty if it can.
  std::string FindTakeOverFault(const RankRegistration& rank, const Group& group) const;
  // The number for a group that has none yet.
  uint64_t ChooseNumber(const RankRegistration& rank) const;
  Group& Add(const RankRegistration& rank);
  bool HasGroup(const ModelKey& key) const;
  // After a group of it has come or gone, or takes requests or no more.
  void UpdateModel(const ModelKey& key);

  const RegionOptions& options_;
  uint64_t last_epoch_;
  uint64_t next_ready_ = 1;
  GroupMap groups_;
  // Of every rank that is not away, to its group's number.
  std::map<ConnectionId, uint64_t> connections_;
  std::deque<LostGroup> lost_;  // Given up lately, so that stragglers hear of it.
  ModelMap models_;
  std::deque<ModelKey> remembered_;  // Those of models_ without a group, the latest last.
  SchedulerStats totals_;
};

}  // namespace shoal::core
