#pragma once

// A rank's line to the coordinator, free of KJ: dial, authenticate, register, heartbeat, updates.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "transport/base/generation/generation.h"
#include "transport/base/generation/prefix_hash.h"
#include "transport/base/generation/sequence_request.h"
#include "transport/base/group.h"

namespace shoal::rpc {

// For both ends of a rank's connection.
constexpr int64_t kRankSocketTimeoutMs = 1'500;

// What the coordinator asks of this rank. Called on the link's own thread, one at a time; they must
// return at once and not throw. What the coordinator asks before Start() waits for it.
struct LinkCallbacks {
  // Leader only. Every submitted sequence must end with an update whose `finish` is set.
  std::function<void(SequenceRequest request)> on_submit;
  // Leader only. The sequence may have ended already; then there is nothing to do.
  std::function<void(uint64_t id)> on_cancel;
  // Leader only: what it holds of a sequence that has ended is not needed any more.
  std::function<void(uint64_t id)> on_release;
  // Leader only: the group is dismissed and ends with exit code 0.
  std::function<void()> on_stop;
  // The coordinator is gone or has given this group up; once, and nothing follows it. Comes before
  // Start() too.
  std::function<void(const std::string& why)> on_lost;
};

struct LinkOptions {
  std::string address;      // HOST:PORT of the coordinator's RPC port.
  std::string group_token;  // Content of the group token file; empty if there is none.
  RankRegistration rank;
  int64_t join_timeout_ms = 30'000;  // Dials again until then, at least every quarter of a second.
  // An update that is not answered for so long: the coordinator counts as lost. Long, because a
  // broken connection is seen at once: this is for a coordinator that hangs.
  int64_t call_timeout_ms = 10'000;
  // Likewise for a heartbeat.
  int64_t heartbeat_timeout_ms = 10'000;
  // Bytes that nobody acknowledges for so long: the connection counts as broken (TuneSocket).
  int64_t socket_timeout_ms = kRankSocketTimeoutMs;
  // Steps whose updates may wait for the coordinator; then QueueUpdates makes the step loop wait.
  size_t updates_waiting_max = 64;
};

// Owns a thread with an event loop of its own, so heartbeats go out whatever the step loop does.
// The thread runs before others of the machine (nice -10) where the process may ask for that, and
// does little: what competes for its core delays heartbeats by less. Threading: all methods from
// any thread, except that the destructor must not run in a callback.
class CoordinatorLink {
 public:
  // Returns once the coordinator has taken this rank.
  // Errors: kCannotJoin if it was not reached or put this rank off until the deadline, or refused
  // the token or the group; kPeerFailed if it refused a rank that was a member before, because its
  // group was given up; kInvalidArgument if this group does not fit the region (another model or
  // numerics).
  CoordinatorLink(LinkOptions options, LinkCallbacks callbacks);
  // Sends what waits, while the coordinator takes each message within call_timeout_ms, then closes
  // the connection. No callback runs after it.
  ~CoordinatorLink();

  CoordinatorLink(const CoordinatorLink&) = delete;
  CoordinatorLink& operator=(const CoordinatorLink&) = delete;

  // The owner can take callbacks and answer them. The coordinator may ask something before it has
  // even said that it takes the rank.
  void Start();

  // Leader only: what one step brought, to be sent when SendQueued is called, in several messages
  // if it is much (update_queue.h). Waits for room while too many updates are under way. After
  // on_lost it does nothing.
  void QueueUpdates(std::vector<SequenceUpdate> updates, const SchedulerStats& stats,
                    PrefixReport prefixes = {});
  void SendQueued() noexcept;

  // What the next heartbeats say. `counter` changes whenever the rank gets on with its work;
  // `pending`: it has work. Cost: two relaxed stores.
  void SetProgress(uint64_t counter, bool pending);

  // Leader only: what it held before the coordinator took it, the first thing to be sent and before
  // any queued update: updates, then the hand-over, in messages of about 256 KiB. A coordinator
  // that still had the group gets an empty hand-over, which says that `again` was all.
  void Introduce(std::vector<HeldStream> held, std::vector<SequenceUpdate> again,
                 const SchedulerStats& stats);
  // The coordinator has taken all of it.
  bool introduced() const;

  // Leader only: asks that the group be drained, once an introduction that is under way is over.
  void Drain();

  // The last words of a rank that ends itself. Returns when the coordinator has heard them, and
  // after `timeout_ms` anyway.
  void ReportFault(LossCause cause, const std::string& message, int64_t timeout_ms);

  // What the coordinator made of the registration: kAccepted, with all that this brings.
  const RegisterOutcome& outcome() const;
  uint64_t epoch() const { return outcome().epoch; }
  uint64_t group() const { return outcome().group; }  // Its number at the coordinator, for logs.

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace shoal::rpc
