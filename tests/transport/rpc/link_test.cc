// A rank's line to the coordinator, over real sockets: what CoordinatorLink and ClusterServer
// promise each other.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <atomic>
#include <future>
#include <mutex>
#include <optional>
#include <thread>

#include "tests/support/every_field.h"
#include "tests/support/patience.h"
#include "tests/transport/rpc/server_thread.h"
#include "transport/base/error.h"
#include "transport/rpc/coordinator_link.h"

namespace shoal::rpc {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

RankRegistration AnyRank() {
  RankRegistration rank;
  rank.group_id = 0xfedcba9876543210;
  rank.size = 6;
  rank.tensor_parallel = 3;
  rank.pipeline_parallel = 2;
  rank.host = "node7";
  rank.pid = 4711;
  rank.isa = "avx2";
  rank.thread_count = 4;
  rank.model_name = "toy";
  rank.numerics_id = "00ff";
  rank.context_tokens = 64;
  rank.kv_cache_tokens = int64_t{1} << 40;
  rank.sequences_max = 32;
  rank.queue_requests_max = 8;
  rank.vocab_size = 100;
  return rank;
}

LinkOptions Options(const ServerThread& server) {
  LinkOptions options;
  options.address = server.address();
  options.rank = AnyRank();
  return options;
}

// The error a link's constructor ends with.
std::optional<Error> JoinError(const LinkOptions& options) {
  try {
    CoordinatorLink link(options, {});
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

// A value that a callback sets once, with a deadline for reading it.
template <typename T>
class Once {
 public:
  void Set(T value) { promise_.set_value(std::move(value)); }
  std::optional<T> Get() {
    std::future<T> future = promise_.get_future();
    if (future.wait_for(std::chrono::milliseconds(test::kPatienceMs)) != std::future_status::ready)
      return std::nullopt;
    return future.get();
  }

 private:
  std::promise<T> promise_;
};

TEST(CoordinatorLink, RegistersEverythingItWasTold) {
  ServerThread server;
  const CoordinatorLink link(Options(server), {});
  EXPECT_EQ(link.epoch(), 7u);
  EXPECT_EQ(link.group(), 3u);
  EXPECT_TRUE(server.Wait(
      [](const auto& heard) { return heard.ranks == std::vector<RankRegistration>{AnyRank()}; }));
}

// Whether a socket of this process gives up unacknowledged bytes after just so long.
bool SomeSocketGivesUpAfter(unsigned milliseconds) {
  for (int fd = 0; fd < 1024; ++fd) {
    unsigned found = 0;
    socklen_t bytes = sizeof(found);
    if (getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &found, &bytes) == 0 &&
        found == milliseconds) {
      return true;
    }
  }
  return false;
}

TEST(CoordinatorLink, HoldsTheConnectionToItsOwnTimeNotThatOfJoining) {
  ServerThread server;
  LinkOptions options = Options(server);
  options.join_timeout_ms = test::kPatienceMs;
  options.socket_timeout_ms = 4'321;
  EXPECT_FALSE(SomeSocketGivesUpAfter(4'321));
  EXPECT_FALSE(SomeSocketGivesUpAfter(kRankSocketTimeoutMs));
  const CoordinatorLink link(options, {});
  EXPECT_TRUE(SomeSocketGivesUpAfter(4'321));
  EXPECT_TRUE(SomeSocketGivesUpAfter(kRankSocketTimeoutMs)) << "at the coordinator's end";
}

TEST(CoordinatorLink, KnowsWhatTheCoordinatorMadeOfIt) {
  ServerThread server;
  RegisterOutcome outcome{.epoch = 7, .group = 3, .continued = true};
  outcome.orphan_grace_ms = 1'234;
  outcome.drain_timeout_ms = 5'678;
  server.AnswerRegister(outcome);
  const CoordinatorLink link(Options(server), {});
  EXPECT_TRUE(link.outcome().continued);
  EXPECT_EQ(link.outcome().orphan_grace_ms, 1'234);
  EXPECT_EQ(link.outcome().drain_timeout_ms, 5'678);
}

SequenceUpdate TokensOf(uint64_t id, int64_t before, std::vector<int32_t> tokens) {
  SequenceUpdate update;
  update.id = id;
  update.tokens_before = before;
  update.tokens = std::move(tokens);
  return update;
}

TEST(CoordinatorLink, IntroducesItselfBeforeAnyUpdateAndInMessagesOfABoundedSize) {
  ServerThread server;
  CoordinatorLink link(Options(server), {});
  std::vector<HeldStream> held(3);
  for (size_t i = 0; i < held.size(); ++i) {
    held[i].request = {.id = 10 + i, .prompt = std::vector<int32_t>(50'000, 7), .resumable = true};
    held[i].request.generated = {1, 2};
    held[i].request.stream = {5, i};
    held[i].all = TokensOf(10 + i, 2, std::vector<int32_t>(100'000, static_cast<int32_t>(i)));
  }
  link.Introduce(held, {TokensOf(4, 0, {1}), TokensOf(5, 0, {})}, {9});
  link.QueueUpdates({TokensOf(10, 100'002, {6})}, {10});
  link.SendQueued();
  EXPECT_TRUE(server.Wait([](const auto& heard) { return heard.updates.size() == 3; }));
  EXPECT_TRUE(server.Wait([&](const auto& heard) {
    EXPECT_EQ(heard.updates[0].id, 4U);
    EXPECT_EQ(heard.updates[1].id, 5U) << "that it is there, although nothing came of it";
    EXPECT_EQ(heard.updates[2].id, 10U);
    EXPECT_EQ(heard.hand_overs_ended, 1) << "before the update";
    EXPECT_GT(heard.held.size(), 3U) << "in parts";
    std::vector<HeldStream> joined;
    for (const HeldStream& part : heard.held) {
      if (part.request.prompt.empty()) {
        SequenceUpdate& all = joined.back().all;
        EXPECT_EQ(part.request.id, joined.back().request.id);
        EXPECT_EQ(part.all.tokens_before, 2 + static_cast<int64_t>(all.tokens.size()));
        all.tokens.insert(all.tokens.end(), part.all.tokens.begin(), part.all.tokens.end());
      } else {
        joined.push_back(part);
      }
    }
    EXPECT_EQ(joined, held);
    return true;
  }));
  EXPECT_TRUE(link.introduced());
}

TEST(CoordinatorLink, AsksToBeDrainedOnceItsIntroductionIsOver) {
  ServerThread server;
  CoordinatorLink link(Options(server), {});
  std::vector<HeldStream> held(3);
  for (size_t i = 0; i < held.size(); ++i) {
    held[i].request = {.id = 10 + i, .prompt = std::vector<int32_t>(200'000, 7)};
  }
  link.Introduce(held, {}, {});
  link.Drain();
  EXPECT_TRUE(server.Wait([](const auto& heard) { return heard.drains == 1; }));
  EXPECT_TRUE(server.Wait([](const auto& heard) { return heard.hand_overs_before_drain == 1; }));
}

TEST(ClusterServer, BoundsTheLastWordsOfARankAndDoesNotBelieveThatItWasDrained) {
  ServerThread server;
  CoordinatorLink link(Options(server), {});
  std::string words(511, 'x');
  words += "\u00e9 and more";
  link.ReportFault(LossCause::kDrained, words, test::kPatienceMs);
  EXPECT_TRUE(server.Wait([](const auto& heard) {
    return heard.faults == std::vector<std::pair<LossCause, std::string>>{
                               {LossCause::kRankDied, std::string(511, 'x')}};
  }));
}

TEST(CoordinatorLink, AsksToBeDrainedAndSaysItsLastWords) {
  ServerThread server;
  CoordinatorLink link(Options(server), {});
  link.Drain();
  EXPECT_TRUE(server.Wait([](const auto& heard) { return heard.drains == 1; }));
  link.ReportFault(LossCause::kWrongAnswer, "layer 3", test::kPatienceMs);
  EXPECT_TRUE(server.Wait([](const auto& heard) {
    return heard.faults ==
           std::vector<std::pair<LossCause, std::string>>{{LossCause::kWrongAnswer, "layer 3"}};
  }));
}

// Nobody reads at the other end, as when a coordinator is stopped: the kernel goes on answering.
TEST(CoordinatorLink, IsLostByAHeartbeatAloneAndDoesNotWaitLongForItsLastWords) {
  Once<std::string> lost;
  LinkCallbacks callbacks;
  callbacks.on_lost = [&](const std::string& why) { lost.Set(why); };
  ServerThread server({.heartbeat_ms = 5});
  LinkOptions options = Options(server);
  options.call_timeout_ms = 10 * test::kPatienceMs;
  options.heartbeat_timeout_ms = 50;
  CoordinatorLink link(options, callbacks);
  std::promise<void> wake;
  std::thread stopped([&] { server.Run([&](ClusterServer&) { wake.get_future().wait(); }); });
  link.ReportFault(LossCause::kRankDied, "x", 1);
  EXPECT_TRUE(lost.Get().has_value());
  link.ReportFault(LossCause::kRankDied, "x", 10 * test::kPatienceMs);  // It is lost: at once.
  wake.set_value();
  stopped.join();
}

TEST(CoordinatorLink, CannotJoinWithAWrongToken) {
  ServerThread server({.group_token = "secret"});
  LinkOptions options = Options(server);
  options.group_token = "secreT";
  std::optional<Error> error = JoinError(options);
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code(), ErrorCode::kCannotJoin);
  EXPECT_THAT(error->what(), HasSubstr("--group-token-file"));
  options.group_token = "secret";
  EXPECT_FALSE(JoinError(options).has_value());
}

TEST(CoordinatorLink, SaysWhyTheGroupDoesNotFit) {
  ServerThread server;
  server.AnswerRegister({RegisterOutcome::Kind::kMismatch, "this region serves giraffe"});
  const std::optional<Error> error = JoinError(Options(server));
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(error->what(), HasSubstr("this region serves giraffe"));
}

TEST(CoordinatorLink, TriesUntilItsDeadlineWhilePutOff) {
  ServerThread server;
  server.AnswerRegister({RegisterOutcome::Kind::kRetry, "this coordinator is stopping"});
  LinkOptions options = Options(server);
  options.join_timeout_ms = 600;
  const std::optional<Error> error = JoinError(options);
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code(), ErrorCode::kCannotJoin);
  EXPECT_THAT(error->what(), HasSubstr("this coordinator is stopping"));
  EXPECT_TRUE(server.Wait([](const auto& heard) { return heard.ranks.size() >= 2; }));
}

TEST(CoordinatorLink, CannotJoinWhereNobodyListens) {
  LinkOptions options;
  {
    const ServerThread server;  // Its port is free again after this.
    options = Options(server);
  }
  options.join_timeout_ms = 300;
  const std::optional<Error> error = JoinError(options);
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code(), ErrorCode::kCannotJoin);
  EXPECT_THAT(error->what(), HasSubstr(options.address));
}

TEST(CoordinatorLink, RefusesAnAddressWithoutAPort) {
  for (const char* address :
       {"localhost", ":7400", "localhost:", "localhost:0", "a:99999", "a:1x"}) {
    LinkOptions options;
    options.address = address;
    const std::optional<Error> error = JoinError(options);
    ASSERT_TRUE(error.has_value()) << address;
    EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument) << address;
  }
}

TEST(CoordinatorLink, HandsOnSubmitCancelAndStopInOrder) {
  const SequenceRequest request{.id = 11,
                                .prompt = std::vector<int32_t>(100'000, 77),
                                .params = test::EveryFieldSet(),
                                .generated = {1, 2},
                                .prompt_logprobs_given = true,
                                .stream = {3, 4},
                                .resumable = true};

  std::vector<std::string> calls;
  SequenceRequest got;
  Once<bool> stopped;
  LinkCallbacks callbacks;
  callbacks.on_submit = [&](SequenceRequest submitted) {
    calls.push_back(Str("submit ", submitted.id));
    got = std::move(submitted);
  };
  callbacks.on_release = [&](uint64_t id) { calls.push_back(Str("release ", id)); };
  callbacks.on_cancel = [&](uint64_t id) { calls.push_back(Str("cancel ", id)); };
  callbacks.on_stop = [&] { stopped.Set(true); };
  ServerThread server;
  CoordinatorLink link(Options(server), callbacks);
  server.Run([&](ClusterServer& cluster) {
    cluster.Submit(1, 7, request);
    cluster.Cancel(1, 7, 11);
    cluster.Release(1, 7, 11);
    cluster.Stop(1, 7);
  });
  link.Start();
  ASSERT_TRUE(stopped.Get().has_value());
  EXPECT_THAT(calls, ::testing::ElementsAre("submit 11", "cancel 11", "release 11"));
  EXPECT_EQ(got, request);
}

TEST(CoordinatorLink, HandsNothingOnBeforeItsOwnerIsReady) {
  std::atomic<int> submits = 0;
  Once<bool> cancelled;
  LinkCallbacks callbacks;
  callbacks.on_submit = [&](const SequenceRequest&) { ++submits; };
  callbacks.on_cancel = [&](uint64_t) { cancelled.Set(true); };
  ServerThread server({.heartbeat_ms = 5});
  server.SubmitOnRegister(11);
  CoordinatorLink link(Options(server), callbacks);
  // The submit came before the reply to the registration, and what was heard since came after it.
  ASSERT_TRUE(server.Wait([](const auto& heard) { return heard.heartbeats >= 3; }));
  EXPECT_EQ(submits, 0);
  link.Start();
  server.Run([](ClusterServer& cluster) { cluster.Cancel(1, 7, 11); });
  ASSERT_TRUE(cancelled.Get().has_value());
  EXPECT_EQ(submits, 1);
}

// The submit of an attempt that was refused belongs to nobody whom this rank could answer.
TEST(CoordinatorLink, ForgetsWhatWasAskedByACoordinatorThatDidNotTakeIt) {
  std::atomic<int> submits = 0;
  Once<bool> cancelled;
  LinkCallbacks callbacks;
  callbacks.on_submit = [&](const SequenceRequest&) { ++submits; };
  callbacks.on_cancel = [&](uint64_t) { cancelled.Set(true); };
  ServerThread server;
  server.SubmitOnRegister(11);
  server.AnswerRegister({RegisterOutcome::Kind::kRetry, "not now", 7, 3});
  const auto accept = std::async(std::launch::async, [&] {
    const bool tried = server.Wait([](const auto& heard) { return !heard.ranks.empty(); });
    server.SubmitOnRegister(0);
    server.AnswerRegister({RegisterOutcome::Kind::kAccepted, "", 7, 3});
    return tried;
  });
  CoordinatorLink link(Options(server), callbacks);
  link.Start();
  server.Run([&](ClusterServer& cluster) { cluster.Cancel(server.last_connection(), 7, 11); });
  ASSERT_TRUE(cancelled.Get().has_value());
  EXPECT_EQ(submits, 0);
}

TEST(CoordinatorLink, DeliversAllUpdatesInOrderThoughTheMailboxIsSmall) {
  ServerThread server;
  constexpr int kSteps = 500;
  {
    LinkOptions options = Options(server);
    options.updates_waiting_max = 2;
    CoordinatorLink link(options, {});
    for (int step = 0; step < kSteps; ++step) {
      SequenceUpdate update;
      update.id = 4;
      update.tokens = {step, step + 1};
      update.logprobs = {{-0.5F, {{1, -0.25F}, {2, -1.5F}}}, {-2.0F, {{3, -0.1F}, {4, -9.0F}}}};
      if (step == 0) update.prompt_logprobs = {{-3.5F, {}}};
      if (step == kSteps - 1) {
        update.finish = FinishReason::kNumericError;
        update.detail = "layer 7, position 12";
      }
      PrefixReport prefixes;
      if (step == 0) prefixes = {.full = true, .added = {7, 8}};
      if (step == kSteps - 1) prefixes = {.removed = {UINT64_MAX}};
      link.QueueUpdates({update}, {step, 2, 3, 4, 5}, prefixes);
      link.SendQueued();
    }
  }  // The destructor sends what waits.
  // Those that waited together come as one.
  EXPECT_TRUE(server.Wait([](const auto& heard) {
    return !heard.updates.empty() && heard.updates.back().finish == FinishReason::kNumericError;
  }));
  EXPECT_TRUE(server.Wait([=](const auto& heard) {
    int step = 0;
    for (const SequenceUpdate& update : heard.updates) {
      EXPECT_EQ(update.prompt_logprobs.size(), step == 0 ? 1u : 0u);
      EXPECT_EQ(update.logprobs.size(), update.tokens.size());
      for (size_t i = 0; i + 1 < update.tokens.size(); i += 2, ++step) {
        EXPECT_EQ(update.tokens[i], step);
        EXPECT_EQ(update.tokens[i + 1], step + 1);
        EXPECT_EQ(update.logprobs[i + 1].top[0], (std::pair<int32_t, float>{3, -0.1F}));
      }
    }
    EXPECT_EQ(step, kSteps);
    EXPECT_EQ(heard.updates.back().detail, "layer 7, position 12");
    EXPECT_EQ(heard.stats, (SchedulerStats{kSteps - 1, 2, 3, 4, 5}));
    // Those that waited together came as one.
    PrefixReport all;
    for (const PrefixReport& prefixes : heard.prefixes) EXPECT_TRUE(Append(all, prefixes));
    EXPECT_EQ(all, (PrefixReport{true, {7, 8}, {UINT64_MAX}}));
    return true;
  }));
}

// The log-probabilities of a prompt that make more than a connection takes as one message.
TEST(CoordinatorLink, DeliversMoreThanAMessageHolds) {
  constexpr size_t kPositions = 420'000;
  SequenceUpdate update;
  update.id = 4;
  update.prompt_logprobs.resize(
      kPositions, {.logprob = -0.5F, .top = std::vector<std::pair<int32_t, float>>(20)});
  for (size_t i = 0; i < kPositions; ++i) {
    update.prompt_logprobs[i].top[0].first = static_cast<int32_t>(i);
  }
  update.finish = FinishReason::kLength;
  ServerThread server;
  CoordinatorLink link(Options(server), {});
  link.QueueUpdates({std::move(update)}, {});
  link.SendQueued();
  size_t heard_updates = 0;
  size_t positions = 0;
  bool finished = false;
  // Each wait has the time of one.
  for (size_t tenth = 1; tenth <= 10; ++tenth) {
    ASSERT_TRUE(server.Wait([&](const auto& heard) {
      for (; heard_updates < heard.updates.size(); ++heard_updates) {
        const SequenceUpdate& part = heard.updates[heard_updates];
        EXPECT_FALSE(finished);
        for (const TokenLogprobs& position : part.prompt_logprobs) {
          if (position.top.at(0).first != static_cast<int32_t>(positions++)) {
            ADD_FAILURE() << "position " << positions << " is out of order";
          }
        }
        finished = part.finish == FinishReason::kLength;
      }
      return positions >= kPositions * tenth / 10 || !heard.disconnects.empty();
    }));
  }
  EXPECT_EQ(positions, kPositions);
  EXPECT_TRUE(finished);
}

TEST(CoordinatorLink, BeatsWithItsProgressWhateverItsOwnerDoes) {
  ServerThread server({.heartbeat_ms = 5});
  CoordinatorLink link(Options(server), {});
  EXPECT_TRUE(server.Wait([](const auto& heard) { return heard.heartbeats >= 5; }));
  link.SetProgress(99, true);
  EXPECT_TRUE(server.Wait([](const auto& heard) { return heard.progress == 99 && heard.pending; }));
}

TEST(CoordinatorLink, TellsItsOwnerOnceThatItWasLost) {
  Once<std::string> lost;
  LinkCallbacks callbacks;
  callbacks.on_lost = [&](const std::string& why) { lost.Set(why); };
  ServerThread server;
  CoordinatorLink link(Options(server), callbacks);
  server.Run([](ClusterServer& cluster) { cluster.Close(1); });
  EXPECT_TRUE(lost.Get().has_value());
  link.QueueUpdates({}, {});  // Goes nowhere, and does not wait.
  link.SendQueued();
}

TEST(CoordinatorLink, IsLostWhenItsEpochIsOver) {
  Once<std::string> lost;
  LinkCallbacks callbacks;
  callbacks.on_lost = [&](const std::string& why) { lost.Set(why); };
  ServerThread server({.heartbeat_ms = 5});
  const CoordinatorLink link(Options(server), callbacks);
  server.RefuseEpochs();
  const std::optional<std::string> why = lost.Get();
  ASSERT_TRUE(why.has_value());
  EXPECT_THAT(*why, HasSubstr("epoch 7 is over"));
}

TEST(ClusterServer, HearsThatARankIsGone) {
  ServerThread server;
  { const CoordinatorLink link(Options(server), {}); }
  EXPECT_TRUE(server.Wait([](const auto& heard) { return heard.disconnects.size() == 1; }));
}

TEST(ClusterServer, LosesALeaderThatAnotherEpochCalls) {
  ServerThread server;
  CoordinatorLink link(Options(server), {});
  link.Start();
  server.Run([](ClusterServer& cluster) {
    cluster.Cancel(1, 7, 1);
    cluster.Cancel(1, 8, 1);
  });
  EXPECT_TRUE(server.Wait([](const auto& heard) {
    return heard.disconnects.size() == 1 &&
           heard.disconnects[0].find("this group's epoch is 7") != std::string::npos;
  }));
}

TEST(ClusterServer, NamesAPortThatIsTaken) {
  const ServerThread server;
  auto io = kj::setupAsyncIo();
  struct Nobody : RankListener, UpstreamListener {
    RegisterOutcome OnRegister(uint64_t, const RankRegistration&) override { return {}; }
    bool OnHeartbeat(uint64_t, uint64_t, uint64_t, bool) override { return false; }
    bool OnUpdates(uint64_t, uint64_t, std::vector<SequenceUpdate>, const SchedulerStats&,
                   const PrefixReport&) override {
      return false;
    }
    bool OnHandOver(uint64_t, uint64_t, std::vector<HeldStream>, bool) override { return false; }
    bool OnDrain(uint64_t, uint64_t) override { return false; }
    bool OnFault(uint64_t, uint64_t, LossCause, const std::string&) override { return false; }
    void OnDisconnected(uint64_t, const std::string&) override {}
    kj::Promise<kj::Own<EncodedPrompt>> OnPrompt(const GenerateRequest&, const Caller&) override {
      return kj::heap<EncodedPrompt>();
    }
    GenerateReply OnGenerate(const GenerateRequest&, EncodedPrompt, const Caller&,
                             GenerationSink&) override {
      return {};
    }
    void OnCancel(uint64_t) override {}
    std::vector<ServedModel> OnModels() override { return {}; }
    RegionStatus OnStatus() override { return {}; }
    std::string OnDrainGroup(uint64_t, bool) override { return ""; }
  } nobody;
  try {
    const ClusterServer second(io, {.port = server.port()}, nobody, nobody);
    FAIL() << "two listen on one port";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(), HasSubstr(std::to_string(server.port())));
  }
}

TEST(ClusterServer, HangsUpOnWhoeverDoesNotAuthenticate) {
  ServerThread server({.authenticate_timeout_ms = 50});
  auto io = kj::setupAsyncIo();
  auto stream = io.provider->getNetwork()
                    .parseAddress(server.address().c_str())
                    .then([](kj::Own<kj::NetworkAddress>&& address) {
                      auto promise = address->connect();
                      return promise.attach(kj::mv(address));
                    })
                    .wait(io.waitScope);
  char byte = 0;
  const size_t got =
      io.provider->getTimer()
          .timeoutAfter(test::kPatienceMs * kj::MILLISECONDS, stream->tryRead(&byte, 1, 1))
          .wait(io.waitScope);
  EXPECT_EQ(got, 0u);
}

TEST(ClusterServer, LetsARankInWhileStrangersHoldAllConnections) {
  ServerThread server({.connections_max = 3});
  auto io = kj::setupAsyncIo();
  auto address =
      io.provider->getNetwork().parseAddress(server.address().c_str()).wait(io.waitScope);
  kj::Vector<kj::Own<kj::AsyncIoStream>> strangers;
  for (int i = 0; i < 3; ++i) strangers.add(address->connect().wait(io.waitScope));
  LinkOptions options = Options(server);
  options.join_timeout_ms = 8'000;  // Strangers would keep their places for 10 s.
  EXPECT_FALSE(JoinError(options).has_value());
}

TEST(ClusterServer, SurvivesBytesThatAreNoProtocol) {
  ServerThread server;
  auto io = kj::setupAsyncIo();
  auto stream = io.provider->getNetwork()
                    .parseAddress(server.address().c_str())
                    .then([](kj::Own<kj::NetworkAddress>&& address) {
                      auto promise = address->connect();
                      return promise.attach(kj::mv(address));
                    })
                    .wait(io.waitScope);
  const std::string noise(4'096, '\xff');
  stream->write(noise.data(), noise.size()).wait(io.waitScope);
  EXPECT_FALSE(JoinError(Options(server)).has_value());
}

}  // namespace
}  // namespace shoal::rpc
