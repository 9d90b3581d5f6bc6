#pragma once

// Clients as the gateway sees them: they ask, listen, lose patience, go away, and come back; each
// knows what it must hear.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "coordinator/core/region.h"
#include "tests/coordinator/core/net_sim/net/context.h"
#include "tests/coordinator/core/net_sim/promise/overload_checker.h"
#include "tests/coordinator/core/net_sim/world/twin.h"

namespace shoal::core::net_sim {

// The coordinator's side of the clients' connections.
class ClientDoor {
 public:
  virtual ~ClientDoor() = default;
  // False, and nothing happens, if the coordinator is down or stopped.
  virtual bool Call(const std::function<void(Region&)>& what) = 0;
};

// How a client takes it when it is refused.
struct Manner {
  bool honest = false;  // It comes again when it was told to.
  bool angry = false;   // It comes again at once, again and again.
  bool probes = false;  // It must be taken and answered in the end. It is honest.
  int64_t returns = 0;
};

struct ClientStream {
  StreamId id{};
  size_t shape = 0;  // Its key's.
  Manner manner{};
  Request request{};  // As it was asked for; a client comes back with the same one.
  ModelKey key{};
  ServiceClass service_class = ServiceClass::kCritical;  // As it was taken.
  int64_t tokens_needed = 0;
  SequenceRequest granted{};  // What leaders must be given.
  Twin twin{};
  bool attached = false;
  bool over = false;           // Its client has its end, or does not want it any more.
  bool wanted = true;          // Otherwise its client will not come back.
  size_t tokens = 0;           // That this listener has heard,
  size_t prompt_logprobs = 0;  // as these.
  size_t seen = 0;             // Tokens that the client has, over all its connections.
  TimeNs away_since = 0;       // While it is not attached.
  int64_t returns = 0;
  bool replays = false;  // It hears what had ended before it came.

  // Whether both may get the same answer.
  bool AsksAs(const ClientStream& other) const {
    return request.shares && other.request.shares && key == other.key &&
           request.terms.tenant == other.request.terms.tenant &&
           request.prompt == other.request.prompt && request.params == other.request.params;
  }
};

class Clients {
 public:
  // Whether a stream may fail, or not be taken, for that reason now; empty if so, otherwise why
  // not.
  using Justify = std::function<std::string(const ClientStream&, const StreamError&)>;

  // All outlive it. `shapes`: a group's of each key.
  Clients(Context& context, ClientDoor& door, std::vector<RankRegistration> shapes,
          OverloadChecker& overload, Justify justify);

  void Start();
  // After all is healed: one request of each tenant for each key, with and without a deadline, that
  // must be answered.
  void Probe();
  // Asks for what brings down whoever works on it.
  void AskPoison();
  void OnDeliver(StreamId id, const SequenceUpdate& update);
  void OnFail(StreamId id, const StreamError& error);
  void OnCoordinatorLost();

  // Null if nobody ever asked for it.
  const ClientStream* Find(StreamId id) const;
  const std::set<StreamId>& attached() const { return attached_; }
  // Whether somebody hears what comes of it.
  bool HasReader(StreamId id) const;
  // One that is not over; empty if all are.
  std::string FindOpen() const;

 private:
  Request MakeRequest(size_t key, bool poison);
  void Arrive();
  void ScheduleArrival();
  void MakeAlike(size_t key, Request& request) const;
  void Rage();
  bool IsStorm() const;
  void Ask(size_t key, Request request, Manner manner);
  // What a client does whose request was refused, or whose coordinator is away (null).
  void AskAgain(size_t key, Request request, Manner manner, const StreamError* error);
  ClientStream MakeStream(size_t key, const Request& request) const;
  std::optional<StreamError> PreCheck(Region& region, const ClientStream& asked);
  // Also gives it its id.
  std::variant<StreamId, StreamError> Submit(Region& region, ClientStream& asked);
  void NoteOutcome(Region& region, ClientStream& asked,
                   const std::variant<StreamId, StreamError>& outcome);
  void Attach(ClientStream& stream);
  void Unattach(ClientStream& stream);
  void Plan(StreamId id);
  void GoAway(StreamId id);
  void ComeBack(StreamId id);
  void Intrude(Region& region, const ClientStream& stream);
  void Retry(StreamId id, const StreamError& error);
  void GiveUp(StreamId id);
  void Finish(ClientStream& stream);

  Context& context_;
  ClientDoor& door_;
  const std::vector<RankRegistration> shapes_;
  OverloadChecker& overload_;
  const Justify justify_;
  std::map<StreamId, ClientStream> streams_;
  std::set<StreamId> attached_;
  std::set<StreamId> open_;
  int64_t waiting_ = 0;  // Honest ones that will come again.
  int64_t probes_ = 0;   // That are not answered.
  bool probed_ = false;
};

}  // namespace shoal::core::net_sim
