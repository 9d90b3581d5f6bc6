// The leader never waits for the coordinator and the coordinator never waits for a step: requests
// wait in the inbox, tokens in the link's mailbox; and what it has computed it holds, whether or
// not a coordinator is there.

#include "worker/rank/serving/step_loop.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "transport/base/error.h"
#include "worker/engine/schedule/request_check.h"
#include "worker/rank/group_member.h"

namespace shoal::rank {
namespace {

// How often an idle leader shows the others that it is there, and how soon it sees the stop flag.
constexpr TimeNs kIdlePlanNs = kSecondNs;
constexpr int64_t kIdleWaitMs = 50;

// How long a follower that was told to end waits for the leader, which usually was told so too.
constexpr int64_t kLeaderStopMs = 2000;

// How long a leader that was told to end waits for a coordinator that could drain it.
constexpr int64_t kFindCoordinatorMs = 1000;

}  // namespace

LeaderLoop::LeaderLoop(const LoopContext& context, engine::Scheduler& scheduler, Inbox& inbox,
                       int64_t vocab_size)
    : context_(context),
      scheduler_(scheduler),
      inbox_(inbox),
      vocab_size_(vocab_size),
      send_queued_([&session = context.session] { session.SendQueued(); }) {}

LeaderLoop::~LeaderLoop() { context_.team.FinishIdleTask(); }

void LeaderLoop::Run() {
  last_plan_ = context_.clock.now();
  for (;;) {
    // Deadlines count from when a request is taken.
    scheduler_.SetTime(context_.clock.now());
    TakeEvents();
    if (dismissed_ || HasToEnd()) break;
    if (context_.session.state() == CoordinatorSession::State::kFailed) break;
    CancelExpired();
    const int32_t in_flight = context_.step.in_flight();
    const bool worked = LeaderTurn(scheduler_, context_.step);
    if (worked) last_plan_ = context_.clock.now();
    // What is reported counts a result together with the time that it took.
    scheduler_.SetTime(context_.clock.now());
    context_.session.SetProgress(++turns_, !scheduler_.idle());
    // Sending takes a core from the step for a third of a millisecond, so a turn that only issued a
    // plan sends nothing: the turn that takes its result will.
    if (context_.step.in_flight() <= in_flight) SendUpdates();
    if (!worked) Idle();
  }
  while (context_.step.in_flight() > 0) static_cast<void>(context_.step.Collect());
  context_.step.Issue(scheduler_.StopStep());
  if (context_.session.state() == CoordinatorSession::State::kFailed) {
    context_.session.ThrowFailure();
  }
}

bool LeaderLoop::HasToEnd() {
  const StopRequest stop = context_.stop.load(std::memory_order_relaxed);
  if (stop != StopRequest::kDrain) return stop == StopRequest::kNow;
  if (!drain_began_) {
    drain_began_ = context_.clock.now();
    const int64_t most_ms = joined_ ? membership_.outcome.drain_timeout_ms : kFindCoordinatorMs;
    drain_end_ = Deadline::After(context_.clock, most_ms);
    const SchedulerStats stats = scheduler_.stats();
    LOG(INFO) << "told to end: " << stats.sequences_running + stats.requests_waiting
              << " sequences have " << most_ms << " ms to go elsewhere";
    if (joined_) context_.session.Drain(membership_.number);
  }
  return drain_end_.Passed(context_.clock);
}

void LeaderLoop::TakeEvents() {
  for (InboxEvent& event : inbox_.Take()) {
    switch (event.kind) {
      case InboxEvent::Kind::kSubmit:
        Submit(event);
        break;
      case InboxEvent::Kind::kRefused:
        Refuse(event.id, "more requests at once than this group's queue takes",
               /*no_room=*/true);
        break;
      case InboxEvent::Kind::kCancel:
        scheduler_.Cancel(event.id);
        break;
      case InboxEvent::Kind::kRelease:
        held_.Release(event.id);
        break;
      case InboxEvent::Kind::kJoined:
        Join(event.membership);
        break;
      case InboxEvent::Kind::kLost:
        Lose();
        break;
      case InboxEvent::Kind::kStop:
        dismissed_ = true;
        break;
    }
  }
}

void LeaderLoop::Submit(InboxEvent& event) {
  // From a coordinator that is back and knows no better: all of it was sent again when it came.
  if (held_.Knows(event.id)) return;
  try {
    engine::CheckRequest(event.request, vocab_size_);
    context_.step.model().CheckGrammar(event.request.params.grammar);
  } catch (const Error& error) {  // The RPC boundary: the answer to a bad request is its refusal.
    Refuse(event.id, error.what());
    return;
  }
  switch (scheduler_.Submit(event.request)) {
    case engine::SubmitOutcome::kAccepted:
      held_.Begin(std::move(event.request));
      return;
    case engine::SubmitOutcome::kQueueFull:
      Refuse(event.id, "this group's queue is full", /*no_room=*/true);
      return;
    case engine::SubmitOutcome::kNeverFits:
      Refuse(event.id, "the request is longer than this group's context or KV cache");
      return;
  }
}

void LeaderLoop::Refuse(uint64_t id, std::string why, bool no_room) {
  LOG(WARNING) << "request " << id << " refused: " << why;
  SequenceUpdate update;
  update.id = id;
  update.finish = FinishReason::kCancelled;
  update.detail = std::move(why);
  update.no_room = no_room;
  held_.Refuse(update, context_.clock.now());
  news_.push_back(std::move(update));
}

void LeaderLoop::Join(const Membership& membership) {
  membership_ = membership;
  joined_ = true;
  CollectUpdates();
  news_.clear();  // They are part of what is held.
  Introduce();
  sent_ = scheduler_.stats();
  scheduler_.ReportPrefixesAnew();
  if (!drain_began_) return;
  const TimeNs most = membership.outcome.drain_timeout_ms * kMillisecondNs;
  drain_end_ = {*drain_began_ + most};
  context_.session.Drain(membership.number);
}

void LeaderLoop::Introduce() {
  const RegisterOutcome& outcome = membership_.outcome;
  HeldStreams::Told told = !outcome.continued               ? held_.HandOver()
                           : !membership_.introduced_before ? held_.HandOverAgain()
                                                            : held_.SendAgain();
  for (const uint64_t id : told.cancelled) scheduler_.Cancel(id);
  int64_t tokens = 0;
  int64_t ended = 0;
  for (HeldStream& held : told.streams) {
    held.request.deadline_ms = scheduler_.deadline_left_ms(held.request.id);
    tokens += held.all.tokens_before + static_cast<int64_t>(held.all.tokens.size());
    ended += held.all.finish == FinishReason::kNone ? 0 : 1;
  }
  LOG(INFO) << (outcome.continued ? "back in group " : "joined as group ") << outcome.group
            << " under epoch " << outcome.epoch << ": handed over " << told.streams.size()
            << " streams (" << ended << " ended) with " << tokens << " tokens, told "
            << told.updates.size() << " sequences again, cancelled " << told.cancelled.size();
  context_.session.Introduce(std::move(told.streams), std::move(told.updates), scheduler_.stats(),
                             membership_.number);
}

void LeaderLoop::Lose() {
  joined_ = false;
  news_.clear();
  const int64_t grace_ms = membership_.outcome.orphan_grace_ms;
  held_.Orphan(context_.clock.now(), grace_ms);
  LOG(WARNING) << "no coordinator: " << held_.size() << " sequences are held, resumable ones for "
               << grace_ms << " ms";
  if (!drain_began_) return;
  drain_end_.at = std::min(drain_end_.at, Deadline::After(context_.clock, kFindCoordinatorMs).at);
}

void LeaderLoop::CancelExpired() {
  const std::vector<uint64_t> expired = held_.Expire(context_.clock.now());
  for (const uint64_t id : expired) scheduler_.Cancel(id);
  if (expired.empty()) return;
  LOG(WARNING) << "no coordinator in time: " << expired.size() << " sequences are cancelled, "
               << held_.size() << " go on";
}

void LeaderLoop::CollectUpdates() {
  const TimeNs now = context_.clock.now();
  for (SequenceUpdate& update : scheduler_.TakeUpdates()) {
    if (held_.Add(update, now)) news_.push_back(std::move(update));
  }
}

void LeaderLoop::SendUpdates() {
  CollectUpdates();
  std::vector<SequenceUpdate> news = std::exchange(news_, {});
  if (!joined_) return;
  const SchedulerStats stats = scheduler_.stats();
  PrefixReport prefixes = scheduler_.TakePrefixReport();
  if (news.empty() && prefixes.empty() && stats == sent_) return;
  context_.session.QueueUpdates(std::move(news), stats, std::move(prefixes), membership_.number);
  // From a kernel thread that waits: the link's thread and the coordinator then run on its core. On
  // this thread's core they would delay the next step of all ranks.
  context_.team.RunOnIdleThread(send_queued_);
  sent_ = stats;
}

void LeaderLoop::Idle() {
  context_.team.FinishIdleTask();
  const TimeNs now = context_.clock.now();
  if (now - last_plan_ < kIdlePlanNs) {
    int64_t wait_ms = kIdleWaitMs;
    if (const std::optional<TimeNs> wake = scheduler_.wake_time()) {
      wait_ms = std::clamp<int64_t>((*wake - now) / kMillisecondNs, 1, kIdleWaitMs);
    }
    inbox_.WaitFor(wait_ms);
    return;
  }
  if (const std::optional<engine::StepPlan> plan = scheduler_.NextIdleStep()) {
    context_.step.Issue(*plan);
    scheduler_.OnResult(context_.step.Collect());
    last_plan_ = context_.clock.now();
  }
}

void FollowLeader(const LoopContext& context) {
  uint64_t plans = 0;
  StopRequest told = StopRequest::kNone;
  Deadline leader_stop;
  while (context.step.Follow()) {
    context.session.SetProgress(++plans, false);
    const StopRequest stop = context.stop.load(std::memory_order_relaxed);
    if (stop == StopRequest::kNone) continue;
    if (stop != told) {
      told = stop;
      const int64_t drain_ms = stop == StopRequest::kDrain ? context.session.drain_timeout_ms() : 0;
      leader_stop = Deadline::After(context.clock, drain_ms + kLeaderStopMs);
    } else if (leader_stop.Passed(context.clock)) {
      context.group.Abort();
      Throw(ErrorCode::kPeerLost, "rank ", context.group.rank(),
            " was told to end and the leader was not");
    }
  }
}

}  // namespace shoal::rank
