#include "transport/rpc/coordinator_link.h"

#include <capnp/message.h>
#include <glog/logging.h>
#include <kj/async-io.h>
#include <kj/async-unix.h>
#include <kj/timer.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "transport/base/clock.h"
#include "transport/base/error.h"
#include "transport/rpc/connection.h"
#include "transport/rpc/convert/convert.h"
#include "transport/rpc/convert/error_map.h"
#include "transport/rpc/hand_over_queue.h"
#include "transport/rpc/update_queue.h"

namespace shoal::rpc {

namespace {

// The pause between two attempts to join grows from the first to the second.
constexpr int64_t kDialAgainMinMs = 20;
constexpr int64_t kDialAgainMaxMs = 250;
// An attempt takes no longer, so that one into a dead network does not outlast the network's
// return.
constexpr int64_t kDialMs = 2'000;
// Heartbeats that may be under way; a coordinator that answers late still gets one each time.
constexpr int kHeartbeatsMax = 16;
constexpr int kLinkNice = -10;
constexpr int64_t kGoodbyeMs = 1'000;
// Unsent updates from which on the step loop is made to wait. The log-probabilities of a prompt of
// half a million positions with 20 alternatives take 86 MB.
constexpr size_t kUnsentBytesMax = size_t{128} << 20;
// Reports of prefixes that wait likewise, each of kPrefixReportMax hashes at most.
constexpr size_t kReportsUnsentMax = 16;

// The coordinator's calls to rank 0, handed on as callbacks. The other ranks have one too, unused.
// A call may overtake the reply that names the epoch: all wait until it is known and the callbacks
// may be called. Calls of a registration that comes to nothing end with their connection.
class LeaderServer : public wire::Leader::Server {
 public:
  LeaderServer(const LinkCallbacks& callbacks, kj::Promise<uint64_t> epoch)
      : callbacks_(callbacks), epoch_(epoch.fork()) {}

  kj::Promise<void> submit(SubmitContext context) override {
    return Take(context, [this](wire::Leader::SubmitParams::Reader params) {
      if (!callbacks_.on_submit) return;
      callbacks_.on_submit(Read(params));
    });
  }

  kj::Promise<void> cancel(CancelContext context) override {
    return Take(context, [this](wire::Leader::CancelParams::Reader params) {
      if (callbacks_.on_cancel) callbacks_.on_cancel(params.getId());
    });
  }

  kj::Promise<void> release(ReleaseContext context) override {
    return Take(context, [this](wire::Leader::ReleaseParams::Reader params) {
      if (callbacks_.on_release) callbacks_.on_release(params.getId());
    });
  }

  kj::Promise<void> stop(StopContext context) override {
    return Take(context, [this](wire::Leader::StopParams::Reader) {
      if (callbacks_.on_stop) callbacks_.on_stop();
    });
  }

 private:
  template <typename Context, typename HandOn>
  kj::Promise<void> Take(Context context, HandOn hand_on) {
    return epoch_.addBranch().then([context, hand_on](uint64_t epoch) mutable {
      return TranslateErrors([&] {
        const auto params = context.getParams();
        if (params.getEpoch() != epoch) {
          Throw(ErrorCode::kInvalidArgument, "this group's epoch is ", epoch, ", the call's ",
                params.getEpoch());
        }
        hand_on(params);
        return kj::Promise<void>(kj::READY_NOW);
      });
    });
  }

  const LinkCallbacks& callbacks_;
  kj::ForkedPromise<uint64_t> epoch_;
};

struct Session {
  std::unique_ptr<DialledConnection> connection;
  wire::RankSession::Client session = nullptr;
  wire::UpdateSink::Client updates = nullptr;
  RegisterOutcome outcome;
  int64_t heartbeat_ms = 100;
  kj::Own<kj::PromiseFulfiller<uint64_t>> start;  // Gives the leader's server the epoch.
};

struct Introduction {
  UpdateQueue again;
  HandOverQueue held;
  SchedulerStats stats;
};

struct Fault {
  LossCause cause;
  std::string message;
};

// Where the system lets it; a rank works without.
void RaiseThisThread() {
  // Of the calling thread: Linux has a nice value for each.
  static_cast<void>(setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kLinkNice));
}

struct Batch {
  std::vector<SequenceUpdate> updates;
  SchedulerStats stats;
  PrefixReport prefixes;
};

}  // namespace

class CoordinatorLink::Loop {
 public:
  Loop(LinkOptions options, LinkCallbacks callbacks)
      : options_(std::move(options)),
        callbacks_(std::move(callbacks)),
        wake_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    SHOAL_CHECK(wake_fd_.get() >= 0, "no file descriptor is left");
    std::future<void> joined = joined_.get_future();
    thread_ = std::thread([this] { Run(); });
    try {
      joined.get();
    } catch (...) {  // Rethrown: a thread must be joined before its object goes.
      thread_.join();
      throw;
    }
  }

  ~Loop() {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    Wake();
    thread_.join();
  }

  void QueueUpdates(std::vector<SequenceUpdate> updates, const SchedulerStats& stats,
                    PrefixReport prefixes) {
    std::unique_lock lock(mutex_);
    while (!ended_ && mailbox_.size() >= options_.updates_waiting_max) {
      // Twice what the loop itself waits before it gives the coordinator up and sets ended_.
      const bool moved = room_.wait_for(
          lock, std::chrono::milliseconds(2 * options_.call_timeout_ms),
          [this, before = update_turns_] { return ended_ || update_turns_ != before; });
      SHOAL_CHECK(moved, "the link's thread stands still");
    }
    if (!ended_) mailbox_.push_back({std::move(updates), stats, std::move(prefixes)});
  }

  void Start() {
    {
      const std::lock_guard lock(mutex_);
      started_ = true;
    }
    Wake();
  }

  void SetProgress(uint64_t counter, bool pending) {
    progress_.store(counter, std::memory_order_relaxed);
    pending_.store(pending, std::memory_order_relaxed);
  }

  void Introduce(std::vector<HeldStream> held, std::vector<SequenceUpdate> again,
                 const SchedulerStats& stats) {
    {
      const std::lock_guard lock(mutex_);
      if (ended_) return;
      introduction_.emplace();
      introduction_->stats = stats;
      for (SequenceUpdate& update : again) introduction_->again.Add(std::move(update));
      for (HeldStream& stream : held) introduction_->held.Add(std::move(stream));
    }
    Wake();
  }

  void Drain() {
    {
      const std::lock_guard lock(mutex_);
      drain_ = true;
    }
    Wake();
  }

  void ReportFault(LossCause cause, const std::string& message, int64_t timeout_ms) {
    std::unique_lock lock(mutex_);
    fault_ = {cause, message};
    fault_told_ = false;
    Wake();
    room_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                   [this] { return ended_ || fault_told_; });
  }

  const RegisterOutcome& outcome() const { return outcome_; }
  bool introduced() const { return introduced_; }

  void Wake() noexcept {
    const uint64_t one = 1;
    // It can fail only when the counter is full, and then the loop is awake anyway.
    [[maybe_unused]] const ssize_t written = write(wake_fd_.get(), &one, sizeof(one));
  }

 private:
  // The thread.
  void Run() {
    RaiseThisThread();
    auto io = kj::setupAsyncIo();
    Session session;
    try {
      session = Join(io);
      outcome_ = session.outcome;
    } catch (const Error&) {  // Handed to the constructor's thread.
      joined_.set_exception(std::current_exception());
      return;
    }
    joined_.set_value();
    const std::string why = Serve(io, session);
    bool closing = false;
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
      mailbox_.clear();
      closing = closing_;
    }
    room_.notify_all();
    if (!closing && callbacks_.on_lost) callbacks_.on_lost(why);
  }

  // Dials until the coordinator has taken the rank, or the deadline.
  Session Join(kj::AsyncIoContext& io) {
    const SteadyClock clock;
    const Deadline deadline = Deadline::After(clock, options_.join_timeout_ms);
    std::string last;
    for (int64_t pause_ms = kDialAgainMinMs; !deadline.Passed(clock);
         pause_ms = std::min(2 * pause_ms, kDialAgainMaxMs)) {
      try {
        std::optional<Session> session = TryJoin(io, deadline.RemainingMs(clock) + 1, last);
        if (session) return std::move(*session);
      } catch (const kj::Exception& exception) {  // The RPC boundary; tried again.
        // What the deadline cut short says less than an attempt that came to its end.
        if (last.empty() || !deadline.Passed(clock)) last = FromKj(exception).what();
      }
      const int64_t wait_ms = std::min(pause_ms, deadline.RemainingMs(clock));
      io.provider->getTimer().afterDelay(wait_ms * kj::MILLISECONDS).wait(io.waitScope);
    }
    Throw(ErrorCode::kCannotJoin, "coordinator ", options_.address, " did not take rank ",
          options_.rank.rank, " within ", options_.join_timeout_ms, " ms; last: ", last);
  }

  // Nothing if the coordinator says to try again; `last` then says why.
  std::optional<Session> TryJoin(kj::AsyncIoContext& io, int64_t left_ms, std::string& last) {
    kj::Timer& timer = io.provider->getTimer();
    const int64_t timeout_ms = std::min(left_ms, options_.call_timeout_ms);
    const auto within = [&](auto promise) {
      return timer.timeoutAt(FromNow(timeout_ms), kj::mv(promise)).wait(io.waitScope);
    };
    Session session;
    session.connection = std::make_unique<DialledConnection>(
        io, options_.address, std::min(left_ms, kDialMs), options_.socket_timeout_ms);
    auto join = session.connection->gate().joinAsWorkerRequest();
    join.setProtocol(wire::PROTOCOL_VERSION);
    join.setGroupToken(
        kj::ArrayPtr<const char>(options_.group_token.data(), options_.group_token.size())
            .asBytes());
    auto joined = within(join.send());
    if (joined.hasRefusal()) {
      Throw(ErrorCode::kCannotJoin, "coordinator ", options_.address, ": ",
            ToString(joined.getRefusal()));
    }
    auto request = joined.getPort().registerRequest();
    Write(options_.rank, request.initRank());
    auto started = kj::newPromiseAndFulfiller<uint64_t>();
    session.start = kj::mv(started.fulfiller);
    if (options_.rank.rank == 0) {
      request.setLeader(kj::heap<LeaderServer>(callbacks_, kj::mv(started.promise)));
    }
    auto reply = within(request.send());
    const auto outcome = reply.getOutcome();
    if (outcome.isRefused()) {
      const std::string message = ToString(outcome.getRefused().getMessage());
      if (outcome.getRefused().getReason() == wire::Refusal::Reason::RETRY) {
        last = message;
        return std::nullopt;
      }
      Throw(CodeOf(outcome.getRefused().getReason()), "coordinator ", options_.address,
            " refused this group: ", message);
    }
    auto accepted = outcome.getAccepted();
    session.session = accepted.getSession();
    if (accepted.hasUpdates()) session.updates = accepted.getUpdates();
    RegisterOutcome& reached = session.outcome;
    reached.epoch = accepted.getEpoch();
    reached.group = accepted.getGroup();
    reached.continued = accepted.getContinued();
    reached.orphan_grace_ms = accepted.getOrphanGraceMs();
    reached.drain_timeout_ms = accepted.getDrainTimeoutMs();
    session.heartbeat_ms = std::max<int64_t>(1, accepted.getHeartbeatMs());
    return session;
  }

  // Of a refusal that no other attempt can change.
  ErrorCode CodeOf(wire::Refusal::Reason reason) const {
    if (reason == wire::Refusal::Reason::MISMATCH) return ErrorCode::kInvalidArgument;
    // It was a member: that its group was given up is no failure to join.
    return options_.rank.last_epoch == 0 ? ErrorCode::kCannotJoin : ErrorCode::kPeerFailed;
  }

  // Until the destructor wants to close, or the coordinator is lost. Result: why it is lost.
  std::string Serve(kj::AsyncIoContext& io, Session& session) {
    kj::Timer& timer = io.provider->getTimer();
    kj::UnixEventPort::FdObserver wake(io.unixEventPort, wake_fd_.get(),
                                       kj::UnixEventPort::FdObserver::OBSERVE_READ);
    try {
      session.connection->OnDisconnect()
          .then([] {
            kj::throwFatalException(
                ToKj(Error(ErrorCode::kPeerLost, "the coordinator closed the connection")));
          })
          .exclusiveJoin(HeartbeatLoop(timer, session))
          .exclusiveJoin(UpdateLoop(timer, wake, session))
          .wait(io.waitScope);
    } catch (const kj::Exception& exception) {  // The RPC boundary; reported by on_lost.
      return Str("coordinator ", options_.address, " lost: ", FromKj(exception).what());
    }
    return "";
  }

  // Beats whether or not the last beat was answered: a coordinator that was held up finds those
  // that it missed. Ends only by what it throws.
  kj::Promise<void> HeartbeatLoop(kj::Timer& timer, Session& session) {
    auto failed = kj::newPromiseAndFulfiller<void>();
    struct Beats : kj::TaskSet::ErrorHandler {
      explicit Beats(kj::Own<kj::PromiseFulfiller<void>> fulfiller)
          : failure(kj::mv(fulfiller)), tasks(*this) {}
      void taskFailed(kj::Exception&& exception) override { failure->reject(kj::mv(exception)); }
      kj::Own<kj::PromiseFulfiller<void>> failure;
      int open = 0;
      kj::TaskSet tasks;
    };
    auto beats = kj::heap<Beats>(kj::mv(failed.fulfiller));
    auto beating = BeatOn(timer, session, beats->open, beats->tasks);
    return beating.exclusiveJoin(kj::mv(failed.promise)).attach(kj::mv(beats));
  }

  kj::Promise<void> BeatOn(kj::Timer& timer, Session& session, int& open, kj::TaskSet& tasks) {
    if (open < kHeartbeatsMax) {
      auto request = session.session.heartbeatRequest();
      request.setEpoch(session.outcome.epoch);
      request.setProgress(progress_.load(std::memory_order_relaxed));
      request.setPending(pending_.load(std::memory_order_relaxed));
      ++open;
      tasks.add(timer
                    .timeoutAfter(options_.heartbeat_timeout_ms * kj::MILLISECONDS,
                                  request.send().ignoreResult())
                    .then([&open] { --open; }));
    }
    return timer.afterDelay(session.heartbeat_ms * kj::MILLISECONDS)
        .then([this, &timer, &session, &open, &tasks] {
          return BeatOn(timer, session, open, tasks);
        });
  }

  kj::Promise<void> UpdateLoop(kj::Timer& timer, kj::UnixEventPort::FdObserver& wake,
                               Session& session) {
    // Watch first, then empty: an observer only tells of what comes after it was asked.
    auto woken = wake.whenBecomesReadable();
    uint64_t wakes = 0;
    [[maybe_unused]] const ssize_t got = read(wake_fd_.get(), &wakes, sizeof(wakes));
    bool closing = false;
    bool drain = false;
    std::optional<Fault> fault;
    {
      const std::lock_guard lock(mutex_);
      if (started_) session.start->fulfill(kj::cp(session.outcome.epoch));
      if (introduction_) introducing_ = std::exchange(introduction_, std::nullopt);
      if (unsent_.bytes() < kUnsentBytesMax) TakeMailbox();
      closing = closing_ && mailbox_.empty();
      // What the group holds goes first: a group that drains takes no hand-over.
      if (!introducing_) drain = std::exchange(drain_, false);
      fault = std::exchange(fault_, std::nullopt);
      ++update_turns_;
    }
    room_.notify_all();
    auto go_on = [this, &timer, &wake, &session] { return UpdateLoop(timer, wake, session); };
    if (fault) return SendFault(timer, session, *fault).then(kj::mv(go_on));
    if (options_.rank.rank == 0 && introducing_) {
      return SendIntroduction(timer, session).then(kj::mv(go_on));
    }
    if (drain) return SendDrain(timer, session).then(kj::mv(go_on));
    if (options_.rank.rank == 0 && (stats_unsent_ || !unsent_.empty() || !prefixes_.empty())) {
      return Send(timer, session).then(kj::mv(go_on));
    }
    if (closing) return SayGoodbye(timer, session);
    return woken.then(kj::mv(go_on));
  }

  // With mutex_ held.
  void TakeMailbox() {
    for (Batch& waiting : std::exchange(mailbox_, {})) {
      for (SequenceUpdate& update : waiting.updates) unsent_.Add(std::move(update));
      stats_ = waiting.stats;
      AddPrefixes(std::move(waiting.prefixes));
      stats_unsent_ = true;
    }
  }

  void AddPrefixes(PrefixReport report) {
    if (report.empty()) return;
    if (report.full) prefixes_.clear();
    if (!prefixes_.empty() && Append(prefixes_.back(), report)) return;
    // A coordinator that cannot follow is told to forget them all: they are only a hint.
    if (prefixes_.size() == kReportsUnsentMax) {
      prefixes_.assign(1, PrefixReport{.full = true});
    } else {
      prefixes_.push_back(std::move(report));
    }
  }

  template <typename Promise>
  kj::Promise<void> WithinCallTime(kj::Timer& timer, Promise promise) {
    return timer.timeoutAfter(options_.call_timeout_ms * kj::MILLISECONDS, kj::mv(promise));
  }

  kj::Promise<void> Send(kj::Timer& timer, Session& session) {
    stats_unsent_ = false;
    // One report a message: each is as long as it may be.
    PrefixReport prefixes;
    if (!prefixes_.empty()) {
      prefixes = std::move(prefixes_.front());
      prefixes_.pop_front();
    }
    return SendUpdates(timer, session, unsent_.Take(kUpdateBytesMax), stats_, prefixes);
  }

  kj::Promise<void> SendUpdates(kj::Timer& timer, Session& session,
                                const std::vector<SequenceUpdate>& updates,
                                const SchedulerStats& stats, const PrefixReport& prefixes) {
    auto request = session.updates.updateRequest();
    request.setEpoch(session.outcome.epoch);
    auto list = request.initSequences(static_cast<unsigned>(updates.size()));
    for (unsigned i = 0; i < updates.size(); ++i) Write(updates[i], list[i]);
    Write(stats, request.initStats());
    if (!prefixes.empty()) Write(prefixes, request.initPrefixes());
    return WithinCallTime(timer, request.send());
  }

  // The next message of what the leader held before.
  kj::Promise<void> SendIntroduction(kj::Timer& timer, Session& session) {
    if (!introducing_->again.empty()) {
      return SendUpdates(timer, session, introducing_->again.Take(kUpdateBytesMax),
                         introducing_->stats, {});
    }
    const std::vector<HeldStream> held = introducing_->held.Take(kUpdateBytesMax);
    const bool last = introducing_->held.empty();
    if (last) introducing_.reset();
    auto request = session.updates.handOverRequest();
    request.setEpoch(session.outcome.epoch);
    auto list = request.initStreams(static_cast<unsigned>(held.size()));
    for (unsigned i = 0; i < held.size(); ++i) Write(held[i], list[i]);
    request.setLast(last);
    return WithinCallTime(timer, request.send().ignoreResult()).then([this, last] {
      introduced_ = last;
    });
  }

  kj::Promise<void> SendDrain(kj::Timer& timer, Session& session) {
    auto request = session.session.drainRequest();
    request.setEpoch(session.outcome.epoch);
    return WithinCallTime(timer, request.send().ignoreResult());
  }

  kj::Promise<void> SendFault(kj::Timer& timer, Session& session, const Fault& fault) {
    auto request = session.session.faultRequest();
    request.setEpoch(session.outcome.epoch);
    request.setCause(std::string(ToString(fault.cause)));
    request.setMessage(ToText(fault.message));
    return WithinCallTime(timer, request.send().ignoreResult()).then([this] {
      {
        const std::lock_guard lock(mutex_);
        fault_told_ = true;
      }
      room_.notify_all();
    });
  }

  kj::Promise<void> SayGoodbye(kj::Timer& timer, Session& session) {
    if (options_.rank.rank != 0) return kj::READY_NOW;
    auto request = session.updates.doneRequest();
    request.setEpoch(session.outcome.epoch);
    return timer.timeoutAfter(kGoodbyeMs * kj::MILLISECONDS, request.send().ignoreResult());
  }

  const LinkOptions options_;
  const LinkCallbacks callbacks_;
  const kj::AutoCloseFd wake_fd_;
  std::promise<void> joined_;
  std::atomic<uint64_t> progress_{0};
  std::atomic<bool> pending_{false};
  std::atomic<bool> introduced_{false};
  RegisterOutcome outcome_;  // Written before the constructor returns.

  // The thread's own: what messages still have to say.
  std::optional<Introduction> introducing_;
  UpdateQueue unsent_;
  SchedulerStats stats_;
  bool stats_unsent_ = false;
  std::deque<PrefixReport> prefixes_;

  std::mutex mutex_;  // Guards what follows up to room_.
  std::deque<Batch> mailbox_;
  std::optional<Introduction> introduction_;
  bool drain_ = false;
  std::optional<Fault> fault_;
  bool fault_told_ = false;
  uint64_t update_turns_ = 0;  // Of UpdateLoop: that it gets on.
  bool started_ = false;
  bool closing_ = false;
  bool ended_ = false;
  std::condition_variable room_;

  std::thread thread_;
};

CoordinatorLink::CoordinatorLink(LinkOptions options, LinkCallbacks callbacks) {
  CheckAddress(options.address);
  loop_ = std::make_unique<Loop>(std::move(options), std::move(callbacks));
}

CoordinatorLink::~CoordinatorLink() = default;

void CoordinatorLink::Start() { loop_->Start(); }

void CoordinatorLink::QueueUpdates(std::vector<SequenceUpdate> updates, const SchedulerStats& stats,
                                   PrefixReport prefixes) {
  loop_->QueueUpdates(std::move(updates), stats, std::move(prefixes));
}

void CoordinatorLink::SendQueued() noexcept { loop_->Wake(); }

void CoordinatorLink::SetProgress(uint64_t counter, bool pending) {
  loop_->SetProgress(counter, pending);
}

void CoordinatorLink::Introduce(std::vector<HeldStream> held, std::vector<SequenceUpdate> again,
                                const SchedulerStats& stats) {
  loop_->Introduce(std::move(held), std::move(again), stats);
}

void CoordinatorLink::Drain() { loop_->Drain(); }

void CoordinatorLink::ReportFault(LossCause cause, const std::string& message, int64_t timeout_ms) {
  loop_->ReportFault(cause, message, timeout_ms);
}

bool CoordinatorLink::introduced() const { return loop_->introduced(); }

const RegisterOutcome& CoordinatorLink::outcome() const { return loop_->outcome(); }

}  // namespace shoal::rpc
