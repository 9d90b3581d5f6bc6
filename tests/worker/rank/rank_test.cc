// The parts of a rank's process that need no other process.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/patience.h"
#include "tests/transport/rpc/server_thread.h"
#include "transport/base/clock.h"
#include "transport/config/group_flags.h"
#include "worker/rank/agreement.h"
#include "worker/rank/serving/coordinator_session.h"
#include "worker/rank/serving/end_watch.h"
#include "worker/rank/serving/inbox.h"
#include "worker/rank/worker_options.h"
#include "worker/tools/kernel_report.h"

namespace shoal::rank {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

InboxEvent SubmitEvent(uint64_t id) {
  return {.kind = InboxEvent::Kind::kSubmit, .id = id, .request = {id, {1, 2, 3}}};
}

TEST(Inbox, GivesEventsOutInTheOrderTheyCameIn) {
  Inbox inbox(4);
  inbox.Push(SubmitEvent(7));
  inbox.Push({.kind = InboxEvent::Kind::kCancel, .id = 7});
  inbox.Push({.kind = InboxEvent::Kind::kLost});
  const std::vector<InboxEvent> events = inbox.Take();
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[0].request.prompt.size(), 3U);
  EXPECT_EQ(events[1].kind, InboxEvent::Kind::kCancel);
  EXPECT_EQ(events[2].kind, InboxEvent::Kind::kLost);
  EXPECT_TRUE(inbox.Take().empty());
}

TEST(Inbox, RefusesSubmitsBeyondItsBoundButKeepsTheirIds) {
  Inbox inbox(1);
  inbox.Push(SubmitEvent(1));
  inbox.Push(SubmitEvent(2));
  std::vector<InboxEvent> events = inbox.Take();
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[1].kind, InboxEvent::Kind::kRefused);
  EXPECT_EQ(events[1].id, 2U);
  EXPECT_TRUE(events[1].request.prompt.empty());
  inbox.Push(SubmitEvent(3));
  EXPECT_EQ(inbox.Take().at(0).kind, InboxEvent::Kind::kSubmit);
}

TEST(Inbox, FailsWhenEvenRefusalsNoLongerFit) {
  Inbox inbox(1);
  for (uint64_t id = 0; id < 1'034; ++id) inbox.Push(SubmitEvent(id));
  EXPECT_THROW(static_cast<void>(inbox.Take()), Error);
}

TEST(Inbox, WaitsNoLongerThanItIsTold) {
  Inbox inbox(1);
  inbox.WaitFor(1);
  EXPECT_TRUE(inbox.Take().empty());
}

TEST(ChooseFailure, PrefersTheCauseToItsEchoAndThenTheLowestRank) {
  const Failure cause{ErrorCode::kInvalidArgument, "bad scale"};
  const Failure other{ErrorCode::kFailed, "disk"};
  const Failure echo{ErrorCode::kPeerLost, "rank 2 is gone"};
  EXPECT_EQ(ChooseFailure({std::nullopt, std::nullopt}), std::nullopt);
  EXPECT_EQ(ChooseFailure({echo, std::nullopt, cause, other}), cause);
  EXPECT_EQ(ChooseFailure({std::nullopt, echo}), echo);
}

TEST(TryTo, TurnsWhatIsThrownIntoAFailure) {
  EXPECT_EQ(TryTo([] {}), std::nullopt);
  EXPECT_EQ(TryTo([] { Throw(ErrorCode::kCannotJoin, "x"); }),
            (Failure{ErrorCode::kCannotJoin, "x"}));
  EXPECT_EQ(TryTo([] { throw std::runtime_error("y"); }), (Failure{ErrorCode::kFailed, "y"}));
}

TEST(RunOnAllRanks, GivesASingleRankItsOwnError) {
  comm::MpiEnvironment environment;
  const Deadline deadline = Deadline::After(SteadyClock(), 1000);
  EXPECT_NO_THROW(RunOnAllRanks(environment, deadline, [] {}));
  EXPECT_THROW(RunOnAllRanks(environment, deadline, [] { Throw(ErrorCode::kFailed, "x"); }), Error);
}

TEST(FindDifference, NamesTheOptionBothValuesAndBothRanks) {
  WorkerOptions options;
  const std::string same = GroupOptionsText(options);
  options.threads = 7;
  options.memory_bytes_max = 12345;
  EXPECT_EQ(GroupOptionsText(options), same) << "each rank's own";
  EXPECT_EQ(FindDifference({same, same, same}), "");
  options.scheduler.prefill_chunk_tokens = 256;
  EXPECT_EQ(FindDifference({same, same, GroupOptionsText(options), same}),
            "--prefill-chunk-tokens is 512 on rank 0 and 256 on rank 2: give all ranks of a group "
            "the same");
}

TEST(GroupOptionsText, HasWhateverTheRanksMustShare) {
  const std::string same = GroupOptionsText({});
  const auto differs = [&](const auto& change) {
    WorkerOptions options;
    change(options);
    return FindDifference({same, GroupOptionsText(options)});
  };
  EXPECT_NE(differs([](auto& options) { options.tensor_parallel = 2; }), "");
  EXPECT_NE(differs([](auto& options) { options.pipeline_parallel = 2; }), "");
  EXPECT_NE(differs([](auto& options) { options.context_tokens_max = 64; }), "");
  EXPECT_NE(differs([](auto& options) { options.kv_cache_tokens = 64; }), "");
  EXPECT_THAT(differs([](auto& options) { options.kv_dtype = KvDType::kF32; }),
              HasSubstr("--kv-dtype is f16 on rank 0 and f32 on rank 1"));
  EXPECT_NE(differs([](auto& options) { options.numerics = forward::Numerics::kFast; }), "");
  EXPECT_NE(differs([](auto& options) { options.scheduler.sequences_max = 5; }), "");
  EXPECT_NE(differs([](auto& options) { options.scheduler.requests_waiting_max = 5; }), "");
  EXPECT_NE(differs([](auto& options) { options.scheduler.prefix_cache = false; }), "");
  EXPECT_NE(differs([](auto& options) { options.speculation = false; }), "");
  EXPECT_NE(differs([](auto& options) { options.scheduler.speculation_tokens_max = 3; }), "");
  EXPECT_NE(differs([](auto& options) {
              options.scheduler.batch_policy = engine::BatchPolicy::kThreshold;
            }),
            "");
  EXPECT_NE(differs([](auto& options) { options.scheduler.batch_queue_min = 3; }), "");
  EXPECT_NE(differs([](auto& options) { options.scheduler.batch_delay_max_ms = 3; }), "");
  EXPECT_NE(differs([](auto& options) { options.comm = comm::CommKind::kTcp; }), "");
  EXPECT_NE(differs([](auto& options) { options.step_timeout_ms = 3; }), "");
}

TEST(KernelReport, ListsEveryEntryOfEveryTable) {
  const std::string report = KernelReport(cpu::AllKernelTables(), cpu::kBaseline);
  EXPECT_THAT(report, AllOf(HasSubstr("scalar: runs here"), HasSubstr("linear Q4_1"),
                            HasSubstr("attention")));
  for (const cpu::KernelTable& table : cpu::AllKernelTables()) {
    EXPECT_THAT(report, HasSubstr(std::string(table.name) + ": "));
  }
  EXPECT_THAT(
      report,
      HasSubstr("noisy_tokens            avx512vnni\n"
                "  linear layers of fewer than 10 rows (INT8: 8) run the avx512vnni variant's"));
}

TEST(WorkerOptions, HaveTheDefaultsOfTheirHelp) {
  WorkerOptions options;
  config::OptionTable table = MakeWorkerTable(options);
  const char* argv[] = {"shoal-worker", "--model", "m",  "--coordinator", "h:1", "--kv-dtype",
                        "bf16",         "--comm",  "mpi"};
  EXPECT_EQ(table.Parse(9, argv), config::ParseOutcome::kRun);
  EXPECT_EQ(options.kv_dtype, KvDType::kBF16);
  EXPECT_EQ(options.comm, comm::CommKind::kMpi);
  EXPECT_EQ(options.scheduler.prefill_chunk_tokens, 512);
  EXPECT_THAT(table.Help(), HasSubstr("Exit status:"));
}

// What `shoal run` shows as defaults, and passes on.
TEST(GroupFlags, HaveTheDefaultsOfTheWorker) {
  WorkerOptions options;
  const config::OptionTable table = MakeWorkerTable(options);
  for (const config::GroupFlag& flag : config::GroupFlags()) {
    EXPECT_EQ(table.ValueText(flag.name), flag.default_text) << flag.name;
  }
}

TEST(CoordinatorSession, FailsWhenNobodyAnswersUntilTheDeadline) {
  rpc::LinkOptions options;
  options.address = "127.0.0.1:1";
  options.join_timeout_ms = 50;
  CoordinatorSession session(options, {});
  EXPECT_EQ(session.WaitWhileJoining(test::kPatienceMs), CoordinatorSession::State::kFailed);
  EXPECT_THROW(session.ThrowFailure(), Error);
  EXPECT_TRUE(session.Close());
}

TEST(CoordinatorSession, FailsAtOnceForAnAddressThatIsNone) {
  rpc::LinkOptions options;
  options.address = "nowhere";
  CoordinatorSession session(options, {});
  EXPECT_EQ(session.WaitWhileJoining(test::kPatienceMs), CoordinatorSession::State::kFailed);
}

// A leader that is quick answers a new coordinator's first request before the session's own thread
// has heard that the coordinator took the rank.
TEST(CoordinatorSession, SendsAnAnswerHoweverEarlyTheRequestCame) {
  rpc::ServerThread server;
  server.SubmitOnRegister(11);
  rpc::LinkOptions options;
  options.address = server.address();
  options.rank.size = 1;
  std::promise<CoordinatorSession*> made;
  SessionCallbacks callbacks;
  callbacks.link.on_submit = [&](const SequenceRequest& request) {
    CoordinatorSession& session = *made.get_future().get();
    SequenceUpdate update;
    update.id = request.id;
    update.tokens = {5};
    session.QueueUpdates({update}, {}, {}, 1);
    session.SendQueued();
  };
  CoordinatorSession session(options, callbacks);
  made.set_value(&session);
  EXPECT_TRUE(server.Wait(
      [](const auto& heard) { return heard.updates.size() == 1 && heard.updates[0].id == 11; }));
  EXPECT_TRUE(session.Close());
}

// Every membership has a number, and what was meant for an earlier one goes nowhere.
TEST(CoordinatorSession, JoinsAgainUnderItsLastEpochAndSaysNothingToTheWrongCoordinator) {
  rpc::ServerThread server;
  RegisterOutcome outcome{.epoch = 7, .group = 3, .continued = true, .orphan_grace_ms = 77'000};
  server.AnswerRegister(outcome);
  rpc::LinkOptions options;
  options.address = server.address();
  options.rank.size = 1;
  std::mutex mutex;
  std::vector<std::string> events;
  const auto note = [&](const std::string& event) {
    const std::lock_guard lock(mutex);
    events.push_back(event);
  };
  SessionCallbacks callbacks;
  callbacks.on_joined = [&](const Membership& membership) {
    note(Str("joined ", membership.number, membership.introduced_before ? " told" : ""));
  };
  callbacks.link.on_lost = [&](const std::string&) { note("lost"); };
  CoordinatorSession session(options, callbacks);
  ASSERT_EQ(session.WaitWhileJoining(test::kPatienceMs), CoordinatorSession::State::kJoined);
  session.Introduce({}, {}, {}, 1);
  ASSERT_TRUE(server.Wait([](const auto& heard) { return heard.hand_overs_ended == 1; }));
  server.Run([&](rpc::ClusterServer& cluster) { cluster.Close(server.last_connection()); });
  ASSERT_TRUE(server.Wait([](const auto& heard) { return heard.ranks.size() == 2; }));
  EXPECT_TRUE(server.Wait([](const auto& heard) { return heard.ranks[1].last_epoch == 7; }));
  const Deadline deadline = Deadline::After(SteadyClock(), test::kPatienceMs);
  const auto joined_twice = [&] {
    const std::lock_guard lock(mutex);
    return events.size() == 3;
  };
  while (!joined_twice() && !deadline.Passed(SteadyClock())) std::this_thread::yield();
  SequenceUpdate update;
  update.id = 1;
  session.QueueUpdates({update}, {}, {}, 1);
  session.Introduce({}, {update}, {}, 1);
  session.Drain(1);
  update.id = 2;
  session.QueueUpdates({update}, {}, {}, 2);
  session.SendQueued();
  EXPECT_TRUE(server.Wait([](const auto& heard) { return !heard.updates.empty(); }));
  EXPECT_TRUE(server.Wait([](const auto& heard) {
    return heard.updates.size() == 1 && heard.updates[0].id == 2 && heard.drains == 0;
  }));
  session.Drain(2);
  EXPECT_TRUE(server.Wait([](const auto& heard) { return heard.drains == 1; }));
  EXPECT_TRUE(session.Close());
  // The introduction is known to be taken a moment after the coordinator took it.
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[0], "joined 1");
  EXPECT_EQ(events[1], "lost");
  EXPECT_THAT(events[2], ::testing::StartsWith("joined 2"));
}

TEST(CoordinatorSession, EndsWhenItsGroupWasGivenUpMeanwhile) {
  rpc::ServerThread server;
  rpc::LinkOptions options;
  options.address = server.address();
  options.rank.size = 1;
  CoordinatorSession session(options, {});
  ASSERT_EQ(session.WaitWhileJoining(test::kPatienceMs), CoordinatorSession::State::kJoined);
  server.AnswerRegister({RegisterOutcome::Kind::kStale, "it was given up"});
  server.Run([&](rpc::ClusterServer& cluster) { cluster.Close(server.last_connection()); });
  const Deadline deadline = Deadline::After(SteadyClock(), test::kPatienceMs);
  while (session.state() != CoordinatorSession::State::kFailed && !deadline.Passed(SteadyClock())) {
    std::this_thread::yield();
  }
  const std::optional<Failure> failure = TryTo([&] { session.ThrowFailure(); });
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->code, ErrorCode::kPeerFailed) << "it had joined";
}

TEST(EndRule, GivesTheStepTimeToEndAndTheOtherRanksTimeToHear) {
  using Verdict = EndRule::Verdict;
  EndRule rule;
  const StopRequest none = StopRequest::kNone;
  const StopRequest now = StopRequest::kNow;
  EXPECT_EQ(rule.Judge(false, none, 1, 0), Verdict::kGoOn);
  EXPECT_EQ(rule.Judge(false, now, 1, kSecondNs), Verdict::kGoOn);
  EXPECT_EQ(rule.Judge(false, now, 2, 6 * kSecondNs - 1), Verdict::kGoOn);
  EXPECT_EQ(rule.Judge(false, now, 3, 6 * kSecondNs), Verdict::kToldToEnd);

  EndRule other;
  EXPECT_EQ(other.Judge(true, now, 1, kSecondNs), Verdict::kGoOn);
  EXPECT_EQ(other.Judge(true, now, 1, kSecondNs + 249 * kMillisecondNs), Verdict::kGoOn);
  EXPECT_EQ(other.Judge(true, now, 1, kSecondNs + 250 * kMillisecondNs), Verdict::kSessionFailed);
}

TEST(EndRule, LetsAGroupThatIsDrainedGoOnForAsLongAsItGetsOn) {
  using Verdict = EndRule::Verdict;
  EndRule rule;
  const StopRequest drain = StopRequest::kDrain;
  EXPECT_EQ(rule.Judge(false, drain, 1, 0), Verdict::kGoOn);
  EXPECT_EQ(rule.Judge(false, drain, 2, 4 * kSecondNs), Verdict::kGoOn);
  EXPECT_EQ(rule.Judge(false, drain, 3, 8 * kSecondNs), Verdict::kGoOn);
  EXPECT_EQ(rule.Judge(false, drain, 3, 13 * kSecondNs - 1), Verdict::kGoOn);
  EXPECT_EQ(rule.Judge(false, drain, 3, 13 * kSecondNs), Verdict::kToldToEnd);
}

}  // namespace
}  // namespace shoal::rank
