#pragma once

// One group of ranks as the region sees it: who has joined, how it is doing, what it was given.

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "coordinator/core/groups/canary.h"
#include "coordinator/core/groups/load/group_load.h"
#include "coordinator/core/groups/load/known_prefixes.h"
#include "coordinator/core/groups/model.h"
#include "coordinator/core/tenants/token_bucket.h"
#include "transport/base/clock.h"
#include "transport/base/generation/generation.h"
#include "transport/base/group.h"
#include "transport/base/overload/service_class.h"

namespace shoal::core {

// A rank's connection, numbered by the shell; never used again.
using ConnectionId = uint64_t;

struct GroupRank {
  ConnectionId connection = 0;
  RankRegistration info;
  // Its connection broke, and it may come back on another one: why. None: it is there.
  std::optional<std::string> away{};
};

// What a group whose rank 0 came back has not said yet.
struct Rejoin {
  std::set<SequenceId> unconfirmed;  // Those that it was given and may not know of.
  TimeNs since = 0;
};

// Plain data with the questions that only concern one group.
struct Group {
  uint64_t number = 0;  // The lowest one free when it registered: a restarted group gets it again.
  uint64_t epoch = 0;
  ModelKey key;
  GroupState state = GroupState::kForming;
  std::vector<std::optional<GroupRank>> ranks;  // By rank.
  std::optional<SchedulerStats> stats;          // As of its last update.
  // What it was given. A cancelled stream's sequence stays until the leader has confirmed its end,
  // because until then it takes up room there.
  std::set<SequenceId> sequences;
  GroupLoad load;  // Those of streams, what they may still cost, and how fast it does it.
  // How many streams of a class or better ones its leader is given. The others wait in the region,
  // where it is decided who is next.
  size_t streams_max = SIZE_MAX;
  KnownPrefixes prefixes;  // That it has reported.
  // Streams that it may be given at once although it has room (Guard): 0 while it is left out, 1
  // while it is tried. None: as many as fit.
  std::optional<size_t> given_max;
  // Of its sequences, that of a stream that may take groups along (Stream::on_trial): at most one,
  // so that no other one is blamed for what it does.
  std::optional<SequenceId> trial;
  // What its leader says of sequences up to this one that it was not given is of an earlier time,
  // of this coordinator or another: it is ignored.
  SequenceId ignored_up_to = 0;
  int32_t ranks_away = 0;
  std::optional<Rejoin> rejoin;
  std::optional<Canary> canary;  // The last one; none: not sent yet.
  bool canary_due = false;       // It gets the next place that is free.
  TimeNs canary_time = 0;        // Of the last one's end.
  int64_t canary_wait_ms = 0;    // How long the last one has had no reason to wait.
  // Its leader has refused a request for lack of room: it is given none until it has said that
  // something ended, or a tick has passed.
  bool full = false;
  // A rank's heartbeats have stayed away for so long that it may be gone: it is given nothing until
  // one has come.
  bool quiet = false;
  // How often in a row it has done so with nothing there, at most once a tick.
  int64_t full_for_ticks = 0;
  // It was asked to end, and has until then to end its streams; once it is kStopping, to be gone.
  std::optional<TimeNs> drain_until;
  std::string canary_digest;  // Empty: not all there yet.
  Gcra shaping;               // Of the work that it is given.
  bool shaped = false;        // It has been given its work for now.

  const RankRegistration& shape() const;  // Of whichever rank came first by number.
  bool complete() const;
  // The connection of rank 0, which must be there.
  ConnectionId leader() const { return ranks[0].value().connection; }
  bool has_leader() const { return !ranks.empty() && ranks[0] && !ranks[0]->away; }
  // Whether canaries are to go through it.
  bool wants_canary() const { return state == GroupState::kReady || state == GroupState::kCanary; }
  // Whether a canary is on its way through it.
  bool has_canary() const { return canary && sequences.contains(canary->sequence); }
  // Null if it has none on that connection.
  const GroupRank* FindRank(ConnectionId connection) const;
  // Whether its canary has to wait because other sequences take up all that its steps can hold: it
  // gets the next place that is free, however long that takes.
  bool CanaryWaits() const;
  // Requests that it may be given at once.
  size_t capacity() const;
  // Whether it may be given one more, now; be it a canary.
  bool HasPlace() const;
  // Whether a request of that class that will hold so many tokens fits now.
  bool HasRoomFor(int64_t tokens, ServiceClass service_class) const;
  // Whether by its last report requests wait there although slots are free: it has no KV cache left
  // for them.
  bool LacksKvCache() const;
  // It is given a stream.
  void Give(SequenceId sequence, const GivenWork& work);
  // A sequence that it was given has ended there.
  void Forget(SequenceId sequence);
  // Its leader says so, whether or not it was given that sequence.
  void NoteRoom(const SequenceUpdate& update);
  // "group 1 (epoch 4, node7, tensor 2 x pipeline 1)"
  std::string Name() const;
  // "rank 0 (node7, pid 4711), rank 1 (node7, pid 4712)": those that are there or away.
  std::string RankNames() const;
  GroupStatus Status() const;
  // What is wrong with an update from its leader, whatever the stream; empty if nothing.
  std::string FindFault(const SequenceUpdate& update) const;
};
using GroupMap = std::map<uint64_t, Group>;  // By number.

// "rank 1 (node7, pid 4711)"
std::string Name(const RankRegistration& rank);

// What is wrong with a registration by itself; empty if nothing is.
std::string FindFault(const RankRegistration& rank);

// The first thing in which two ranks differ that must be alike in one group; empty if nothing.
std::string FindDifference(const RankRegistration& expected, const RankRegistration& found);

}  // namespace shoal::core
