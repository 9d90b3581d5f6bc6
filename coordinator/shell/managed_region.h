#pragma once

// A region together with the groups that this coordinator starts for it.

#include <kj/async.h>
#include <kj/timer.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "coordinator/launch/launch_options.h"
#include "coordinator/launch/supervise/supervisor.h"
#include "coordinator/shell/region_service.h"
#include "transport/base/clock.h"

namespace shoal::gateway {

// What others may want to know as it happens; called from the event loop, may be null.
struct ManagedRegionEvents {
  std::function<void(const std::string& group)> on_group_ready;
  // Of a managed group: nothing of that start is left.
  std::function<void(const launch::EndedGroup& ended)> on_group_ended;
};

// Gives gateways the region's service, and adds to it what only the supervisor of the managed
// groups knows. With no groups to manage it is the region alone.
//
// Threading: owned by the event loop. `clock` and `timer` outlive it.
class ManagedRegion : public core::GenerationService, private kj::TaskSet::ErrorHandler {
 public:
  ManagedRegion(core::RegionOptions options, const Clock& clock, kj::Timer& timer,
                ManagedRegionEvents events);
  ~ManagedRegion() noexcept override;

  RegionService& region() { return region_; }
  const RegionService& region() const { return region_; }

  // Starts the groups, with the next turn of the event loop. Call it once, when they can join at
  // `place`. Errors: kInvalidArgument as MakeExecutor.
  void Start(const launch::LaunchOptions& options, const launch::GroupPlace& place);

  // Ends all streams and dismisses all groups; resolves when they are gone, or after `grace_ms`.
  // Managed ones then have another 2 s, and are ended by force.
  kj::Promise<void> Stop(int64_t grace_ms);

  std::optional<StreamError> PreCheck(const RequestTerms& terms) override {
    return region_.PreCheck(terms);
  }
  std::variant<core::StreamId, StreamError> Submit(core::Request request,
                                                   core::StreamListener& listener) override {
    return region_.Submit(std::move(request), listener);
  }
  std::variant<Resumed, StreamError> Resume(core::Request request,
                                            core::StreamListener& listener) override {
    return region_.Resume(std::move(request), listener);
  }
  void Detach(core::StreamId stream) override { region_.Detach(stream); }
  void Cancel(core::StreamId stream) override { region_.Cancel(stream); }
  std::string Drain(uint64_t group, bool restart) override;
  std::vector<ServedModel> models() const override { return region_.models(); }
  RegionStatus status() const override;
  ServiceClass ClassOf(const RequestTerms& terms) const override;
  bool DegradeAsked() const override;
  RecordPage FindRecords(const RecordQuery& query) const override;
  void NoteRecord(core::Record record) override;
  // As core::Region has them.
  void SetTenants(std::shared_ptr<const core::TenantsPolicy> policy);
  void SetGuardRules(core::GuardRules rules);

 private:
  void taskFailed(kj::Exception&& exception) override;
  RegionEvents MakeRegionEvents();
  // Whether the region has asked it to end.
  bool IsDrained(uint64_t group) const;
  kj::Promise<void> PollLoop();
  kj::Promise<void> AwaitGone(int64_t rest_ms);

  const Clock& clock_;
  kj::Timer& timer_;
  const ManagedRegionEvents events_;
  RegionService region_;
  std::unique_ptr<launch::Executor> executor_;
  std::unique_ptr<launch::Supervisor> supervisor_;  // Null: there are no managed groups.
  kj::TaskSet tasks_;
};

}  // namespace shoal::gateway
