#pragma once

// Who has joined: the groups, the connections of their ranks, and the model that all agree on.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "coordinator/core/groups/group.h"

namespace shoal::core {

// Threading: none; owned by Region.
class Groups {
 public:
  // `model_name`: what groups must serve. Empty: the first one decides.
  explicit Groups(std::string model_name);

  // Takes the rank in, or says why not. The connection is new.
  RegisterOutcome Register(ConnectionId connection, const RankRegistration& rank);

  // The group of a connection's rank; null if there is no rank behind it (any more).
  Group* FindByConnection(ConnectionId connection);
  // Null if there is none.
  Group* Find(uint64_t number);
  // There must be one.
  Group& at(uint64_t number) { return groups_.at(number); }

  void ApplyStats(Group& group, const SchedulerStats& stats);
  // It works: it takes requests, and its model is the region's for good.
  void SetReady(Group& group);
  // Forgets one rank. It must not be its group's last.
  void RemoveRank(ConnectionId connection);
  // Gives the group up, so that its stragglers hear of it. Result: the group as it was.
  Group Remove(uint64_t number);

  const GroupMap& all() const { return groups_; }
  const std::map<ConnectionId, uint64_t>& connections() const { return connections_; }
  // What all groups must agree with; none until the first has come.
  const std::optional<RankRegistration>& model() const { return model_; }
  // As in RegionStatus.
  const SchedulerStats& totals() const { return totals_; }

 private:
  RegisterOutcome FindRefusal(const RankRegistration& rank, const Group* group) const;
  // Why it cannot serve beside the others; empty if it can.
  std::string FindModelMismatch(const RankRegistration& rank) const;
  Group* FindById(uint64_t group_id);
  Group& Add(const RankRegistration& rank);

  const std::string model_name_;
  uint64_t next_epoch_ = 1;
  GroupMap groups_;
  std::map<ConnectionId, uint64_t> connections_;  // Of every rank, to its group's number.
  std::deque<uint64_t> lost_ids_;  // Group ids given up lately, so that stragglers hear of it.
  std::optional<RankRegistration> model_;
  bool model_proven_ = false;  // Some group of that model has been ready.
  SchedulerStats totals_;
};

}  // namespace shoal::core
