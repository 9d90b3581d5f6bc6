#pragma once

// A coordinator's shell in miniature: it takes what ranks and clients send to its region, does what
// the region says, and dies, stops and is started again.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/region.h"
#include "tests/coordinator/core/net_sim/checker.h"
#include "tests/coordinator/core/net_sim/net/context.h"
#include "tests/coordinator/core/net_sim/planted_bugs.h"
#include "tests/coordinator/core/net_sim/world/clients.h"
#include "tests/coordinator/core/net_sim/world/group.h"

namespace shoal::core::net_sim {

// When virtual time begins, in milliseconds since 1970.
constexpr int64_t kLoopStartMs = 1'700'000'000'000;

class Host : public RankDoor, public ClientDoor {
 public:
  // `options` but for boot. The context outlives it.
  Host(Context& context, RegionOptions options);
  ~Host() override;

  // Before anything else. Both outlive it.
  void Connect(Clients& clients, Checker& checker, OverloadChecker& overload);

  void Start();
  void Crash();
  void Pause(int64_t milliseconds);
  // Its tenants file is another one now.
  void Reload();
  // A group's processes are gone, and whoever started them knows.
  void GroupEnded(uint64_t number);
  // Somebody wants a group to end.
  void Drain();
  // A group that was given up speaks on, under its own epoch.
  void SpeakFromTheGrave();

  bool up() const { return region_ != nullptr && paused_ == 0; }
  // Null while it is down.
  Region* region() { return region_.get(); }

  // ---- RankDoor and ClientDoor
  std::shared_ptr<Link> Dial(const std::shared_ptr<FakeGroup>& group, int32_t rank) override;
  void OnRegister(Link& link, const RankRegistration& rank) override;
  void OnHeartbeat(Link& link, uint64_t epoch, uint64_t progress, bool pending) override;
  void OnUpdate(Link& link, uint64_t epoch, std::vector<SequenceUpdate> updates,
                bool is_lie) override;
  void OnHandOver(Link& link, uint64_t epoch, std::vector<HeldStream> streams, bool last) override;
  void OnDrain(Link& link, uint64_t epoch) override;
  void OnFault(Link& link, uint64_t epoch, LossCause cause) override;
  bool Call(const std::function<void(Region&)>& what) override;

 private:
  struct Connection {
    std::shared_ptr<Link> link;
    std::shared_ptr<FakeGroup> group;
    int32_t rank = 0;
    bool registered = false;
  };
  struct Gone {  // A group that was given up.
    ConnectionId leader;
    uint64_t epoch;
    uint64_t number;
  };

  // Once it runs, unless the connection is gone by then.
  void Arrive(const Link& link, const std::function<void(ConnectionId, Connection&)>& what);
  void Awake(std::function<void()> what);
  // Refuses what the region did not want.
  void Refuse(ConnectionId id);
  void Tick(uint64_t incarnation);
  void AwaitDeadline();
  void EndOverdue();
  void Act();
  // For a millisecond tenants are those.
  void ActFor(const std::shared_ptr<const TenantsPolicy>& policy);
  void Do(const Action& action);
  void Update(ConnectionId id, uint64_t epoch, std::vector<SequenceUpdate> updates, bool is_lie);

  Context& context_;
  RegionOptions options_;
  PlantedBugs bugs_;
  Clients* clients_ = nullptr;
  Checker* checker_ = nullptr;
  OverloadChecker* overload_ = nullptr;
  std::unique_ptr<Region> region_;
  uint64_t incarnation_ = 0;
  int64_t paused_ = 0;
  int64_t steps_ = 0;
  TimeNs started_ = 0;
  std::optional<TimeNs> awaited_;  // A deadline.
  std::deque<std::function<void()>> backlog_;
  ConnectionId next_connection_ = 1;
  std::map<ConnectionId, Connection> connections_;
  std::map<const Link*, ConnectionId> ids_;
  std::vector<std::weak_ptr<Link>> links_;
  std::vector<Gone> gone_;
  std::map<uint64_t, Gone> numbers_;  // The groups that are there, by number.
};

}  // namespace shoal::core::net_sim
