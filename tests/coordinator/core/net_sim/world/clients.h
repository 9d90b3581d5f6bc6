#pragma once

// Clients as the gateway sees them: they ask, listen, lose patience, go away, and come back; each
// knows what it must hear.

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "coordinator/core/region.h"
#include "tests/coordinator/core/net_sim/net/context.h"
#include "tests/coordinator/core/net_sim/world/twin.h"

namespace shoal::core::net_sim {

// The coordinator's side of the clients' connections.
class ClientDoor {
 public:
  virtual ~ClientDoor() = default;
  // False, and nothing happens, if the coordinator is down or stopped.
  virtual bool Call(const std::function<void(Region&)>& what) = 0;
};

struct ClientStream {
  StreamId id{};
  Request request{};  // As it was asked for; a client comes back with the same one.
  ModelKey key{};
  int64_t tokens_needed = 0;
  SequenceRequest granted{};  // What leaders must be given.
  Twin twin{};
  bool attached = false;
  bool over = false;           // Its client has its end, or does not want it any more.
  bool wanted = true;          // Otherwise its client will not come back.
  size_t tokens = 0;           // That this listener has heard,
  size_t prompt_logprobs = 0;  // as these.
  size_t seen = 0;             // Tokens that the client has, over all its connections.
  TimeNs away_since = 0;  // While it is not attached.
  int64_t returns = 0;
};

class Clients {
 public:
  // Whether a stream may fail, or not be taken, for that reason now; empty if so, otherwise why
  // not.
  using Justify = std::function<std::string(const ClientStream&, const StreamError&)>;

  // All outlive it. `shapes`: a group's of each key.
  Clients(Context& context, ClientDoor& door, std::vector<RankRegistration> shapes,
          Justify justify);

  void Start();
  // Asks for what brings down whoever works on it.
  void AskPoison();
  void OnDeliver(StreamId id, const SequenceUpdate& update);
  void OnFail(StreamId id, const StreamError& error);
  void OnCoordinatorLost();

  // Null if nobody ever asked for it.
  const ClientStream* Find(StreamId id) const;
  const std::set<StreamId>& attached() const { return attached_; }
  // One that is not over; empty if all are.
  std::string FindOpen() const;

 private:
  Request MakeRequest(size_t key, bool poison);
  void Arrive();
  void Ask(size_t key, Request request);
  std::variant<StreamId, StreamError> Submit(Region& region, size_t key, const Request& request);
  void Attach(ClientStream& stream);
  void Unattach(ClientStream& stream);
  void Plan(StreamId id);
  void GoAway(StreamId id);
  void ComeBack(StreamId id);
  void Intrude(Region& region, const ClientStream& stream);
  void Retry(StreamId id);
  void GiveUp(StreamId id);
  void Finish(ClientStream& stream);

  Context& context_;
  ClientDoor& door_;
  const std::vector<RankRegistration> shapes_;
  const Justify justify_;
  std::map<StreamId, ClientStream> streams_;
  std::set<StreamId> attached_;
  std::set<StreamId> open_;
};

}  // namespace shoal::core::net_sim
