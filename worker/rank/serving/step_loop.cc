// The leader never waits for the coordinator and the coordinator never waits for a step: requests
// wait in the inbox, tokens in the link's mailbox.

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
  while (!context_.stop.load(std::memory_order_relaxed)) {
    TakeEvents();
    if (dismissed_ || context_.session.state() == CoordinatorSession::State::kFailed) break;
    scheduler_.SetTime(context_.clock.now());
    const int32_t in_flight = context_.step.in_flight();
    const bool worked = LeaderTurn(scheduler_, context_.step);
    if (worked) last_plan_ = context_.clock.now();
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

void LeaderLoop::TakeEvents() {
  for (InboxEvent& event : inbox_.Take()) {
    switch (event.kind) {
      case InboxEvent::Kind::kSubmit:
        Submit(event);
        break;
      case InboxEvent::Kind::kRefused:
        Refuse(event.id, "more requests at once than this group's queue takes");
        break;
      case InboxEvent::Kind::kCancel:
        scheduler_.Cancel(event.id);
        break;
      case InboxEvent::Kind::kLost:
        scheduler_.CancelAll();
        static_cast<void>(scheduler_.TakeUpdates());
        refusals_.clear();
        ++losses_;
        break;
      case InboxEvent::Kind::kStop:
        dismissed_ = true;
        break;
    }
  }
}

void LeaderLoop::Submit(InboxEvent& event) {
  try {
    engine::CheckRequest(event.request, vocab_size_);
    context_.step.model().CheckGrammar(event.request.params.grammar);
  } catch (const Error& error) {  // The RPC boundary: the answer to a bad request is its refusal.
    Refuse(event.id, error.what());
    return;
  }
  switch (scheduler_.Submit(std::move(event.request))) {
    case engine::SubmitOutcome::kAccepted:
      return;
    case engine::SubmitOutcome::kQueueFull:
      Refuse(event.id, "this group's queue is full");
      return;
    case engine::SubmitOutcome::kNeverFits:
      Refuse(event.id, "the request is longer than this group's context or KV cache");
      return;
  }
}

void LeaderLoop::Refuse(uint64_t id, std::string why) {
  LOG(WARNING) << "request " << id << " refused: " << why;
  SequenceUpdate& update = refusals_.emplace_back();
  update.id = id;
  update.finish = FinishReason::kCancelled;
  update.detail = std::move(why);
}

void LeaderLoop::SendUpdates() {
  std::vector<SequenceUpdate> updates = scheduler_.TakeUpdates();
  std::move(refusals_.begin(), refusals_.end(), std::back_inserter(updates));
  refusals_.clear();
  const SchedulerStats stats = scheduler_.stats();
  if (updates.empty() && stats == sent_) return;
  context_.session.QueueUpdates(std::move(updates), stats, losses_);
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
  Deadline leader_stop;
  while (context.step.Follow()) {
    context.session.SetProgress(++plans, false);
    if (!context.stop.load(std::memory_order_relaxed)) continue;
    if (leader_stop.at == Deadline().at) {
      leader_stop = Deadline::After(context.clock, kLeaderStopMs);
    } else if (leader_stop.Passed(context.clock)) {
      context.group.Abort();
      Throw(ErrorCode::kPeerLost, "rank ", context.group.rank(),
            " was told to end and the leader was not");
    }
  }
}

}  // namespace shoal::rank
