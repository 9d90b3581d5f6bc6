// shoal-worker as a process, alone and under mpirun, against a coordinator that only the test
// controls.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <tuple>

#include "tests/support/model/model_writer.h"
#include "tests/worker/rank/fake_coordinator.h"
#include "tests/worker/rank/worker_process.h"
#include "transport/base/error.h"

namespace shoal::rank {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST_F(WorkerProcess, GivesTheSameTokensAloneAndCut) {
  const std::vector<int32_t> alone = Generate(1, {});
  EXPECT_EQ(alone.size(), 20U);
  EXPECT_EQ(Generate(2, {"--tensor-parallel", "2"}), alone);
  EXPECT_EQ(Generate(2, {"--pipeline-parallel", "2", "--comm", "tcp"}), alone);
  EXPECT_EQ(Generate(2, {"--tensor-parallel", "2", "--comm", "mpi"}), alone);
  EXPECT_EQ(Generate(2, {"--pipeline-parallel", "2", "--comm", "mpi"}), alone);
}

TEST_F(WorkerProcess, RegistersWhatItIs) {
  FakeCoordinator coordinator;
  const auto worker = Start(1, coordinator.address());
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.heartbeats > 1; })) << worker->Log();
  const RankRegistration& rank = coordinator.ranks.at(0);
  EXPECT_EQ(rank.model_name, "q4_1") << "its own name, whatever it is served as";
  EXPECT_EQ(rank.pid, worker->pid());
  EXPECT_EQ(rank.numerics_id.size(), 32U);
  EXPECT_EQ(rank.kv_cache_tokens, 2048);
  EXPECT_EQ(rank.thread_count, 1);
  EXPECT_EQ(rank.vocab_size, test::Q4_1Spec().vocab_size);
  EXPECT_THAT(worker->Log(), AllOf(HasSubstr("bytes of memory: weights "),
                                   HasSubstr("KV cache 3145728 for 2048 tokens")));
}

TEST_F(WorkerProcess, EndsWith0OnSigterm) {
  FakeCoordinator coordinator;
  const auto worker = Start(1, coordinator.address());
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.heartbeats > 0; })) << worker->Log();
  coordinator.Submit(1, {1, 2}, Greedy(200));
  ASSERT_TRUE(coordinator.RunUntil([&] { return !coordinator.streams[1].tokens.empty(); }));
  worker->Signal(SIGTERM);
  EXPECT_EQ(StatusOf(*worker, coordinator), 0) << worker->Log();
}

TEST_F(WorkerProcess, EndsAllRanksWhenMpirunIsToldTo) {
  FakeCoordinator coordinator;
  const auto worker = Start(2, coordinator.address(), {"--pipeline-parallel", "2"});
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.ranks.size() == 2; })) << worker->Log();
  coordinator.Submit(1, {1, 2}, Greedy(200));
  ASSERT_TRUE(coordinator.RunUntil([&] { return !coordinator.streams[1].tokens.empty(); }));
  worker->Signal(SIGTERM);
  EXPECT_NE(StatusOf(*worker, coordinator), -1) << worker->Log();
  for (const int32_t rank : {0, 1}) {
    const auto pid = static_cast<pid_t>(coordinator.ranks.at(rank).pid);
    EXPECT_TRUE(coordinator.RunUntil([&] { return kill(pid, 0) != 0; })) << "rank " << rank;
  }
}

// Longer than the ranks take to agree on how it ended, whose time must not start with the run.
TEST_F(WorkerProcess, EndsWith0OnAllRanksWhenItIsDismissedAfterALongTime) {
  FakeCoordinator coordinator;
  const auto worker = Start(2, coordinator.address(), {"--pipeline-parallel", "2"});
  // Ten a second from each rank.
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.heartbeats > 40; })) << worker->Log();
  coordinator.Stop();
  EXPECT_EQ(StatusOf(*worker, coordinator), 0) << worker->Log();
}

TEST_F(WorkerProcess, EndsTheGroupWhenTheLeaderAloneIsToldTo) {
  FakeCoordinator coordinator;
  const auto worker = Start(2, coordinator.address(), {"--tensor-parallel", "2"});
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.ranks.size() == 2; })) << worker->Log();
  kill(static_cast<pid_t>(coordinator.ranks.at(0).pid), SIGTERM);
  EXPECT_EQ(StatusOf(*worker, coordinator), 0) << worker->Log();
}

TEST_F(WorkerProcess, EndsTheGroupWhenAnotherRankAloneIsToldTo) {
  FakeCoordinator coordinator;
  coordinator.terms.drain_timeout_ms = 100;
  const auto worker = Start(2, coordinator.address(), {"--tensor-parallel", "2"});
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.ranks.size() == 2; })) << worker->Log();
  kill(static_cast<pid_t>(coordinator.ranks.at(1).pid), SIGTERM);
  EXPECT_EQ(StatusOf(*worker, coordinator), 1) << worker->Log();
  EXPECT_THAT(worker->Log(), HasSubstr("rank 1 was told to end"));
}

// How a group ends whose ranks wait for a stopped one inside a step. The step's own deadline is a
// minute, twice as long as StatusOf waits.
class WorkerProcessWithAStoppedRank
    : public WorkerProcess,
      public ::testing::WithParamInterface<std::tuple<const char*, int32_t>> {
 protected:
  // Two ranks in the middle of answers, until one of them stops.
  void StartAndStop() {
    const auto [comm, stopped] = GetParam();
    worker_ = Start(2, coordinator_.address(), {"--tensor-parallel", "2", "--comm", comm});
    ASSERT_TRUE(coordinator_.RunUntil([&] { return coordinator_.ranks.size() == 2; }))
        << worker_->Log();
    for (uint64_t id = 1; id <= 60; ++id) coordinator_.Submit(id, {1, 2}, Greedy(200));
    ASSERT_TRUE(coordinator_.RunUntil([&] { return !coordinator_.streams[1].tokens.empty(); }));
    kill(Pid(stopped), SIGSTOP);
    // The other one gets as far as it can.
    const int64_t later = coordinator_.heartbeats + 5;
    ASSERT_TRUE(coordinator_.RunUntil([&] { return coordinator_.heartbeats >= later; }));
  }

  void ExpectEnd(int status) {
    EXPECT_EQ(StatusOf(*worker_, coordinator_), status) << worker_->Log();
    for (const int32_t rank : {0, 1}) {
      EXPECT_TRUE(coordinator_.RunUntil([&] { return kill(Pid(rank), 0) != 0; }))
          << "rank " << rank;
    }
  }

  pid_t Pid(int32_t rank) const { return static_cast<pid_t>(coordinator_.ranks.at(rank).pid); }
  static int32_t waiting() { return 1 - std::get<1>(GetParam()); }

  FakeCoordinator coordinator_;
  std::unique_ptr<Process> worker_;
};

INSTANTIATE_TEST_SUITE_P(All, WorkerProcessWithAStoppedRank,
                         ::testing::Values(std::tuple("shm", 0), std::tuple("shm", 1),
                                           std::tuple("tcp", 1), std::tuple("mpi", 0)),
                         [](const auto& info) {
                           return Str(std::get<0>(info.param), "_rank", std::get<1>(info.param));
                         });

TEST_P(WorkerProcessWithAStoppedRank, EndsWith1WhenItsCoordinatorGivesItUp) {
  StartAndStop();
  coordinator_.GiveUp();
  ExpectEnd(1);
  EXPECT_THAT(worker_->Log(), HasSubstr("refused this group: it was given up"));
}

TEST_P(WorkerProcessWithAStoppedRank, EndsWith1WhenTheRankThatWaitsIsToldTo) {
  StartAndStop();
  kill(Pid(waiting()), SIGTERM);
  ExpectEnd(1);
  EXPECT_THAT(worker_->Log(), HasSubstr(Str("rank ", waiting(), " was told to end")));
}

TEST_F(WorkerProcess, EndsARankThatWasStoppedWhileItWasGivenUp) {
  FakeCoordinator coordinator;
  const auto worker = Start(1, coordinator.address());
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.heartbeats > 0; })) << worker->Log();
  worker->Signal(SIGSTOP);
  coordinator.GiveUp();
  worker->Signal(SIGCONT);
  EXPECT_EQ(StatusOf(*worker, coordinator), 1) << worker->Log();
}

TEST_F(WorkerProcess, RanksAgreeOnTheirEndHoweverLongTheyRan) {
  FakeCoordinator coordinator;
  const auto worker = Start(2, coordinator.address(), {"--tensor-parallel", "2"});
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.ranks.size() == 2; })) << worker->Log();
  // Longer than the time that an ending group has to agree: 20 heartbeats of 100 ms and two ranks.
  const int64_t later = coordinator.heartbeats + 2 * 20;
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.heartbeats >= later; }));
  coordinator.Stop();
  EXPECT_EQ(StatusOf(*worker, coordinator), 0) << worker->Log();
  EXPECT_THAT(worker->Log(), Not(HasSubstr("took part in time")));
}

TEST_F(WorkerProcess, KeepsTheModelsContextIfTheCacheIsSmaller) {
  FakeCoordinator coordinator;
  const auto worker = Start(1, coordinator.address(), {}, 64);
  ASSERT_TRUE(coordinator.RunUntil([&] { return !coordinator.ranks.empty(); })) << worker->Log();
  EXPECT_EQ(coordinator.ranks.at(0).kv_cache_tokens, 64);
  EXPECT_EQ(coordinator.ranks.at(0).context_tokens, test::Q4_1Spec().context_tokens);
}

TEST_F(WorkerProcess, EndsWith0OnSigtermWhileItIsStillJoining) {
  FakeCoordinator coordinator;
  const auto worker = Start(1, "127.0.0.1:1");
  ASSERT_TRUE(
      coordinator.RunUntil([&] { return worker->Log().find("rank 0 of 1") != std::string::npos; }));
  worker->Signal(SIGTERM);
  EXPECT_EQ(StatusOf(*worker, coordinator), 0) << worker->Log();
}

TEST_F(WorkerProcess, EndsWith3IfTheCoordinatorIsNotThere) {
  FakeCoordinator coordinator;
  const auto worker =
      Start(2, "127.0.0.1:1", {"--tensor-parallel", "2", "--join-timeout-ms", "600"});
  EXPECT_EQ(StatusOf(*worker, coordinator), 3) << worker->Log();
  EXPECT_THAT(worker->Log(), HasSubstr("127.0.0.1:1 did not take rank 0 within 600 ms"));
}

TEST_F(WorkerProcess, EndsWith3IfTheGroupTokenIsWrong) {
  FakeCoordinator coordinator(0, "secret");
  const auto worker = Start(1, coordinator.address());
  EXPECT_EQ(StatusOf(*worker, coordinator), 3) << worker->Log();
  EXPECT_THAT(worker->Log(), HasSubstr("--group-token-file"));
}

TEST_F(WorkerProcess, NamesBothNumbersIfTheCutIsNotTheNumberOfRanks) {
  FakeCoordinator coordinator;
  const auto worker = Start(2, coordinator.address(), {"--tensor-parallel", "3"});
  EXPECT_EQ(StatusOf(*worker, coordinator), 2) << worker->Log();
  const std::string log = worker->Log();
  EXPECT_THAT(log, AllOf(HasSubstr("makes 3 ranks"), HasSubstr("mpirun started 2")));
  EXPECT_EQ(log.find("makes 3 ranks"), log.rfind("makes 3 ranks")) << "one rank speaks for all";
}

// mpirun may be given several programs, each with its own flags.
TEST_F(WorkerProcess, NamesTheOptionInWhichRanksDiffer) {
  FakeCoordinator coordinator;
  std::vector<std::string> more = {"--tensor-parallel",
                                   "2",
                                   "--prefill-chunk-tokens",
                                   "64",
                                   ":",
                                   "-np",
                                   "1",
                                   SHOAL_BINARY_DIR "/bin/shoal-worker",
                                   "--model",
                                   *model_,
                                   "--coordinator",
                                   coordinator.address(),
                                   "--threads",
                                   "1",
                                   "--kv-cache-tokens",
                                   "2048",
                                   "--tensor-parallel",
                                   "2",
                                   "--prefill-chunk-tokens",
                                   "32"};
  std::vector<std::string> arguments = {
      "mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", "1"};
  const auto worker = Start(1, coordinator.address(), more, 2048, arguments);
  EXPECT_EQ(StatusOf(*worker, coordinator), 2) << worker->Log();
  EXPECT_THAT(worker->Log(), HasSubstr("--prefill-chunk-tokens is 64 on rank 0 and 32 on rank 1"));
}

TEST_F(WorkerProcess, EndsWith2IfMemoryIsShort) {
  FakeCoordinator coordinator;
  const auto worker = Start(1, coordinator.address(), {"--memory-bytes-max", "1000000"});
  EXPECT_EQ(StatusOf(*worker, coordinator), 2) << worker->Log();
  EXPECT_THAT(worker->Log(), AllOf(HasSubstr("there are 1000000"), HasSubstr("memory-bytes-max")));
}

TEST_F(WorkerProcess, JoinsAgainWhenTheCoordinatorComesBack) {
  auto coordinator = std::make_unique<FakeCoordinator>();
  const uint16_t port = coordinator->port();
  const auto worker = Start(2, coordinator->address(), {"--tensor-parallel", "2"});
  ASSERT_TRUE(coordinator->RunUntil([&] { return coordinator->ranks.size() == 2; }))
      << worker->Log();
  coordinator->Submit(1, {1, 2}, Greedy(10'000));
  ASSERT_TRUE(coordinator->RunUntil([&] { return !coordinator->streams[1].tokens.empty(); }));
  coordinator.reset();

  FakeCoordinator next(port, "", 4);
  ASSERT_TRUE(next.RunUntil([&] { return next.ranks.size() == 2; })) << worker->Log();
  next.Submit(2, {7, 8, 9}, Greedy(5));
  ASSERT_TRUE(next.RunUntil([&] { return next.streams[2].finish == FinishReason::kLength; }))
      << worker->Log();
  EXPECT_EQ(next.streams[2].tokens.size(), 5U);
  next.Stop();
  EXPECT_EQ(StatusOf(*worker, next), 0) << worker->Log();
}

TEST_F(WorkerProcess, AnswersANewCoordinatorThatAsksAtOnce) {
  auto coordinator = std::make_unique<FakeCoordinator>();
  const uint16_t port = coordinator->port();
  const auto worker = Start(1, coordinator->address());
  ASSERT_TRUE(coordinator->RunUntil([&] { return !coordinator->ranks.empty(); })) << worker->Log();
  for (uint64_t id = 1; id <= 3; ++id) {
    coordinator.reset();
    coordinator = std::make_unique<FakeCoordinator>(port);
    coordinator->canary = id;
    EXPECT_TRUE(coordinator->RunUntil([&] {
      return coordinator->streams[id].finish == FinishReason::kLength;
    })) << worker->Log();
  }
  coordinator->Stop();
  EXPECT_EQ(StatusOf(*worker, *coordinator), 0) << worker->Log();
}

TEST_F(WorkerProcess, EndsWith3IfTheCoordinatorDoesNotComeBack) {
  auto coordinator = std::make_unique<FakeCoordinator>();
  coordinator->terms.orphan_grace_ms = 1'000;
  const auto worker =
      Start(2, coordinator->address(), {"--tensor-parallel", "2", "--join-timeout-ms", "2000"});
  ASSERT_TRUE(coordinator->RunUntil([&] { return coordinator->ranks.size() == 2; }))
      << worker->Log();
  coordinator.reset();
  FakeCoordinator elsewhere;
  EXPECT_EQ(StatusOf(*worker, elsewhere), 3) << worker->Log();
  EXPECT_THAT(worker->Log(), HasSubstr("did not take rank"));
}

TEST_F(WorkerProcess, AnswersRequestsItCannotTake) {
  FakeCoordinator coordinator;
  const auto worker =
      Start(1, coordinator.address(), {"--sequences-max", "1", "--queue-requests-max", "0"});
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.heartbeats > 0; })) << worker->Log();
  coordinator.Submit(1, {-7}, Greedy(5));
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.streams.size() == 1; }));
  coordinator.Submit(2, std::vector<int32_t>(3000, 1), Greedy(5));
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.streams.size() == 2; }));
  coordinator.Submit(3, {1, 2, 3}, Greedy(200));
  coordinator.Submit(4, {1, 2, 3}, Greedy(5));
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.streams.contains(4); }));
  EXPECT_EQ(coordinator.streams[1].finish, FinishReason::kCancelled);
  EXPECT_THAT(coordinator.streams[1].detail, HasSubstr("prompt token 0 is -7"));
  EXPECT_FALSE(coordinator.streams[1].no_room);
  EXPECT_EQ(coordinator.streams[2].finish, FinishReason::kCancelled);
  EXPECT_FALSE(coordinator.streams[2].no_room);
  EXPECT_EQ(coordinator.streams[4].finish, FinishReason::kCancelled);
  EXPECT_TRUE(coordinator.streams[4].no_room) << coordinator.streams[4].detail;
}

TEST_F(WorkerProcess, FreesACancelledSequence) {
  FakeCoordinator coordinator;
  const auto worker = Start(1, coordinator.address());
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.heartbeats > 0; })) << worker->Log();
  coordinator.Submit(1, {1, 2}, Greedy(200));
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.stats.kv_blocks_used > 0; }));
  coordinator.Cancel(1);
  EXPECT_TRUE(coordinator.RunUntil([&] { return coordinator.stats.kv_blocks_used == 0; }));
}

TEST_F(WorkerProcess, EndsWith1AndNoRankLeftWhenARankIsKilled) {
  FakeCoordinator coordinator;
  const auto worker = Start(2, coordinator.address(), {"--tensor-parallel", "2"});
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.ranks.size() == 2; })) << worker->Log();
  const auto leader = static_cast<pid_t>(coordinator.ranks.at(0).pid);
  kill(static_cast<pid_t>(coordinator.ranks.at(1).pid), SIGKILL);
  EXPECT_GT(StatusOf(*worker, coordinator), 0) << worker->Log();
  EXPECT_TRUE(coordinator.RunUntil([&] { return kill(leader, 0) != 0; }));
}

}  // namespace
}  // namespace shoal::rank
