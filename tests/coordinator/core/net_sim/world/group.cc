#include "tests/coordinator/core/net_sim/world/group.h"

#include <algorithm>
#include <utility>

#include "transport/base/check.h"
#include "transport/rpc/hand_over_queue.h"
#include "transport/rpc/update_queue.h"

namespace shoal::core::net_sim {

namespace {

// Of what a leader says at once: so few that most of it is cut.
constexpr size_t kMessageBytes = 256;
// A step that other ranks hold up ends the group.
constexpr int64_t kStepDeadlineMs = 20'000;

}  // namespace

FakeGroup::FakeGroup(Context& context, RankDoor& door, RankRegistration shape,
                     std::function<void()> ended)
    : context_(context),
      door_(door),
      shape_(std::move(shape)),
      ended_(std::move(ended)),
      ranks_(static_cast<size_t>(shape_.size)),
      leader_(shape_, context.chance, context.loop) {}

std::string FakeGroup::Name() const {
  return Str("group ", shape_.group_id, " (epoch ", epoch() >> 24, "/", epoch() & 0xffffff, ")");
}

void FakeGroup::Start() {
  for (int32_t rank = 0; rank < size(); ++rank) {
    After(rank, context_.chance.Draw(0, 300), [this, rank] { Dial(rank); });
    After(rank, context_.chance.Draw(0, 250), [this, rank] { Heartbeat(rank); });
  }
}

void FakeGroup::Awake(int32_t rank, std::function<void()> what) {
  if (!at(rank).alive) return;
  if (at(rank).stopped > 0) {
    at(rank).inbox.push_back(std::move(what));
  } else {
    what();
  }
}

void FakeGroup::After(int32_t rank, int64_t milliseconds, std::function<void()> what) {
  context_.loop.After(milliseconds, [self = shared_from_this(), rank, what = std::move(what)] {
    self->Awake(rank, what);
  });
}

// ---- Connections ----

void FakeGroup::Dial(int32_t rank) {
  if (at(rank).link) return;
  const std::shared_ptr<Link> link = door_.Dial(shared_from_this(), rank);
  if (!link) return Redial(rank, context_.chance.Draw(50, 200));
  at(rank).link = link;
  link->OnLost(Side::kRank, [self = shared_from_this(), rank, link = link.get()] {
    self->Awake(rank, [group = self.get(), rank, link] { group->Lost(rank, link); });
  });
  RankRegistration registration = shape_;
  registration.rank = rank;
  registration.pid = 4'000 + rank;
  registration.last_epoch = at(rank).epoch;
  link->Send(Side::kRank, [this, self = shared_from_this(), link, registration] {
    door_.OnRegister(*link, registration);
  });
}

void FakeGroup::Redial(int32_t rank, int64_t milliseconds) {
  After(rank, milliseconds, [this, rank] { Dial(rank); });
}

void FakeGroup::Lost(int32_t rank, const Link* link) {
  if (at(rank).link.get() != link) return;
  at(rank).link = nullptr;
  const bool was_registered = std::exchange(at(rank).registered, false);
  context_.Log(Name(), " rank ", rank, " lost its connection");
  if (terminating_) return EndRank(rank);
  if (rank == 0 && was_registered) Orphan();
  Redial(rank, context_.chance.Draw(0, 150));
}

// It looks for a coordinator for a while longer than it holds streams.
void FakeGroup::Orphan() {
  introduced_before_ = std::exchange(introduced_, false);
  leader_.Orphan(orphan_grace_ms_);
  const uint64_t orphaned = ++orphaned_;
  After(0, orphan_grace_ms_ + context_.chance.Draw(0, 2'000), [this, orphaned] {
    if (orphaned != orphaned_ || at(0).registered) return;
    context_.Log(Name(), " gives up without a coordinator");
    Blame();
    EndAll();
  });
}

void FakeGroup::OnOutcome(int32_t rank, const Link* link, const RegisterOutcome& outcome) {
  Awake(rank, [this, rank, link, outcome] {
    if (at(rank).link.get() != link) return;
    context_.Log(Name(), " rank ", rank, " registered: ", static_cast<int>(outcome.kind), " ",
                 outcome.message, outcome.continued ? " continued" : "");
    switch (outcome.kind) {
      case RegisterOutcome::Kind::kAccepted:
        at(rank).epoch = outcome.epoch;
        at(rank).registered = true;
        orphan_grace_ms_ = outcome.orphan_grace_ms;
        drain_timeout_ms_ = outcome.drain_timeout_ms;
        if (rank == 0) Joined(outcome.continued);
        return;
      case RegisterOutcome::Kind::kRetry:
        at(rank).link->Close(Side::kRank);
        at(rank).link = nullptr;
        return Redial(rank, 500);
      case RegisterOutcome::Kind::kMismatch:
      case RegisterOutcome::Kind::kStale:
        Blame();
        return EndAll();
    }
  });
}

void FakeGroup::Joined(bool continued) {
  rank::HeldStreams::Told told = leader_.Introduce(continued, introduced_before_);
  context_.Log(Name(), " hands ", told.streams.size(), " streams over, tells ", told.updates.size(),
               " again");
  const std::shared_ptr<Link>& link = at(0).link;
  rpc::UpdateQueue again;
  for (SequenceUpdate& update : told.updates) again.Add(std::move(update));
  while (!again.empty()) {
    link->Send(Side::kRank, [this, self = shared_from_this(), link, epoch = epoch(),
                             updates = again.Take(kMessageBytes)] {
      door_.OnUpdate(*link, epoch, updates, /*is_lie=*/false);
    });
  }
  rpc::HandOverQueue held;
  for (HeldStream& stream : told.streams) held.Add(std::move(stream));
  for (bool last = false; !last;) {
    std::vector<HeldStream> part = held.Take(kMessageBytes);
    last = part.empty();
    link->Send(Side::kRank,
               [this, self = shared_from_this(), link, epoch = epoch(), part = std::move(part),
                last] { door_.OnHandOver(*link, epoch, part, last); });
  }
  WantStep();
}

void FakeGroup::OnIntroduced(const Link* link) {
  Awake(0, [this, link] {
    if (at(0).link.get() == link) introduced_ = true;
  });
}

void FakeGroup::OnRefused(int32_t rank, const Link* link) {
  Awake(rank, [this, rank, link] {
    if (at(rank).link.get() != link) return;
    context_.Log(Name(), " rank ", rank, " was refused");
    Blame();
    EndAll();
  });
}

// ---- Orders ----

void FakeGroup::OnSubmit(uint64_t epoch, const SequenceRequest& request) {
  Awake(0, [this, epoch, request] {
    if (!at(0).registered || epoch != at(0).epoch) return;
    context_.Log(Name(), " is given sequence ", request.id, " of stream ", request.stream,
                 " after ", request.generated.size(), " tokens");
    if (!leader_.Submit(request)) {
      context_.Violation(Str(Name(), " is given more than it has room for"));
    }
    std::vector<SequenceUpdate> refusals = leader_.TakeRefusals();
    if (!refusals.empty()) Send(std::move(refusals));
    WantStep();
  });
}

void FakeGroup::OnCancel(uint64_t epoch, SequenceId id) {
  Awake(0, [this, epoch, id] {
    if (!at(0).registered || epoch != at(0).epoch) return;
    context_.Log(Name(), " is to cancel sequence ", id);
    leader_.Cancel(id);
  });
}

void FakeGroup::OnRelease(uint64_t epoch, SequenceId id) {
  Awake(0, [this, epoch, id] {
    if (!at(0).registered || epoch != at(0).epoch) return;
    context_.Log(Name(), " is to release sequence ", id);
    leader_.Release(id);
  });
}

void FakeGroup::OnStop(uint64_t epoch) {
  Awake(0, [this, epoch] {
    if (!at(0).registered || epoch != at(0).epoch) return;
    context_.Log(Name(), " is dismissed");
    Blame();
    for (int32_t rank = 0; rank < size(); ++rank) {
      After(rank, context_.chance.Draw(0, 20), [this, rank] { EndRank(rank); });
    }
  });
}

// ---- Life ----

bool FakeGroup::at_work() const {
  return alive_ && std::ranges::all_of(ranks_, [](const Rank& rank) {
           return rank.alive && rank.registered && rank.stopped == 0;
         });
}

void FakeGroup::Heartbeat(int32_t rank) {
  if (rank == 0) leader_.Expire();
  if (at(rank).registered) {
    const std::shared_ptr<Link>& link = at(rank).link;
    link->Send(Side::kRank, [this, self = shared_from_this(), link = link, epoch = at(rank).epoch,
                             steps = leader_.steps(), busy = leader_.busy()] {
      door_.OnHeartbeat(*link, epoch, steps, busy);
    });
  }
  After(rank, context_.swarm.heartbeat_ms + context_.chance.Draw(0, 20),
        [this, rank] { Heartbeat(rank); });
}

void FakeGroup::WantStep() {
  if (step_wanted_ || !leader_.busy()) return;
  step_wanted_ = true;
  const int64_t step_ms = context_.swarm.step_ms * (slows_ > 0 ? 10 : 1);
  After(0, step_ms, [this, step_ms] {
    step_wanted_ = false;
    leader_.NoteBusy(1'000 * step_ms);
    Step();
  });
}

bool FakeGroup::Blocked() const {
  return hangs_ > 0 || std::ranges::any_of(ranks_, [](const Rank& rank) {
           return !rank.alive || rank.stopped > 0;
         });
}

void FakeGroup::Step() {
  if (Blocked()) {
    impaired_ = true;
    if (blocked_since_ == 0) blocked_since_ = context_.loop.now();
    if (context_.loop.now() - blocked_since_ > kStepDeadlineMs * kMillisecondNs) {
      return Confess(LossCause::kStuck);
    }
    return WantStep();
  }
  blocked_since_ = 0;
  leader_.fails = fails_ > 0;
  const int64_t preemptions = leader_.preemptions();
  std::vector<SequenceUpdate> updates = leader_.Step();
  context_.counters.preempted += leader_.preemptions() - preemptions;
  if (leader_.poisoned()) {
    context_.Log(Name(), " is brought down by a request");
    Blame();
    return EndAll();
  }
  if (!updates.empty()) Send(std::move(updates));
  WantStep();
}

void FakeGroup::Send(std::vector<SequenceUpdate> updates) {
  const std::shared_ptr<Link> link = at(0).link;
  if (!at(0).registered) return;
  const bool ends = std::ranges::any_of(
      updates, [](const SequenceUpdate& update) { return update.finish != FinishReason::kNone; });
  const bool sent = link->SendRough(
      Side::kRank, [this, self = shared_from_this(), link, epoch = at(0).epoch, updates] {
        door_.OnUpdate(*link, epoch, updates, /*is_lie=*/false);
      });
  // Nothing that comes later shows that an end is missing; TCP would have broken.
  if (!sent && ends) {
    context_.loop.After(context_.chance.Draw(0, 500), [link] { link->Reset(); });
  }
}

void FakeGroup::EndRank(int32_t rank) {
  if (!at(rank).alive) return;
  at(rank).alive = false;
  at(rank).registered = false;
  at(rank).inbox.clear();
  if (at(rank).link) at(rank).link->Close(Side::kRank);
  at(rank).link = nullptr;
  if (alive_ && std::ranges::none_of(ranks_, &Rank::alive)) {
    alive_ = false;
    leader_.DropAll();
    ended_();
  }
}

void FakeGroup::EndAll() {
  for (int32_t rank = 0; rank < size(); ++rank) EndRank(rank);
}

}  // namespace shoal::core::net_sim
