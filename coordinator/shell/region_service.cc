#include "coordinator/shell/region_service.h"

#include <glog/logging.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <variant>

#include "transport/base/check.h"
#include "transport/base/host/system_random.h"

namespace shoal::gateway {

namespace {

constexpr int64_t kLookAgainMs = 20;

}  // namespace

RegionService::RegionService(core::RegionOptions options, const Clock& clock, kj::Timer& timer,
                             RegionEvents events)
    : clock_(clock),
      timer_(timer),
      events_(std::move(events)),
      region_(std::move(options), clock, SystemRandom()),
      tasks_(*this) {
  tasks_.add(TickLoop());
}

RegionService::~RegionService() noexcept = default;

void RegionService::Connect(rpc::ClusterServer& server) { server_ = &server; }

bool RegionService::OnGroupEnded(uint64_t group, LossCause cause, const std::string& why) {
  const bool there = region_.GroupEnded(group, cause, why);
  Schedule();
  return there;
}

kj::Promise<void> RegionService::Stop(int64_t grace_ms) {
  region_.Stop();
  Schedule();
  return AwaitGroupsGone(grace_ms);
}

kj::Promise<void> RegionService::AwaitGroupsGone(int64_t rest_ms) {
  if (rest_ms <= 0 || (region_.groups().empty() && !region_.has_actions())) return kj::READY_NOW;
  return timer_.afterDelay(kLookAgainMs * kj::MILLISECONDS).then([this, rest_ms] {
    return AwaitGroupsGone(rest_ms - kLookAgainMs);
  });
}

// ---- Gateways ----

std::variant<core::StreamId, StreamError> RegionService::Submit(core::Request request,
                                                                core::StreamListener& listener) {
  auto outcome = region_.Submit(std::move(request));
  if (const auto* stream = std::get_if<core::StreamId>(&outcome)) {
    listeners_[*stream] = &listener;
    Schedule();
  }
  return outcome;
}

std::variant<core::GenerationService::Resumed, StreamError> RegionService::Resume(
    core::Request request, core::StreamListener& listener) {
  SHOAL_CHECK(request.stream, "a request that is to go on with no stream");
  const core::StreamId stream = *request.stream;
  auto outcome = region_.Resume(request);
  core::StreamListener* before =
      std::holds_alternative<Resumed>(outcome) ? TakeListener(stream) : nullptr;
  if (before != nullptr) {
    // At once, so that nothing that it does about the stream can be taken for the new one's. It may
    // even have cancelled it.
    before->OnError(
        MakeStreamError(BusyReason::kStreamTaken, "another client goes on with the answer"));
    const bool recomputing = std::get<Resumed>(outcome).recomputing;
    outcome = region_.Resume(std::move(request));
    if (auto* resumed = std::get_if<Resumed>(&outcome)) {
      resumed->recomputing = resumed->recomputing || recomputing;
    } else {
      region_.Detach(stream);  // Nobody listens to it any more.
    }
  }
  if (std::holds_alternative<Resumed>(outcome)) listeners_[stream] = &listener;
  Schedule();
  return outcome;
}

void RegionService::Detach(core::StreamId stream) {
  TakeListener(stream);
  region_.Detach(stream);
  Schedule();
}

void RegionService::Cancel(core::StreamId stream) {
  TakeListener(stream);
  region_.Cancel(stream);
  Schedule();
}

std::string RegionService::Drain(uint64_t group, bool) {
  std::string refusal = region_.Drain(group);
  Schedule();
  return refusal;
}

std::vector<ServedModel> RegionService::models() const { return region_.models(); }

RegionStatus RegionService::status() const { return region_.status(); }

ServiceClass RegionService::ClassOf(const RequestTerms& terms) const {
  return region_.tenants().ClassOf(terms);
}

bool RegionService::DegradeAsked() const { return region_.DegradeAsked(); }

RecordPage RegionService::FindRecords(const RecordQuery& query) const {
  return region_.recorder().Find(query);
}

void RegionService::NoteRecord(core::Record record) { region_.recorder().Note(std::move(record)); }

void RegionService::SetTenants(std::shared_ptr<const core::TenantsPolicy> policy) {
  region_.SetTenants(std::move(policy));
  Schedule();
}

void RegionService::SetGuardRules(core::GuardRules rules) {
  region_.SetGuardRules(std::move(rules));
  Schedule();
}

// ---- Ranks ----

RegisterOutcome RegionService::OnRegister(uint64_t connection, const RankRegistration& rank) {
  const RegisterOutcome outcome = region_.Register(connection, rank);
  if (outcome.kind == RegisterOutcome::Kind::kAccepted) {
    LOG(INFO) << core::Name(rank) << " of " << rank.size
              << (outcome.continued ? " is back in group " : " joined group ") << outcome.group
              << ", epoch " << outcome.epoch << ": " << rank.isa << ", " << rank.thread_count
              << " threads, KV cache of " << rank.kv_cache_tokens << " tokens";
  } else {
    LOG(WARNING) << core::Name(rank) << " was refused: " << outcome.message;
  }
  Schedule();
  return outcome;
}

bool RegionService::OnHeartbeat(uint64_t connection, uint64_t epoch, uint64_t progress,
                                bool pending) {
  return region_.Heartbeat(connection, epoch, progress, pending);
}

bool RegionService::OnUpdates(uint64_t connection, uint64_t epoch,
                              std::vector<SequenceUpdate> updates, const SchedulerStats& stats,
                              const PrefixReport& prefixes) {
  const bool taken = region_.Update(connection, epoch, std::move(updates), stats, prefixes);
  Schedule();
  return taken;
}

bool RegionService::OnHandOver(uint64_t connection, uint64_t epoch, std::vector<HeldStream> streams,
                               bool last) {
  if (!streams.empty()) {
    LOG(INFO) << "the leader on connection " << connection << ", epoch " << epoch << ", brings "
              << streams.size() << " held streams, or parts of them";
  }
  const bool taken = region_.HandOver(connection, epoch, std::move(streams), last);
  Schedule();
  return taken;
}

bool RegionService::OnDrain(uint64_t connection, uint64_t epoch) {
  const bool taken = region_.DrainRequested(connection, epoch);
  Schedule();
  return taken;
}

bool RegionService::OnFault(uint64_t connection, uint64_t epoch, LossCause cause,
                            const std::string& message) {
  const bool taken = region_.Fault(connection, epoch, cause, message);
  Schedule();
  return taken;
}

void RegionService::OnDisconnected(uint64_t connection, const std::string& why) {
  region_.Disconnected(connection, why);
  Schedule();
}

// ---- The loop ----

kj::Promise<void> RegionService::TickLoop() {
  return timer_.afterDelay(region_.options().heartbeat_ms * kj::MILLISECONDS).then([this] {
    region_.Tick();
    Schedule();
    return TickLoop();
  });
}

void RegionService::AwaitDeadline() {
  const std::optional<TimeNs> next = region_.next_deadline();
  if (!next || (awaited_ && *awaited_ <= *next)) return;
  awaited_ = next;
  // Rounded up, so that it is over then.
  const int64_t wait_ms = std::max<int64_t>(0, *next - clock_.now()) / kMillisecondNs + 1;
  tasks_.add(timer_.afterDelay(wait_ms * kj::MILLISECONDS).then([this, at = *next] {
    if (awaited_ == at) awaited_.reset();
    region_.EndOverdue();
    Schedule();
  }));
}

void RegionService::Schedule() {
  AwaitDeadline();
  if (scheduled_ || !region_.has_actions()) return;
  scheduled_ = true;
  tasks_.add(kj::evalLater([this] {
    scheduled_ = false;
    RunActions();
  }));
}

void RegionService::RunActions() {
  SHOAL_CHECK(server_ != nullptr, "not connected");
  // A listener may submit or cancel from its call: that makes new actions, for the next turn.
  for (core::Action& action : region_.TakeActions()) {
    std::visit([this](auto& what) { Do(what); }, action);
  }
  Schedule();
}

void RegionService::Do(core::SubmitAction& action) {
  server_->Submit(action.leader, action.epoch, action.request);
}

void RegionService::Do(core::CancelAction& action) {
  server_->Cancel(action.leader, action.epoch, action.sequence);
}

void RegionService::Do(core::ReleaseAction& action) {
  server_->Release(action.leader, action.epoch, action.sequence);
}

void RegionService::Do(core::StopAction& action) { server_->Stop(action.leader, action.epoch); }

void RegionService::Do(core::CloseAction& action) {
  VLOG(1) << "closing connection " << action.connection << ": " << action.why;
  server_->Close(action.connection);
}

void RegionService::Do(core::DeliverAction& action) {
  if (action.update.finish != FinishReason::kNone) {
    core::StreamListener* listener = TakeListener(action.stream);
    if (listener != nullptr) listener->OnFinish(action.update);
    return;
  }
  const auto listener = listeners_.find(action.stream);
  if (listener != listeners_.end()) listener->second->OnTokens(action.update);
}

void RegionService::Do(core::FailAction& action) {
  core::StreamListener* listener = TakeListener(action.stream);
  if (listener != nullptr) listener->OnError(action.error);
}

void RegionService::Do(core::GroupReadyAction& action) {
  LOG(INFO) << action.name << " is ready; new requests for " << action.serving.key.name
            << " go to numerics id " << action.serving.key.numerics_id << ", "
            << action.serving.reason;
  if (action.key != action.serving.key) {
    LOG(WARNING) << action.name << " gets none of them: it has numerics id "
                 << action.key.numerics_id << ", other weights, --kv-dtype or --numerics";
  }
  if (events_.on_group_ready) events_.on_group_ready(action.group, action.name);
}

void RegionService::Do(core::GroupLostAction& action) {
  if (action.cause == LossCause::kDrained) {
    LOG(INFO) << action.why;
  } else {
    LOG(ERROR) << action.why << " (" << ToString(action.cause) << ")";
  }
  if (events_.on_group_lost) events_.on_group_lost(action.group, action.cause, action.why);
}

void RegionService::Do(core::JournalAction& action) { journal_.Apply(std::move(action)); }

core::StreamListener* RegionService::TakeListener(core::StreamId stream) {
  const auto listener = listeners_.extract(stream);
  return listener.empty() ? nullptr : listener.mapped();
}

void RegionService::taskFailed(kj::Exception&& exception) {
  LOG(ERROR) << "region: " << exception.getDescription().cStr();
}

}  // namespace shoal::gateway
