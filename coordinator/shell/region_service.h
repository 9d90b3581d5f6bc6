#pragma once

// The region at work: feeds core::Region what ranks and gateways do, and does what it says.

#include <kj/async.h>
#include <kj/timer.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "coordinator/core/region.h"
#include "coordinator/store/journal.h"
#include "transport/base/clock.h"
#include "transport/rpc/server/cluster_server.h"

namespace shoal::gateway {

// What others may want to know as it happens; called from the event loop, may be null.
struct RegionEvents {
  std::function<void(uint64_t group, const std::string& name)> on_group_ready;
  std::function<void(uint64_t group, LossCause cause, const std::string& why)> on_group_lost;
};

// Threading: owned by the event loop. `clock` and `timer` outlive it.
class RegionService : public core::GenerationService,
                      public rpc::RankListener,
                      private kj::TaskSet::ErrorHandler {
 public:
  RegionService(core::RegionOptions options, const Clock& clock, kj::Timer& timer,
                RegionEvents events);
  ~RegionService() noexcept override;

  // Where its groups are; before any rank registers. `server` must outlive every later event.
  void Connect(rpc::ClusterServer& server);

  // The processes of a managed group have ended. Result: whether it was there; then
  // RegionEvents::on_group_lost follows, later.
  bool OnGroupEnded(uint64_t group, LossCause cause, const std::string& why);

  // Ends all streams and dismisses all groups; resolves when they are gone, or after `grace_ms`.
  kj::Promise<void> Stop(int64_t grace_ms);

  const store::Journal& journal() const { return journal_; }

  std::optional<StreamError> PreCheck(const RequestTerms& terms) override {
    return region_.PreCheck(terms);
  }
  std::variant<core::StreamId, StreamError> Submit(core::Request request,
                                                   core::StreamListener& listener) override;
  std::variant<Resumed, StreamError> Resume(core::Request request,
                                            core::StreamListener& listener) override;
  void Detach(core::StreamId stream) override;
  void Cancel(core::StreamId stream) override;
  std::string Drain(uint64_t group, bool restart) override;
  std::vector<ServedModel> models() const override;
  RegionStatus status() const override;
  ServiceClass ClassOf(const RequestTerms& terms) const override;
  bool DegradeAsked() const override;
  RecordPage FindRecords(const RecordQuery& query) const override;
  void NoteRecord(core::Record record) override;
  // As core::Region has them.
  void SetTenants(std::shared_ptr<const core::TenantsPolicy> policy);
  void SetGuardRules(core::GuardRules rules);

  RegisterOutcome OnRegister(uint64_t connection, const RankRegistration& rank) override;
  bool OnHeartbeat(uint64_t connection, uint64_t epoch, uint64_t progress, bool pending) override;
  bool OnUpdates(uint64_t connection, uint64_t epoch, std::vector<SequenceUpdate> updates,
                 const SchedulerStats& stats, const PrefixReport& prefixes = {}) override;
  bool OnHandOver(uint64_t connection, uint64_t epoch, std::vector<HeldStream> streams,
                  bool last) override;
  bool OnDrain(uint64_t connection, uint64_t epoch) override;
  bool OnFault(uint64_t connection, uint64_t epoch, LossCause cause,
               const std::string& message) override;
  void OnDisconnected(uint64_t connection, const std::string& why) override;

 private:
  void taskFailed(kj::Exception&& exception) override;
  kj::Promise<void> TickLoop();
  kj::Promise<void> AwaitGroupsGone(int64_t rest_ms);
  // Has the region's actions done in a turn of the event loop of their own, so that no listener is
  // called from inside a call of its own.
  void Schedule();
  // Has the next deadline looked after when it comes.
  void AwaitDeadline();
  void RunActions();
  void Do(core::SubmitAction& action);
  void Do(core::CancelAction& action);
  void Do(core::ReleaseAction& action);
  void Do(core::StopAction& action);
  void Do(core::CloseAction& action);
  void Do(core::DeliverAction& action);
  void Do(core::FailAction& action);
  void Do(core::GroupReadyAction& action);
  void Do(core::GroupLostAction& action);
  void Do(core::JournalAction& action);
  // Who listens to a stream that ends. Null if nobody does any more: it was cancelled a moment ago.
  core::StreamListener* TakeListener(core::StreamId stream);

  const Clock& clock_;
  kj::Timer& timer_;
  const RegionEvents events_;
  core::Region region_;
  store::Journal journal_;
  rpc::ClusterServer* server_ = nullptr;
  std::map<core::StreamId, core::StreamListener*> listeners_;
  bool scheduled_ = false;
  std::optional<TimeNs> awaited_;  // The deadline that a task waits for; of several the first.
  kj::TaskSet tasks_;
};

}  // namespace shoal::gateway
