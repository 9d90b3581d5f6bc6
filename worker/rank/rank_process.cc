// Builds the object graph of a rank top to bottom, and takes it down again in an order that leaves
// nobody waiting: coordinator first, then the group, then MPI.

#include "worker/rank/rank_process.h"

#include <glog/logging.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <iostream>
#include <new>

#include "transport/base/error.h"
#include "transport/base/host/system_random.h"
#include "transport/rpc/secret.h"
#include "worker/rank/agreement.h"
#include "worker/rank/group_setup.h"
#include "worker/rank/local_address.h"
#include "worker/rank/serving/coordinator_session.h"
#include "worker/rank/serving/end_watch.h"
#include "worker/rank/serving/inbox.h"
#include "worker/rank/serving/step_loop.h"
#include "worker/rank/worker_options.h"

namespace shoal::rank {
namespace {

// Added to the time for joining, for the ranks to agree on how it went.
constexpr int64_t kJoinSlackMs = 5'000;
constexpr int64_t kJoinPollMs = 50;
// How long a rank that ends itself waits for the coordinator to hear why.
constexpr int64_t kFaultMs = 200;
// How long a rank of an ending group waits for the others to say how it ended for them.
constexpr int64_t kEndMs = 1'500;

uint64_t SharedGroupId(comm::MpiEnvironment& environment, Deadline deadline) {
  uint64_t id = SystemRandom()();
  environment.Broadcast(std::as_writable_bytes(std::span(&id, 1)), 0, deadline);
  return id;
}

// Clients must not know it: with it they could make prefixes whose hashes are equal.
std::string PrefixSecret(const WorkerOptions& options) {
  if (!options.group_token_file.empty()) return rpc::ReadSecretFile(options.group_token_file);
  const auto random = SystemRandom();
  return Str(random(), " ", random());
}

// What a rank that ends with this error tells the coordinator. What it only hears of another rank's
// end comes later than that rank's own words.
LossCause CauseOf(ErrorCode code) {
  if (code == ErrorCode::kWrongAnswer) return LossCause::kWrongAnswer;
  if (code == ErrorCode::kDeadlineExceeded) return LossCause::kStuck;
  return LossCause::kRankDied;
}

class RankProcess {
 public:
  RankProcess(comm::MpiEnvironment& environment, const StopSignal& stop)
      : environment_(environment), stop_(stop.request()) {}

  // Result: false if there is nothing to run, only something that was printed.
  bool SetUp(int argc, const char* const* argv) {
    config::OptionTable table = MakeWorkerTable(options_);
    config::ParseOutcome outcome = config::ParseOutcome::kRun;
    RunOnAllRanks(environment_, Deadline::After(clock_, kJoinSlackMs),
                  [&] { outcome = table.Parse(argc, argv); });
    if (outcome == config::ParseOutcome::kPrinted) return false;
    const char* force_isa = std::getenv("SHOAL_FORCE_ISA");
    setup_ = SetUpGroup(environment_, options_, force_isa == nullptr ? "" : force_isa, clock_);
    inbox_ = std::make_unique<Inbox>(static_cast<size_t>(options_.scheduler.requests_waiting_max +
                                                         options_.scheduler.sequences_max));
    return true;
  }

  void Join() {
    const Deadline deadline = Deadline::After(clock_, options_.join_timeout_ms + kJoinSlackMs);
    const uint64_t group_id = SharedGroupId(environment_, deadline);
    RunOnAllRanks(environment_, deadline, [&] {
      session_ =
          std::make_unique<CoordinatorSession>(MakeLinkOptions(group_id), InboxCallbacks(*inbox_));
      // A stop ends the wait; the leader's loop then tells the others.
      while (session_->WaitWhileJoining(kJoinPollMs) == CoordinatorSession::State::kJoining) {
        if (stop_.load(std::memory_order_relaxed) != StopRequest::kNone) return;
      }
      if (session_->state() == CoordinatorSession::State::kFailed) session_->ThrowFailure();
    });
  }

  void Run() {
    const EndWatch watch(*setup_->group, *session_, stop_, clock_);
    try {
      RunLoop();
    } catch (const Error& error) {  // Rethrown: the others may wait for this rank.
      ReportFault(CauseOf(error.code()), error.what());
      setup_->group->Abort();
      if (error.code() == ErrorCode::kPeerLost) ThrowCause(watch.verdict());
      throw;
    } catch (const std::bad_alloc&) {  // Likewise.
      ReportFault(LossCause::kOutOfMemory, "out of memory");
      setup_->group->Abort();
      throw;
    } catch (...) {  // Likewise.
      ReportFault(LossCause::kRankDied, "an exception without a text");
      setup_->group->Abort();
      throw;
    }
  }

  // Result: false if a thread still runs that cannot be ended.
  bool Close() { return session_ == nullptr || session_->Close(); }

 private:
  // Before the group is aborted, so that the cause is heard before its echo from other ranks.
  void ReportFault(LossCause cause, const std::string& message) noexcept {
    try {
      session_->ReportFault(cause, Str("rank ", environment_.rank(), ": ", message), kFaultMs);
    } catch (const std::exception& error) {  // The group's end is what matters, not its reason.
      LOG(ERROR) << "the coordinator is not told why this rank ends: " << error.what();
    }
  }

  void RunLoop() {
    const LoopContext context{
        setup_->member->step(), *setup_->team, *setup_->group, *session_, clock_, stop_};
    if (!setup_->member->leads()) {
      FollowLeader(context);
      return;
    }
    engine::Scheduler scheduler(MakeSchedulerOptions());
    LeaderLoop(context, scheduler, *inbox_, setup_->model->config().vocab_size).Run();
  }

  // Throws why the group was aborted, if this rank did it, or would have: another rank may have
  // heard of the same cause a little earlier. Returns if this rank knows no cause.
  void ThrowCause(EndRule::Verdict verdict) const {
    if (session_->state() == CoordinatorSession::State::kFailed) session_->ThrowFailure();
    if (verdict == EndRule::Verdict::kToldToEnd) {
      Throw(ErrorCode::kPeerLost, "rank ", environment_.rank(),
            " was told to end, and its step did not end within ", EndRule::kStepMs,
            " ms: another rank hangs, is stopped, or is slow");
    }
  }

  engine::SchedulerOptions MakeSchedulerOptions() const {
    engine::SchedulerOptions scheduler = options_.scheduler;
    scheduler.kv_block_count = setup_->cache_blocks();
    scheduler.context_tokens = setup_->context_tokens;
    scheduler.steps_in_flight_max = options_.pipeline_parallel;
    if (!options_.speculation) scheduler.speculation_tokens_max = 0;
    scheduler.prefix_secret = PrefixSecret(options_);
    scheduler.numerics_id = setup_->member->model().numerics_id();
    return scheduler;
  }

  rpc::LinkOptions MakeLinkOptions(uint64_t group_id) const {
    rpc::LinkOptions link;
    link.address = options_.coordinator;
    if (!options_.group_token_file.empty()) {
      link.group_token = rpc::ReadSecretFile(options_.group_token_file);
    }
    link.join_timeout_ms = options_.join_timeout_ms;
    RankRegistration& rank = link.rank;
    if (options_.group_number >= 0) {
      rank.group_number = static_cast<uint64_t>(options_.group_number);
    }
    rank.group_id = group_id;
    rank.rank = environment_.rank();
    rank.size = environment_.size();
    rank.tensor_parallel = options_.tensor_parallel;
    rank.pipeline_parallel = options_.pipeline_parallel;
    rank.host = HostName();
    rank.pid = getpid();
    rank.isa = setup_->kernels->name;
    rank.thread_count = setup_->threads;
    rank.model_name = setup_->model->name();
    rank.numerics_id = setup_->member->model().numerics_id();
    rank.context_tokens = setup_->context_tokens;
    rank.kv_cache_tokens = setup_->cache_tokens;
    rank.sequences_max = options_.scheduler.sequences_max;
    rank.queue_requests_max = options_.scheduler.requests_waiting_max;
    rank.vocab_size = static_cast<int32_t>(setup_->model->config().vocab_size);
    return link;
  }

  comm::MpiEnvironment& environment_;
  const std::atomic<StopRequest>& stop_;
  SteadyClock clock_;
  WorkerOptions options_;
  std::unique_ptr<GroupSetup> setup_;
  std::unique_ptr<Inbox> inbox_;
  std::unique_ptr<CoordinatorSession> session_;
};

int Report(const Failure& failure, bool print) {
  if (print) std::cerr << "shoal-worker: " << failure.message << std::endl;
  return ExitStatus(failure.code);
}

}  // namespace

ProcessEnd RunRankProcess(int argc, const char* const* argv, const StopSignal& stop) {
  ProcessEnd end;
  const std::optional<Failure> outside = TryTo([&] {
    comm::MpiEnvironment environment;
    const bool prints = environment.rank() == 0;
    RankProcess process(environment, stop);
    bool runs = false;
    // A failure in here is the same on every rank: each phase ends with an agreement.
    std::optional<Failure> failure = TryTo([&] {
      runs = process.SetUp(argc, argv);
      if (runs) process.Join();
    });
    bool agreed = true;
    if (runs && !failure) {
      const std::optional<Failure> own = TryTo([&] { process.Run(); });
      // Logged at once: mpirun may end this rank before the ranks have agreed on what to report.
      if (own) LOG(ERROR) << "rank " << environment.rank() << " ends: " << own->message;
      // The time to agree starts here, not before the run.
      const Agreement agreement = Agree(environment, own, Deadline::After(SteadyClock(), kEndMs));
      failure = agreement.failure;
      agreed = agreement.agreed;
    }
    end.abruptly = !process.Close();
    if (failure) end.status = Report(*failure, prints || !agreed);
  });
  if (outside) end.status = Report(*outside, true);
  return end;
}

}  // namespace shoal::rank
