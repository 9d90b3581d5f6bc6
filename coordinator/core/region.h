#pragma once

// The region as a state machine: what has happened goes in, what is to be done comes out. It has no
// sockets, threads, clock or chance of its own, so the simulator runs the very code that production
// runs.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "coordinator/core/actions.h"
#include "coordinator/core/admission.h"
#include "coordinator/core/generation_service.h"
#include "coordinator/core/region/region_state.h"

namespace shoal::core {

// Composes the parts: groups, their health, streams, and the decisions of catalog.h, admission.h
// and routing/router.h. Threading: none; owned by the coordinator's event loop.
class Region : private RegionState {
 public:
  // `random`: 64 bits that nobody can guess, for the ids of streams. `clock` outlives the region.
  Region(RegionOptions options, const Clock& clock, std::function<uint64_t()> random);
  Region(const Region&) = delete;

  // ---- Events from ranks. Those with an epoch return false, and change nothing, if the connection
  // has no rank of that epoch: the shell refuses the message.
  RegisterOutcome Register(ConnectionId connection, const RankRegistration& rank);
  [[nodiscard]] bool Heartbeat(ConnectionId connection, uint64_t epoch, uint64_t progress,
                               bool pending);
  [[nodiscard]] bool Update(ConnectionId connection, uint64_t epoch,
                            std::vector<SequenceUpdate> updates, const SchedulerStats& stats,
                            const PrefixReport& prefixes = {});
  // From a leader that joined, whether or not it was taken back (worker.capnp). Streams that make
  // no sense here are cancelled there, without harm to the group.
  [[nodiscard]] bool HandOver(ConnectionId connection, uint64_t epoch,
                              std::vector<HeldStream> streams, bool last);
  // From a leader that was told to end: as Drain.
  [[nodiscard]] bool DrainRequested(ConnectionId connection, uint64_t epoch);
  // From a rank that ends itself, and with it its group.
  [[nodiscard]] bool Fault(ConnectionId connection, uint64_t epoch, LossCause cause,
                           const std::string& message);
  // Its group has a grace to have it back, unless it was dismissed.
  void Disconnected(ConnectionId connection, const std::string& why);

  // ---- Events from whoever started a group. Its processes have ended: false if it is not here.
  bool GroupEnded(uint64_t number, LossCause cause, const std::string& why);
  // As GenerationService::Drain. When it is gone there is a GroupLostAction of kDrained.
  std::string Drain(uint64_t number);
  // ---- Events from gateways. A stream that was taken ends with exactly one DeliverAction whose
  // update has a finish, or one FailAction, or Cancel; one that is detached has neither until it is
  // resumed. request.stream, if given, is that of no stream here.
  std::variant<StreamId, StreamError> Submit(Request request);
  std::optional<StreamError> PreCheck(const RequestTerms& terms);
  using Resumed = GenerationService::Resumed;
  // As GenerationService::Resume; what the stream has brought is told once more by DeliverActions.
  std::variant<Resumed, StreamError> Resume(Request request);
  void Detach(StreamId stream);
  void Cancel(StreamId stream);
  // From now on tenants are those; streams that were taken go on.
  void SetTenants(std::shared_ptr<const TenantsPolicy> policy);
  // From now on breakers and outliers go by those (Guard::Configure).
  void SetGuardRules(GuardRules rules);
  // Time has passed: call about every heartbeat_ms.
  void Tick();
  // Ends streams whose deadline is over: call when next_deadline comes. Tick does so, too.
  void EndOverdue();
  std::optional<TimeNs> next_deadline() const;

  // Takes no more requests, ends all streams with kDraining and dismisses all groups.
  void Stop();
  // What is to be done since the last call.
  std::vector<Action> TakeActions();
  bool has_actions() const { return !actions_.empty(); }
  std::vector<ServedModel> models() const;
  RegionStatus status() const;
  size_t groups_ready() const;
  FlightRecorder& recorder() { return recorder_; }
  const FlightRecorder& recorder() const { return recorder_; }
  const Tenants& tenants() const { return tenants_; }
  // As GenerationService::DegradeAsked.
  bool DegradeAsked() const { return guard_.degrades(); }

  const GroupMap& groups() const { return groups_.all(); }
  const StreamMap& streams() const { return streams_.all(); }
  const std::map<StreamId, EndedStream>& ended() const { return ended_.all(); }
  const RegionOptions& options() const { return options_; }
  // What has gone wrong in here; empty if nothing (invariants.h). Tick looks now and then, and ends
  // the process if anything has.
  std::string FindBrokenInvariant() const;

 private:
  // ---- region/region.cc
  // The group of a connection's rank, if it is still there and of that epoch.
  Group* FindGroup(ConnectionId connection, uint64_t epoch);
  Group* FindLed(ConnectionId connection, uint64_t epoch);  // If the rank is its leader.
  // Its leader has joined, or is back.
  void Introduce(Group& group, bool continued);
  // Its leader has said all that it has: what it does not know of goes on elsewhere.
  void SettleRejoin(Group& group);
  void LoseGroup(Group& group, LossCause cause, const std::string& why);
  void RemoveGroup(uint64_t number, const std::string& why);
  void TickGroup(Group& group);
  void TickGuard();
  void FollowGuard();  // Does what it has decided.

  // ---- region/canaries.cc
  void StartCanary(Group& group);
  void StartDueCanary(Group& group);  // If one is due and there is a place for it.
  void TickCanary(Group& group);
  void ApplyCanary(Group& group, SequenceUpdate update);

  // ---- region/updates.cc
  // Whether it is of a time that is over.
  bool IgnoreUpdate(const Group& group, const SequenceUpdate& update);
  std::optional<UpdateFault> FindFault(const Group& group, const SequenceUpdate& update);
  void ApplyUpdate(Group& group, SequenceUpdate update);
  // Its leader does not go on with the stream.
  void ApplyRefusal(const Group& group, StreamId id, const SequenceUpdate& update);
  void NotePreemptions(StreamId id, SequenceUpdate& update);
  void NoteFirstToken(StreamId id, const Stream& stream);
  void NoteToken(Stream& stream);  // It shows that it lives.

  // ---- region/hand_over.cc. Result: whether it was taken.
  bool TakeHeld(Group& group, HeldStream& held);
  bool TakeHeldPart(Group& group, StreamId id, HeldStream& held);
  bool AdoptStream(Group& group, HeldStream& held);
  // What waits is with that group, as that sequence.
  void Bind(StreamId id, Group& group, SequenceId sequence);

  // ---- region/drain.cc
  void BeginDrain(Group& group);
  void MoveStreams(Group& group, std::string_view why);  // "is drained".
  void TickDraining(Group& group);
  void DismissDrained(Group& group);  // If nothing is left there.

  // ---- region/clients.cc
  StreamId AddStream(Stream stream);
  // Before a request is judged: what is overdue goes, and groups take what their rate allows by
  // now.
  void CatchUp();
  void MakeRoomFor(const Stream& stream);  // In a full queue: whoever is worse goes.
  void ForgetActionsFor(StreamId id);
  void FailStream(StreamId id, StreamError error);
  void FinishStream(const Group& group, StreamId id, SequenceUpdate last);
  // Its last action is made. Result: the stream as it was.
  Stream EndStream(StreamId id);
  AdmissionView View();
  void NoteRejection(const RequestTerms& terms, const StreamError& why);
  // A record of that stream or sharer, with what identifies it filled in.
  Record RecordOf(RecordKind kind, StreamId id, const Stream& stream) const;
  void SetDeadline(StreamId id, std::optional<TimeNs> deadline);
  void Expire(StreamId id);  // Its deadline is over (region/deadlines.cc).
  void Release(const Holder& holder);
  void LimitDetached();
  void ForgetStreams();  // Those whose clients have stayed away for too long.

  // ---- region/sharing.cc
  std::optional<StreamId> FindSame(const Request& request) const;
  std::variant<StreamId, StreamError> Join(StreamId id, const Request& request);
  bool LeaveOthers(StreamId sharer, RecordKind why);  // False: it is no sharer, or the last one.
  void ExpireSharers();

  // ---- region/placing.cc
  // The stream's group is no more: it waits for another one, unless it may be the cause.
  void LoseStreamsGroup(StreamId id, Parked why);
  // As its group sees it: without the protection, all are alike.
  ServiceClass ClassInGroup(const Stream& stream) const;
  std::optional<uint64_t> ChooseGroupFor(StreamId id, const Stream& stream) const;
  // Result: whether it was still to be given to its group, which has not heard of it.
  bool Withdraw(SequenceId sequence);
  // Hands out what waits for groups of that key and fits.
  void Dispatch(const ModelKey& key);
  void DispatchAll();
  // A group is given so much work; or 0: time has passed. Whether it has had enough for now.
  void Shape(Group& group, int64_t tokens);
  void Place(StreamId id, Group& group);
  // No group that is ready could ever hold some of what waits.
  void StrandTooLarge(const ModelKey& key);
  void Strand(StreamId id, Stream& stream);
  void FailStranded();
  StreamError StrandedError(const Stream& stream) const;

  void NoteLoss(uint64_t number, std::string why);
};

}  // namespace shoal::core
