#include "tests/coordinator/core/net_sim/host.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "transport/base/check.h"

namespace shoal::core::net_sim {

Host::Host(Context& context, RegionOptions options)
    : context_(context), options_(std::move(options)), bugs_(context.bug) {}

Host::~Host() {
  for (const auto& link : links_) {
    if (const std::shared_ptr<Link> alive = link.lock()) alive->Sever();
  }
}

void Host::Connect(Clients& clients, Checker& checker, OverloadChecker& overload) {
  clients_ = &clients;
  checker_ = &checker;
  overload_ = &overload;
}

// ---- Its life ----

void Host::Start() {
  if (region_) return;
  // Boots are told apart by the millisecond.
  if (incarnation_ > 0 && context_.loop.now() - started_ < kMillisecondNs) {
    return context_.loop.After(1, [this] { Start(); });
  }
  started_ = context_.loop.now();
  awaited_.reset();
  RegionOptions options = options_;
  options.boot = BootPart(kLoopStartMs + context_.loop.now() / kMillisecondNs);
  bugs_.Mutate(options);
  region_ = std::make_unique<Region>(
      options, context_.loop,
      [chance = std::make_shared<Chance>(context_.chance.Next())] { return chance->Next(); });
  checker_->NewRegion();
  context_.Log("a coordinator starts");
  Tick(++incarnation_);
}

void Host::Crash() {
  if (!region_) return;
  context_.Log("the coordinator dies");
  region_.reset();
  backlog_.clear();
  gone_.clear();
  numbers_.clear();
  ids_.clear();
  const auto connections = std::exchange(connections_, {});
  // Its machine may have gone with it, and then nobody is told.
  const bool silent = context_.chance.OneIn(4);
  for (const auto& [id, connection] : connections) {
    connection.group->Blame();
    if (silent) {
      connection.link->ResetFor(Side::kCoordinator);
      context_.loop.After(context_.chance.Draw(0, 3'000),
                          [link = connection.link] { link->Stall(Side::kRank, false); });
    } else {
      connection.link->Close(Side::kCoordinator);
    }
  }
  clients_->OnCoordinatorLost();
}

void Host::Pause(int64_t milliseconds) {
  if (!region_) return;
  context_.Log("the coordinator is stopped for ", milliseconds, " ms");
  ++paused_;
  context_.loop.After(milliseconds, [this] {
    if (--paused_ > 0) return;
    context_.Log("the coordinator runs again");
    context_.woke = context_.loop.now();
    while (paused_ == 0 && !backlog_.empty()) {
      const std::function<void()> next = std::move(backlog_.front());
      backlog_.pop_front();
      next();
    }
  });
}

void Host::Awake(std::function<void()> what) {
  if (!region_) return;
  if (paused_ > 0) {
    backlog_.push_back(std::move(what));
  } else {
    what();
  }
}

void Host::Tick(uint64_t incarnation) {
  if (incarnation != incarnation_ || !region_) return;
  if (paused_ == 0) {
    checker_->Ticks(*region_);
    region_->Tick();
    Act();
    checker_->Ticked(*region_);
    if (region_) checker_->CheckIdle(*region_);
  }
  context_.loop.After(context_.swarm.heartbeat_ms, [this, incarnation] { Tick(incarnation); });
}

void Host::EndOverdue() {
  if (context_.bug == PlantedBug::kTicksForDeadlines) return;
  region_->EndOverdue();
  Act();
}

// As the shell does.
void Host::AwaitDeadline() {
  const std::optional<TimeNs> next = region_->next_deadline();
  if (!next || (awaited_ && *awaited_ <= *next)) return;
  awaited_ = next;
  const TimeNs wait_ns = std::max<TimeNs>(0, *next - context_.loop.now());
  context_.loop.After(wait_ns / kMillisecondNs + 1, [this, at = *next, of = incarnation_] {
    Awake([this, at, of] {
      if (of != incarnation_) return;
      if (awaited_ == at) awaited_.reset();
      EndOverdue();
    });
  });
}

void Host::Reload() {
  Awake([this] {
    const auto policy = std::make_shared<const TenantsPolicy>(
        context_.swarm.overload.DrawReloaded(context_.chance));
    context_.Log("the tenants file is read again");
    ++context_.counters.reloads;
    overload_->Reloaded(*policy);
    options_.tenants = policy;
    bugs_.Reload(policy, *region_);
    Act();
  });
}

// ---- Ranks ----

std::shared_ptr<Link> Host::Dial(const std::shared_ptr<FakeGroup>& group, int32_t rank) {
  if (!region_) return nullptr;
  const auto link = std::make_shared<Link>(context_.loop, context_.chance, context_.swarm.link);
  const ConnectionId id = next_connection_++;
  connections_[id] = {link, group, rank};
  ids_[link.get()] = id;
  links_.push_back(link);
  link->OnLost(Side::kCoordinator, [this, link = link.get()] {
    Awake([this, link] {
      const auto found = ids_.find(link);
      if (found == ids_.end()) return;
      const ConnectionId lost = found->second;
      const bool registered = connections_.at(lost).registered;
      ids_.erase(found);
      // Kept until the region has heard of it: what it says of it meanwhile goes nowhere.
      const Connection connection = connections_.extract(lost).mapped();
      if (!registered) return;
      region_->Disconnected(lost, "its connection closed");
      Act();
    });
  });
  return link;
}

void Host::Arrive(const Link& link, const std::function<void(ConnectionId, Connection&)>& what) {
  Awake([this, link = link.shared_from_this(), what] {
    const auto id = ids_.find(link.get());
    if (id == ids_.end()) return;
    what(id->second, connections_.at(id->second));
    Act();
  });
}

void Host::Refuse(ConnectionId id) {
  const Connection& connection = connections_.at(id);
  ++context_.counters.refused_old;
  connection.link->Send(Side::kCoordinator,
                        [group = connection.group, rank = connection.rank,
                         link = connection.link.get()] { group->OnRefused(rank, link); });
}

void Host::OnRegister(Link& link, const RankRegistration& rank) {
  Arrive(link, [this, rank](ConnectionId id, Connection& connection) {
    const RegisterOutcome outcome = region_->Register(id, rank);
    connection.registered = outcome.kind == RegisterOutcome::Kind::kAccepted;
    if (connection.registered && rank.rank == 0) {
      numbers_[outcome.group] = {id, outcome.epoch, outcome.group};
    }
    checker_->Registered(id, connection.group, rank, outcome);
    connection.link->Send(Side::kCoordinator, [group = connection.group, rank = connection.rank,
                                               link = connection.link.get(),
                                               outcome] { group->OnOutcome(rank, link, outcome); });
  });
}

void Host::OnHeartbeat(Link& link, uint64_t epoch, uint64_t progress, bool pending) {
  Arrive(link, [this, epoch, progress, pending](ConnectionId id, Connection&) {
    if (!region_->Heartbeat(id, epoch, progress, pending)) Refuse(id);
  });
}

void Host::OnUpdate(Link& link, uint64_t epoch, std::vector<SequenceUpdate> updates, bool is_lie) {
  Arrive(link, [this, epoch, updates = std::move(updates), is_lie](ConnectionId id, Connection&) {
    Update(id, epoch, updates, is_lie);
  });
}

void Host::Update(ConnectionId id, uint64_t epoch, std::vector<SequenceUpdate> updates,
                  bool is_lie) {
  bugs_.Mutate(updates, *region_);
  // What is said of a sequence that was cancelled is nobody's.
  bool is_heard = false;
  for (const SequenceUpdate& update : updates) {
    for (const auto& [stream_id, stream] : region_->streams()) {
      if (stream.sequence != update.id) continue;
      is_heard = true;
      if (!update.tokens.empty() && update.tokens_before < std::ssize(stream.tokens)) {
        ++context_.counters.trimmed;
      }
    }
  }
  const FakeGroup& group = *connections_.at(id).group;
  const SchedulerStats stats =
      context_.swarm.overload.reports ? group.stats() : SchedulerStats{.steps_total = ++steps_};
  checker_->Updates(updates, *region_);
  if (!region_->Update(id, epoch, updates, stats)) return Refuse(id);
  const bool there = std::ranges::any_of(
      region_->groups(), [&](const auto& entry) { return entry.second.epoch == epoch; });
  if (there && is_lie && is_heard) {
    context_.Violation(Str("the lie of the leader of epoch ", epoch, " was taken"));
  }
  checker_->Updated(id, epoch, updates, there);
}

void Host::OnHandOver(Link& link, uint64_t epoch, std::vector<HeldStream> streams, bool last) {
  Arrive(link, [this, epoch, streams = std::move(streams), last](ConnectionId id,
                                                                 Connection& connection) {
    for (const HeldStream& held : streams) checker_->HandsOver(held, *region_);
    std::vector<HeldStream> heard = streams;
    bugs_.Mutate(heard);
    if (!region_->HandOver(id, epoch, std::move(heard), last)) return Refuse(id);
    if (last) {
      checker_->Introduced(id, epoch, *region_);
      connection.link->Send(
          Side::kCoordinator,
          [group = connection.group, link = connection.link.get()] { group->OnIntroduced(link); });
    }
    Act();
    for (const HeldStream& held : streams) checker_->HandedOver(held, id, epoch, *region_);
  });
}

void Host::OnDrain(Link& link, uint64_t epoch) {
  Arrive(link, [this, epoch](ConnectionId id, Connection&) {
    if (!region_->DrainRequested(id, epoch)) return Refuse(id);
    Act();
    checker_->Draining(id, epoch);
  });
}

void Host::OnFault(Link& link, uint64_t epoch, LossCause cause) {
  Arrive(link, [this, epoch, cause](ConnectionId id, Connection&) {
    if (!region_->Fault(id, epoch, cause, "as it says")) Refuse(id);
  });
}

void Host::GroupEnded(uint64_t number) {
  Awake([this, number] {
    region_->GroupEnded(number, LossCause::kRankDied, "its processes ended");
    Act();
  });
}

void Host::Drain() {
  if (!up() || numbers_.empty()) return;
  const auto chosen =
      std::next(numbers_.begin(), context_.chance.Draw(0, std::ssize(numbers_) - 1));
  const Gone group = chosen->second;
  const auto leader = connections_.find(group.leader);
  if (leader == connections_.end()) return;
  const std::string refusal = region_->Drain(group.number);
  context_.Log("group ", group.number, " is to be drained: ", refusal);
  if (refusal.empty()) leader->second.group->Blame();
  Act();
  if (refusal.empty()) checker_->Draining(group.leader, group.epoch);
}

// What a group says after it was given up must be refused, also where it says it on the connection
// of another.
void Host::SpeakFromTheGrave() {
  if (!up() || gone_.empty() || numbers_.empty()) return;
  const Gone old = context_.chance.Pick(gone_);
  SequenceUpdate update;
  if (!region_->streams().empty()) update.id = region_->streams().begin()->second.sequence;
  update.tokens = {1};
  const auto successor =
      numbers_.contains(old.number) ? numbers_.find(old.number) : numbers_.begin();
  for (const ConnectionId connection : {old.leader, successor->second.leader}) {
    if (old.epoch == successor->second.epoch) continue;
    const uint64_t epoch = bugs_.Mutate(old.epoch, successor->second.epoch);
    if (region_->Heartbeat(connection, epoch, 1, true) ||
        region_->Update(connection, epoch, {update}, {})) {
      context_.Violation(Str("what epoch ", old.epoch, " says is taken"));
    }
    ++context_.counters.refused_old;
  }
  Act();
}

// ---- Clients ----

bool Host::Call(const std::function<void(Region&)>& what) {
  if (!up()) return false;
  EndOverdue();
  what(*region_);
  Act();
  return true;
}

// ---- Actions ----

void Host::Act() {
  if (!region_) return;
  std::vector<Action> actions = region_->TakeActions();
  bugs_.Mutate(actions, *region_);
  checker_->Observe(actions, *region_);
  for (const Action& action : actions) Do(action);
  checker_->Check(*region_);
  AwaitDeadline();
  if (const auto fast = bugs_.FindRefund(actions, *options_.tenants)) ActFor(fast);
}

void Host::ActFor(const std::shared_ptr<const TenantsPolicy>& policy) {
  context_.loop.After(0, [this, policy, of = incarnation_] {
    if (!region_ || of != incarnation_) return;
    region_->SetTenants(policy);
    Act();
  });
  context_.loop.After(1, [this, of = incarnation_] {
    if (!region_ || of != incarnation_) return;
    region_->SetTenants(options_.tenants);
    Act();
  });
}

void Host::Do(const Action& action) {
  const auto tell = [this](ConnectionId leader, auto what) {
    const auto connection = connections_.find(leader);
    if (connection == connections_.end()) return;
    connection->second.link->Send(Side::kCoordinator,
                                  [group = connection->second.group, what] { what(*group); });
  };
  if (const auto* submit = std::get_if<SubmitAction>(&action)) {
    tell(submit->leader,
         [submit = *submit](FakeGroup& group) { group.OnSubmit(submit.epoch, submit.request); });
  } else if (const auto* cancel = std::get_if<CancelAction>(&action)) {
    tell(cancel->leader,
         [cancel = *cancel](FakeGroup& group) { group.OnCancel(cancel.epoch, cancel.sequence); });
  } else if (const auto* release = std::get_if<ReleaseAction>(&action)) {
    tell(release->leader, [release = *release](FakeGroup& group) {
      group.OnRelease(release.epoch, release.sequence);
    });
  } else if (const auto* stop = std::get_if<StopAction>(&action)) {
    tell(stop->leader, [stop = *stop](FakeGroup& group) { group.OnStop(stop.epoch); });
  } else if (const auto* close = std::get_if<CloseAction>(&action)) {
    const auto connection = connections_.find(close->connection);
    if (connection == connections_.end()) return;
    context_.Log(connection->second.group->Name(), " rank ", connection->second.rank,
                 ": its connection is closed: ", close->why);
    connection->second.link->Close(Side::kCoordinator);
    ids_.erase(connection->second.link.get());
    connections_.erase(connection);
  } else if (const auto* deliver = std::get_if<DeliverAction>(&action)) {
    clients_->OnDeliver(deliver->stream, deliver->update);
  } else if (const auto* fail = std::get_if<FailAction>(&action)) {
    clients_->OnFail(fail->stream, fail->error);
  } else if (const auto* lost = std::get_if<GroupLostAction>(&action)) {
    const auto number = numbers_.find(lost->group);
    if (number == numbers_.end()) return;
    gone_.push_back(number->second);
    numbers_.erase(number);
    context_.loop.After(context_.chance.Draw(0, 3'000), [this] { SpeakFromTheGrave(); });
  }
}

}  // namespace shoal::core::net_sim
