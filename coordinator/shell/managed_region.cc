#include "coordinator/shell/managed_region.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "transport/base/check.h"

namespace shoal::gateway {
namespace {

constexpr int64_t kPollMs = 20;
// A stop may take 5 s. After the grace in which dismissed groups leave: for mpirun to notice that
// they have, and for mpirun to end those that have not. SIGKILL and its effect take the rest.
constexpr int64_t kLeaveMs = 700;
constexpr int64_t kTerminateMs = 1'000;
constexpr int64_t kKillMs = 300;

}  // namespace

ManagedRegion::ManagedRegion(core::RegionOptions options, const Clock& clock, kj::Timer& timer,
                             ManagedRegionEvents events)
    : clock_(clock),
      timer_(timer),
      events_(std::move(events)),
      region_(std::move(options), clock, timer, MakeRegionEvents()),
      tasks_(*this) {}

ManagedRegion::~ManagedRegion() noexcept = default;

RegionEvents ManagedRegion::MakeRegionEvents() {
  RegionEvents events;
  events.on_group_ready = [this](uint64_t group, const std::string& name) {
    if (supervisor_) {
      for (const GroupStatus& status : region_.status().groups) {
        if (status.group == group) supervisor_->OnReady(group, status.ranks);
      }
    }
    if (events_.on_group_ready) events_.on_group_ready(name);
  };
  events.on_group_lost = [this](uint64_t group, LossCause cause, const std::string& why) {
    if (supervisor_) supervisor_->OnLost(group, cause, why);
  };
  return events;
}

void ManagedRegion::Start(const launch::LaunchOptions& options, const launch::GroupPlace& place) {
  executor_ = launch::MakeExecutor(options, place);
  if (executor_ == nullptr) return;
  launch::SupervisorEvents events;
  events.on_ending = [this](uint64_t group, LossCause cause, const std::string& why) {
    const bool drained = IsDrained(group);
    return launch::RegionWord{.had_it = region_.OnGroupEnded(group, cause, why),
                              .drained = drained};
  };
  events.on_ended = events_.on_group_ended;
  supervisor_ = std::make_unique<launch::Supervisor>(options.managed_groups(), options.relaunch,
                                                     *executor_, clock_, std::move(events));
  tasks_.add(kj::evalLater([this] { return PollLoop(); }));
}

bool ManagedRegion::IsDrained(uint64_t group) const {
  const std::vector<GroupStatus> groups = region_.status().groups;
  const auto found = std::ranges::find(groups, group, &GroupStatus::group);
  return found != groups.end() &&
         (found->state == GroupState::kDraining || found->state == GroupState::kStopping);
}

kj::Promise<void> ManagedRegion::PollLoop() {
  supervisor_->Poll();
  return timer_.afterDelay(kPollMs * kj::MILLISECONDS).then([this] { return PollLoop(); });
}

kj::Promise<void> ManagedRegion::Stop(int64_t grace_ms) {
  if (supervisor_ == nullptr) return region_.Stop(grace_ms);
  supervisor_->StopStarting();
  return region_.Stop(grace_ms).then([this] { return AwaitGone(kLeaveMs); }).then([this] {
    supervisor_->EndAll(kTerminateMs);
    return AwaitGone(kTerminateMs + kKillMs);
  });
}

kj::Promise<void> ManagedRegion::AwaitGone(int64_t rest_ms) {
  if (rest_ms <= 0 || supervisor_->all_gone()) return kj::READY_NOW;
  return timer_.afterDelay(kPollMs * kj::MILLISECONDS).then([this, rest_ms] {
    return AwaitGone(rest_ms - kPollMs);
  });
}

std::string ManagedRegion::Drain(uint64_t group, bool restart) {
  const bool managed = supervisor_ != nullptr && supervisor_->Manages(group);
  if (restart && !managed) {
    return Str("group ", group,
               " is not one that this coordinator starts: drain it without "
               "--restart, and start it where it was started");
  }
  if (managed && !supervisor_->IsThere(group)) {
    if (restart) {
      supervisor_->StartNow(group);
    } else {
      supervisor_->KeepAway(group);
    }
    return "";
  }
  std::string refusal = region_.Drain(group, restart);
  if (managed && refusal.empty()) supervisor_->ExpectDrain(group, restart);
  return refusal;
}

ServiceClass ManagedRegion::ClassOf(const RequestTerms& terms) const {
  return region_.ClassOf(terms);
}

bool ManagedRegion::DegradeAsked() const { return region_.DegradeAsked(); }

RecordPage ManagedRegion::FindRecords(const RecordQuery& query) const {
  return region_.FindRecords(query);
}

void ManagedRegion::NoteRecord(core::Record record) { region_.NoteRecord(std::move(record)); }

void ManagedRegion::SetTenants(std::shared_ptr<const core::TenantsPolicy> policy) {
  region_.SetTenants(std::move(policy));
}

void ManagedRegion::SetGuardRules(core::GuardRules rules) {
  region_.SetGuardRules(std::move(rules));
}

RegionStatus ManagedRegion::status() const {
  RegionStatus status = region_.status();
  if (supervisor_) supervisor_->Complete(status);
  return status;
}

void ManagedRegion::taskFailed(kj::Exception&& exception) {
  LOG(ERROR) << "managed groups: " << exception.getDescription().cStr();
}

}  // namespace shoal::gateway
