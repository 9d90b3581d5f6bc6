// shoal-worker whose coordinator goes and comes: no token is lost, told twice or changed, and what
// nobody comes back for ends in time.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/worker/rank/fake_coordinator.h"
#include "tests/worker/rank/worker_process.h"
#include "transport/base/check.h"

namespace shoal::rank {
namespace {

using ::testing::HasSubstr;

// What a stream must come to, whatever happens meanwhile: the same requests under other ids.
constexpr uint64_t kTwin = 1'000;

class WorkerContinuity : public WorkerProcess {
 protected:
  static SequenceRequest Request(uint64_t id, bool resumable) {
    SequenceRequest request;
    request.id = id;
    request.prompt = {static_cast<int32_t>(id), 2, 3, 4};
    request.params.sampling = {.temperature = 1, .seed = id};
    request.params.tokens_max = 240;
    request.params.top_logprobs = 2;
    request.params.prompt_logprobs = id % 2 == 0;
    request.stream = {7, id};
    request.resumable = resumable;
    return request;
  }

  static SequenceRequest TwinOf(uint64_t id) {
    SequenceRequest twin = Request(id, false);
    twin.id = kTwin + id;
    return twin;
  }

  void Join(FakeCoordinator& coordinator, size_t rank_count) {
    ASSERT_TRUE(coordinator.RunUntil([&] {
      return coordinator.ranks.size() == rank_count && coordinator.hand_overs > 0;
    })) << worker_->Log();
  }

  // Until each of those streams has a token.
  static bool HaveTokens(FakeCoordinator& coordinator, uint64_t first, uint64_t last) {
    return coordinator.RunUntil([&] {
      for (uint64_t id = first; id <= last; ++id) {
        if (coordinator.streams[id].tokens.empty()) return false;
      }
      return true;
    });
  }

  // Each of them came to the end that its twin comes to.
  void ExpectTwins(FakeCoordinator& coordinator, uint64_t first, uint64_t last) {
    for (uint64_t id = first; id <= last; ++id) coordinator.Submit(TwinOf(id));
    ASSERT_TRUE(coordinator.RunUntil([&] {
      for (uint64_t id = first; id <= last; ++id) {
        for (const uint64_t one : {id, kTwin + id}) {
          if (coordinator.streams[one].finish == FinishReason::kNone) return false;
        }
      }
      return true;
    })) << worker_->Log();
    EXPECT_EQ(coordinator.gaps, 0);
    EXPECT_EQ(coordinator.changes, 0);
    for (uint64_t id = first; id <= last; ++id) {
      const SequenceUpdate& seen = coordinator.streams[id];
      const SequenceUpdate& twin = coordinator.streams[kTwin + id];
      EXPECT_EQ(seen.tokens, twin.tokens) << "stream " << id;
      EXPECT_EQ(seen.logprobs, twin.logprobs) << "stream " << id;
      EXPECT_EQ(seen.prompt_logprobs, twin.prompt_logprobs) << "stream " << id;
      EXPECT_EQ(seen.finish, FinishReason::kLength) << "stream " << id << ": " << seen.detail;
    }
  }

  void Stop(FakeCoordinator& coordinator) {
    coordinator.Stop();
    EXPECT_EQ(StatusOf(*worker_, coordinator), 0) << worker_->Log();
  }

  bool LogHas(FakeCoordinator& coordinator, const std::string& words) {
    return coordinator.RunUntil([&] { return worker_->Log().find(words) != std::string::npos; });
  }

  std::unique_ptr<Process> worker_;
};

TEST_F(WorkerContinuity, TellsEverythingAgainToTheCoordinatorThatHadIt) {
  FakeCoordinator coordinator;
  worker_ = Start(2, coordinator.address(), {"--tensor-parallel", "2"});
  Join(coordinator, 2);
  for (uint64_t id = 1; id <= 6; ++id) coordinator.Submit(Request(id, id > 3));
  for (int64_t breaks = 1; breaks <= 3; ++breaks) {
    ASSERT_TRUE(HaveTokens(coordinator, 1, 6)) << worker_->Log();
    coordinator.Break();
    // The mark that all was told: of the first registration, and of each of the others.
    ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.hand_overs == 1 + breaks; }))
        << worker_->Log();
  }
  EXPECT_TRUE(coordinator.held.empty());
  EXPECT_EQ(coordinator.ranks.at(0).last_epoch, 3U);
  ExpectTwins(coordinator, 1, 6);
  EXPECT_THAT(worker_->Log(), HasSubstr("back in group 1 under epoch 3: "));
  Stop(coordinator);
}

TEST_F(WorkerContinuity, HandsResumableStreamsToAnotherCoordinator) {
  auto coordinator = std::make_unique<FakeCoordinator>();
  const uint16_t port = coordinator->port();
  worker_ = Start(2, coordinator->address(), {"--pipeline-parallel", "2"});
  Join(*coordinator, 2);
  // One ends before its coordinator does, and is held all the same; 1 and 2 are not to be resumed.
  SequenceRequest ended = Request(6, true);
  ended.params.tokens_max = 3;
  coordinator->Submit(ended);
  ASSERT_TRUE(coordinator->RunUntil([&] {
    return coordinator->streams[6].finish == FinishReason::kLength;
  })) << worker_->Log();
  for (uint64_t id = 1; id <= 5; ++id) coordinator->Submit(Request(id, id > 2));
  ASSERT_TRUE(HaveTokens(*coordinator, 1, 5)) << worker_->Log();
  const std::map<uint64_t, SequenceUpdate> before = coordinator->streams;
  coordinator.reset();

  FakeCoordinator next(port, "", 9);
  Join(next, 2);
  EXPECT_EQ(next.ranks.at(0).last_epoch, 3U);
  EXPECT_EQ(next.held.size(), 4U);
  for (uint64_t id = 3; id <= 5; ++id) {
    EXPECT_EQ(next.held[id], Request(id, true));
    EXPECT_GE(next.streams[id].tokens.size(), before.at(id).tokens.size());
  }
  EXPECT_EQ(next.held[6], ended);
  EXPECT_EQ(next.streams[6].tokens, before.at(6).tokens);
  EXPECT_EQ(next.streams[6].finish, FinishReason::kLength);
  ExpectTwins(next, 3, 5);
  EXPECT_FALSE(next.streams.contains(1)) << "it was cancelled, and nobody here knows of it";
  EXPECT_THAT(worker_->Log(), HasSubstr("handed over 4 streams (1 ended)"));
  Stop(next);
}

// The log-probabilities make several messages; after the first of them the coordinator goes.
TEST_F(WorkerContinuity, HandsOverAgainWhatACoordinatorDidNotHearToItsEnd) {
  auto coordinator = std::make_unique<FakeCoordinator>();
  const uint16_t port = coordinator->port();
  worker_ = Start(1, coordinator->address(), {"--prefix-cache", "off"}, 8192);
  Join(*coordinator, 1);
  std::vector<SequenceRequest> requests;
  for (uint64_t id = 1; id <= 12; ++id) {
    SequenceRequest request = Request(id, true);
    request.params.top_logprobs = 20;
    requests.push_back(request);
    coordinator->Submit(request);
  }
  ASSERT_TRUE(coordinator->RunUntil([&] {
    return coordinator->streams[12].finish == FinishReason::kLength;
  })) << worker_->Log();
  coordinator.reset();

  FakeCoordinator next(port, "", 9);
  next.breaks_in_hand_over = true;
  ASSERT_TRUE(next.RunUntil([&] { return !next.breaks_in_hand_over; })) << worker_->Log();
  // It has forgotten what it heard, and says that the group is where it was.
  ASSERT_TRUE(next.RunUntil([&] { return next.hand_overs > 0; })) << worker_->Log();
  EXPECT_GE(next.held_messages, 3) << "one message held everything";
  EXPECT_EQ(next.streams.size(), 12U);
  for (const SequenceRequest& request : requests) {
    EXPECT_EQ(next.streams[request.id].tokens.size(), 240U);
    EXPECT_EQ(next.streams[request.id].logprobs.size(), 240U);
  }
  EXPECT_EQ(next.gaps, 0);
  EXPECT_EQ(next.changes, 0);
  Stop(next);
}

TEST_F(WorkerContinuity, ForgetsWhatWasReleased) {
  auto coordinator = std::make_unique<FakeCoordinator>();
  const uint16_t port = coordinator->port();
  worker_ = Start(1, coordinator->address());
  Join(*coordinator, 1);
  for (uint64_t id = 1; id <= 2; ++id) coordinator->Submit(Request(id, true));
  ASSERT_TRUE(coordinator->RunUntil([&] {
    return coordinator->streams[1].finish != FinishReason::kNone &&
           coordinator->streams[2].finish != FinishReason::kNone;
  }));
  coordinator->Release(1);
  // Calls are taken in order, and this one is answered.
  coordinator->Submit(3, {-7}, Greedy(1));
  ASSERT_TRUE(coordinator->RunUntil([&] { return coordinator->streams.contains(3); }));
  coordinator.reset();
  FakeCoordinator next(port, "", 9);
  Join(next, 1);
  EXPECT_EQ(next.held.size(), 1U);
  EXPECT_TRUE(next.held.contains(2));
  Stop(next);
}

TEST_F(WorkerContinuity, CancelsWhatNobodyComesBackFor) {
  auto coordinator = std::make_unique<FakeCoordinator>();
  coordinator->terms.orphan_grace_ms = 300;
  const uint16_t port = coordinator->port();
  worker_ = Start(1, coordinator->address());
  Join(*coordinator, 1);
  for (uint64_t id = 1; id <= 4; ++id) {
    SequenceRequest request = Request(id, id > 2);
    request.params.sampling.min_tokens = 200;
    coordinator->Submit(request);
  }
  ASSERT_TRUE(HaveTokens(*coordinator, 1, 4));
  coordinator.reset();
  {
    FakeCoordinator elsewhere;
    ASSERT_TRUE(LogHas(elsewhere, "no coordinator: ")) << worker_->Log();
    // They may all have ended by themselves before.
    ASSERT_TRUE(elsewhere.RunUntil([rounds = 0]() mutable { return ++rounds > 200; }));
  }
  FakeCoordinator next(port, "", 9);
  Join(next, 1);
  EXPECT_TRUE(next.held.empty());
  next.Submit(TwinOf(1));
  EXPECT_TRUE(next.RunUntil([&] { return next.stats.kv_blocks_used > 0; }));
  EXPECT_TRUE(next.RunUntil([&] { return next.stats.kv_blocks_used == 0; }));
  Stop(next);
}

TEST_F(WorkerContinuity, GoesOnWhereAnotherGroupStopped) {
  FakeCoordinator coordinator;
  worker_ = Start(2, coordinator.address(), {"--tensor-parallel", "2"});
  Join(coordinator, 2);
  coordinator.Submit(TwinOf(2));
  ASSERT_TRUE(coordinator.RunUntil([&] {
    return coordinator.streams[kTwin + 2].finish == FinishReason::kLength;
  })) << worker_->Log();
  const SequenceUpdate twin = coordinator.streams[kTwin + 2];
  SequenceRequest rest = Request(2, true);
  rest.generated.assign(twin.tokens.begin(), twin.tokens.begin() + 100);
  rest.prompt_logprobs_given = true;
  coordinator.Submit(rest);
  ASSERT_TRUE(coordinator.RunUntil([&] {
    return coordinator.streams[2].finish == FinishReason::kLength;
  })) << worker_->Log();
  const SequenceUpdate& seen = coordinator.streams[2];
  EXPECT_EQ(seen.tokens_before, 100);
  EXPECT_TRUE(std::equal(seen.tokens.begin(), seen.tokens.end(), twin.tokens.begin() + 100,
                         twin.tokens.end()));
  EXPECT_TRUE(seen.prompt_logprobs.empty());

  rest.id = 3;
  rest.generated = twin.tokens;
  coordinator.Submit(rest);
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.streams.contains(3); }));
  EXPECT_EQ(coordinator.streams[3].finish, FinishReason::kCancelled);
  EXPECT_THAT(coordinator.streams[3].detail, HasSubstr("has 240 tokens already"));
  Stop(coordinator);
}

TEST_F(WorkerContinuity, GoesOnUntilItIsDrainedWhenItIsToldToEnd) {
  FakeCoordinator coordinator;
  coordinator.stops_when_drained = false;
  worker_ = Start(2, coordinator.address(), {"--tensor-parallel", "2"});
  Join(coordinator, 2);
  coordinator.Submit(Request(1, true));
  // mpirun passes the signal on to all of them.
  for (const int32_t rank : {1, 0}) {
    kill(static_cast<pid_t>(coordinator.ranks.at(rank).pid), SIGTERM);
  }
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.drains == 1; })) << worker_->Log();
  ASSERT_TRUE(coordinator.RunUntil([&] {
    return coordinator.streams[1].finish == FinishReason::kLength;
  })) << worker_->Log();
  EXPECT_EQ(coordinator.streams[1].tokens.size(), 240U);
  // Longer than ranks that were told to end at once wait for each other.
  const int64_t later = coordinator.heartbeats + 2 * 30;
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.heartbeats >= later; }));
  EXPECT_EQ(worker_->Poll(), std::nullopt) << worker_->Log();
  Stop(coordinator);
  EXPECT_EQ(coordinator.drains, 1);
}

TEST_F(WorkerContinuity, EndsAtOnceWhenItIsToldTwice) {
  FakeCoordinator coordinator;
  coordinator.stops_when_drained = false;
  worker_ = Start(1, coordinator.address());
  Join(coordinator, 1);
  worker_->Signal(SIGTERM);
  ASSERT_TRUE(coordinator.RunUntil([&] { return coordinator.drains == 1; })) << worker_->Log();
  worker_->Signal(SIGTERM);
  EXPECT_EQ(StatusOf(*worker_, coordinator), 0) << worker_->Log();
}

TEST_F(WorkerContinuity, EndsAtOnceWhenItIsInterrupted) {
  FakeCoordinator coordinator;
  worker_ = Start(1, coordinator.address());
  Join(coordinator, 1);
  worker_->Signal(SIGINT);
  EXPECT_EQ(StatusOf(*worker_, coordinator), 0) << worker_->Log();
  EXPECT_EQ(coordinator.drains, 0);
}

TEST_F(WorkerContinuity, EndsWhenDrainingTakesTooLongOrFindsNoCoordinator) {
  auto coordinator = std::make_unique<FakeCoordinator>();
  coordinator->stops_when_drained = false;
  coordinator->terms.drain_timeout_ms = 50;
  worker_ = Start(1, coordinator->address());
  Join(*coordinator, 1);
  worker_->Signal(SIGTERM);
  EXPECT_EQ(StatusOf(*worker_, *coordinator), 0) << worker_->Log();
  EXPECT_EQ(coordinator->drains, 1);

  coordinator->terms.drain_timeout_ms = 1'000'000'000;
  coordinator->hand_overs = 0;
  worker_ = Start(1, coordinator->address());
  Join(*coordinator, 1);
  coordinator.reset();
  FakeCoordinator elsewhere;
  worker_->Signal(SIGTERM);
  EXPECT_EQ(StatusOf(*worker_, elsewhere), 0) << worker_->Log();
}

TEST_F(WorkerContinuity, SaysWhyItEnds) {
  FakeCoordinator coordinator;
  worker_ = Start(2, coordinator.address(), {"--tensor-parallel", "2"});
  Join(coordinator, 2);
  for (uint64_t id = 1; id <= 20; ++id) coordinator.Submit(Request(id, false));
  ASSERT_TRUE(HaveTokens(coordinator, 1, 20));
  // mpirun would end the other rank as soon as it sees the first one's end.
  worker_->Signal(SIGSTOP);
  kill(static_cast<pid_t>(coordinator.ranks.at(1).pid), SIGKILL);
  ASSERT_TRUE(coordinator.RunUntil([&] { return !coordinator.faults.empty(); })) << worker_->Log();
  worker_->Signal(SIGCONT);
  EXPECT_EQ(coordinator.faults[0].first, LossCause::kRankDied);
  EXPECT_THAT(coordinator.faults[0].second, HasSubstr("rank 0: "));
  EXPECT_GT(StatusOf(*worker_, coordinator), 0);
}

TEST_F(WorkerContinuity, LeavesNoRankWhenMpirunIsKilled) {
  FakeCoordinator coordinator;
  worker_ = Start(2, coordinator.address(), {"--tensor-parallel", "2"});
  Join(coordinator, 2);
  coordinator.Submit(Request(1, true));
  ASSERT_TRUE(HaveTokens(coordinator, 1, 1));
  const int64_t disconnects = coordinator.disconnects;
  worker_->Signal(SIGKILL);
  EXPECT_TRUE(coordinator.RunUntil([&] { return coordinator.disconnects == disconnects + 2; }));
  for (const int32_t rank : {0, 1}) {
    const auto pid = static_cast<pid_t>(coordinator.ranks.at(rank).pid);
    EXPECT_TRUE(coordinator.RunUntil([&] { return kill(pid, 0) != 0; })) << "rank " << rank;
  }
}

TEST_F(WorkerContinuity, RegistersForThePlaceThatItIsGiven) {
  FakeCoordinator coordinator;
  worker_ = Start(1, coordinator.address(), {"--group-number", "5"});
  Join(coordinator, 1);
  EXPECT_EQ(coordinator.ranks.at(0).group_number, std::optional<uint64_t>(5));
  EXPECT_EQ(coordinator.ranks.at(0).last_epoch, 0U);
  Stop(coordinator);
}

}  // namespace
}  // namespace shoal::rank
