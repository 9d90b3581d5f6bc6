// Region, RPC port and upstream programs together, over real sockets, with leaders that answer
// every request by counting up from its last token.

#include "coordinator/shell/region_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <kj/async-io.h>

#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "coordinator/shell/rpc_gateway.h"
#include "tests/coordinator/core/support.h"
#include "tests/support/patience.h"
#include "tests/support/trial/loop_jobs.h"
#include "transport/base/error.h"
#include "transport/rpc/client.h"
#include "transport/rpc/coordinator_link.h"

namespace shoal::gateway {
namespace {

using ::testing::HasSubstr;

// The coordinator's loop on a thread of its own.
class CoordinatorThread {
 public:
  explicit CoordinatorThread(core::RegionOptions options = {}) : options_(std::move(options)) {
    std::promise<void> started;
    std::future<void> future = started.get_future();
    thread_ = std::thread([this, &started] { Serve(started); });
    future.get();
  }

  ~CoordinatorThread() {
    jobs_.Stop();
    thread_.join();
  }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  bool WaitForReady(int groups) {
    return Wait([&] { return ready_ >= groups; });
  }
  bool WaitForLost(int groups) {
    return Wait([&] { return lost_ >= groups; });
  }
  std::optional<LossCause> last_loss() {
    const std::lock_guard lock(mutex_);
    return last_loss_;
  }
  // Has it called on the coordinator's loop.
  void Do(const std::function<void(RegionService&)>& what) {
    jobs_.Run([&] { what(*region_); });
  }
  size_t journal_size() {
    size_t size = 0;
    jobs_.Run([&] { size = region_->journal().size(); });
    return size;
  }

 private:
  void Serve(std::promise<void>& started) {
    auto io = kj::setupAsyncIo();
    const SteadyClock clock;
    RegionEvents events;
    events.on_group_ready = [this](uint64_t, const std::string&) { Note([&] { ++ready_; }); };
    events.on_group_lost = [this](uint64_t, LossCause cause, const std::string&) {
      Note([&] {
        ++lost_;
        last_loss_ = cause;
      });
    };
    RegionService region(options_, clock, io.provider->getTimer(), events);
    TextService text;
    text.vocab_size = 100;
    RpcGateway upstream(
        region, text, [next = uint64_t{42}]() mutable { return next++; }, io.unixEventPort);
    rpc::ClusterServerOptions options;
    options.port = 0;
    rpc::ClusterServer server(io, options, region, upstream);
    region.Connect(server);
    region_ = &region;
    port_ = server.port();
    started.set_value();
    jobs_.Serve(io);
    region.Stop(/*grace_ms=*/2'000).wait(io.waitScope);
  }

  template <typename Change>
  void Note(Change change) {
    {
      const std::lock_guard lock(mutex_);
      change();
    }
    changed_.notify_all();
  }

  bool Wait(const std::function<bool()>& done) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::milliseconds(test::kPatienceMs), done);
  }

  const core::RegionOptions options_;
  uint16_t port_ = 0;
  test::LoopJobs jobs_;
  RegionService* region_ = nullptr;
  std::mutex mutex_;  // Guards the three below.
  int ready_ = 0;
  int lost_ = 0;
  std::optional<LossCause> last_loss_;
  std::condition_variable changed_;
  std::thread thread_;
};

// A group of one rank. Of a request whose first token is 99 it brings one token and no more, unless
// another group has brought some already.
class FakeWorker {
 public:
  FakeWorker(const std::string& address, uint64_t group_id)
      : FakeWorker(address, core::MakeRank(group_id)) {}

  FakeWorker(const std::string& address, const RankRegistration& rank) {
    rpc::LinkOptions options;
    options.address = address;
    options.rank = rank;
    rpc::LinkCallbacks callbacks;
    callbacks.on_submit = [this](const SequenceRequest& request) {
      Post([=, this] { Answer(request); });
    };
    callbacks.on_cancel = [this](uint64_t id) {
      Post([=, this] {
        cancelled_.set_value(id);
        SequenceUpdate update;
        update.id = id;
        update.finish = FinishReason::kCancelled;
        link_->QueueUpdates({update}, {});
        link_->SendQueued();
      });
    };
    callbacks.on_stop = [this] { Post([this] { running_ = false; }); };
    callbacks.on_lost = [this](const std::string&) { Post([this] { running_ = false; }); };
    link_ = std::make_unique<rpc::CoordinatorLink>(options, callbacks);
    link_->Start();
    thread_ = std::thread([this] { Work(); });
  }

  ~FakeWorker() {
    Post([this] { running_ = false; });
    thread_.join();
  }

  // The id of the only cancel there is.
  std::optional<uint64_t> Cancelled() {
    auto future = cancelled_.get_future();
    if (future.wait_for(std::chrono::milliseconds(test::kPatienceMs)) != std::future_status::ready)
      return std::nullopt;
    return future.get();
  }

 private:
  void Post(std::function<void()> job) {
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));
    }
    changed_.notify_one();
  }

  void Work() {
    while (running_) {
      std::function<void()> job;
      {
        std::unique_lock lock(mutex_);
        if (!changed_.wait_for(lock, std::chrono::milliseconds(test::kPatienceMs),
                               [&] { return !jobs_.empty(); })) {
          return;
        }
        job = std::move(jobs_.front());
        jobs_.pop_front();
      }
      job();
    }
    link_.reset();
  }

  void Answer(const SequenceRequest& request) {
    SequenceUpdate update;
    update.id = request.id;
    auto brought = static_cast<int64_t>(request.generated.size());
    if (request.prompt.front() == 99 && brought == 0) {
      update.tokens = {(request.prompt.back() + 1) % 100};
      link_->QueueUpdates({update}, {});
      link_->SendQueued();
      return;
    }
    const GenerationParams& params = request.params;
    TokenLogprobs logprobs;
    for (int32_t id = 0; id < params.top_logprobs; ++id) logprobs.top.emplace_back(id, -1.0F);
    if (params.prompt_logprobs && !request.prompt_logprobs_given) {
      update.prompt_logprobs.resize(request.prompt.size() - 1, logprobs);
    }
    while (brought < params.tokens_max) {
      update.tokens_before = brought++;
      update.tokens = {static_cast<int32_t>(request.prompt.back() + brought)};
      if (params.top_logprobs >= 0) update.logprobs = {logprobs};
      if (brought == params.tokens_max) update.finish = FinishReason::kLength;
      link_->QueueUpdates({update}, {});
      link_->SendQueued();
      update.prompt_logprobs.clear();
    }
  }

  std::mutex mutex_;  // Guards jobs_.
  std::deque<std::function<void()>> jobs_;
  std::condition_variable changed_;
  bool running_ = true;  // The worker thread's own.
  std::promise<uint64_t> cancelled_;
  std::unique_ptr<rpc::CoordinatorLink> link_;
  std::thread thread_;
};

rpc::GenerateRequest Request(std::vector<int32_t> prompt, int64_t tokens_max) {
  rpc::GenerateRequest request;
  request.prompt = std::move(prompt);
  request.params.tokens_max = tokens_max;
  return request;
}

std::vector<int32_t> Generate(rpc::Client& client, const rpc::GenerateRequest& request) {
  std::vector<int32_t> tokens;
  client.Generate(request, [&](const rpc::GenerateChunk& chunk) {
    tokens.insert(tokens.end(), chunk.update.tokens.begin(), chunk.update.tokens.end());
    return true;
  });
  return tokens;
}

template <typename Body>
std::optional<Error> ErrorOf(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

// How a stream failed, for another thread.
struct Failure : core::StreamListener {
  void OnTokens(const SequenceUpdate&) override {}
  void OnFinish(const SequenceUpdate&) override { error.set_value({}); }
  void OnError(const StreamError& what) override { error.set_value(what); }

  std::promise<StreamError> error;
};

// No tick comes in the meantime.
TEST(RegionService, EndsAStreamWhenItsDeadlineComes) {
  core::RegionOptions options;
  options.heartbeat_ms = 10 * test::kPatienceMs;
  CoordinatorThread coordinator(options);
  FakeWorker worker(coordinator.address(), 1);
  ASSERT_TRUE(coordinator.WaitForReady(1));
  Failure failure;
  coordinator.Do([&](RegionService& region) {
    core::Request request{{99, 10}, {}};  // One token comes, and then none.
    request.terms.deadline_ms = 50;
    EXPECT_TRUE(std::holds_alternative<core::StreamId>(region.Submit(request, failure)));
  });
  std::future<StreamError> error = failure.error.get_future();
  ASSERT_EQ(error.wait_for(std::chrono::milliseconds(test::kPatienceMs)),
            std::future_status::ready);
  EXPECT_EQ(error.get().reason, BusyReason::kDeadlineExceeded);
  EXPECT_TRUE(worker.Cancelled());
}

TEST(RegionService, CarriesARequestToAGroupAndItsTokensBack) {
  CoordinatorThread coordinator;
  FakeWorker worker(coordinator.address(), 1);
  ASSERT_TRUE(coordinator.WaitForReady(1));
  rpc::Client client({.address = coordinator.address()});
  EXPECT_EQ(Generate(client, Request({1, 10}, 5)), (std::vector<int32_t>{11, 12, 13, 14, 15}));
  EXPECT_EQ(client.Models().at(0).numerics_id, "00112233445566778899aabbccddeeff");
  EXPECT_EQ(client.Status().requests_total, 1);
  EXPECT_EQ(coordinator.journal_size(), 0u);
}

// More at once than the group holds, and two that are wrong: these alone end with an error.
TEST(RegionService, AnswersABatchInItsOrderEachByItself) {
  CoordinatorThread coordinator;
  FakeWorker worker(coordinator.address(), 1);
  ASSERT_TRUE(coordinator.WaitForReady(1));
  rpc::Client client({.address = coordinator.address()});
  std::vector<rpc::GenerateRequest> requests;
  for (int32_t i = 0; i < 10; ++i) requests.push_back(Request({1, 10 + i}, 2));
  requests[3].prompt = std::vector<int32_t>{1, 100};
  requests[7].prompt = std::vector<int32_t>{};
  const auto items = client.GenerateBatch(requests, {.concurrency = 3});
  ASSERT_EQ(items.size(), 10u);
  for (int32_t i = 0; i < 10; ++i) {
    const rpc::BatchItem& item = items[static_cast<size_t>(i)];
    if (i == 3 || i == 7) {
      ASSERT_TRUE(item.error.has_value()) << i;
      EXPECT_EQ(item.error->code(), ErrorCode::kInvalidArgument) << item.error->what();
      continue;
    }
    ASSERT_FALSE(item.error.has_value()) << item.error->what();
    EXPECT_EQ(item.tokens, (std::vector<int32_t>{11 + i, 12 + i}));
    EXPECT_EQ(item.result.finish, FinishReason::kLength);
  }
  EXPECT_THAT(items[3].error->what(), HasSubstr("prompt[1] is 100"));
  EXPECT_TRUE(client.GenerateBatch({}).empty());
}

TEST(RegionService, ServesEachRequestWithTheModelThatItNames) {
  CoordinatorThread coordinator;
  FakeWorker worker(coordinator.address(), 1);
  ASSERT_TRUE(coordinator.WaitForReady(1));
  RankRegistration shape = core::MakeRank(2);
  shape.model_name = "giraffe";
  shape.numerics_id = "ffffffffffffffffffffffffffffffff";
  shape.vocab_size = 20;
  FakeWorker giraffe(coordinator.address(), shape);
  ASSERT_TRUE(coordinator.WaitForReady(2));
  rpc::Client client({.address = coordinator.address()});
  const auto models = client.Models();
  ASSERT_EQ(models.size(), 2U);
  EXPECT_EQ(models[0].name, "toy");
  EXPECT_EQ(models[1].name, "giraffe");
  EXPECT_EQ(models[1].numerics_id, shape.numerics_id);

  rpc::GenerateRequest request = Request({1, 15}, 3);
  request.model = "giraffe";
  EXPECT_EQ(Generate(client, request), (std::vector<int32_t>{16, 17, 18}));
  request.prompt = std::vector<int32_t>{1, 20};
  const auto outside = ErrorOf([&] { Generate(client, request); });
  ASSERT_TRUE(outside.has_value());
  EXPECT_THAT(outside->what(), HasSubstr("prompt[1] is 20: expected a token id from 0 to 19"));
  request.model = "";
  EXPECT_EQ(Generate(client, request), (std::vector<int32_t>{21, 22, 23}));
  request.model = "lion";
  const auto unknown = ErrorOf([&] { Generate(client, request); });
  ASSERT_TRUE(unknown.has_value());
  EXPECT_EQ(unknown->code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(unknown->what(), HasSubstr(R"("lion" is not served here; served: toy, giraffe)"));
}

TEST(RegionService, RefusesWhatIsWrongByName) {
  CoordinatorThread coordinator;
  FakeWorker worker(coordinator.address(), 1);
  ASSERT_TRUE(coordinator.WaitForReady(1));
  rpc::Client client({.address = coordinator.address()});
  const auto expect_refusal = [&](rpc::GenerateRequest request, const std::string& field) {
    const auto error = ErrorOf([&] { Generate(client, request); });
    ASSERT_TRUE(error.has_value()) << field;
    EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument) << field;
    EXPECT_THAT(error->what(), HasSubstr(field));
  };
  expect_refusal(Request({}, 5), "prompt");
  expect_refusal(Request({1, 100}, 5), "prompt[1] is 100");
  expect_refusal(Request({-1}, 5), "prompt[0] is -1");
  expect_refusal(Request({1}, 0), "tokens_max");
  rpc::GenerateRequest request = Request({1}, 5);
  request.params.sampling.top_p = 0;
  expect_refusal(request, "top_p");
  request = Request({1}, 5);
  request.params.sampling.temperature = std::numeric_limits<double>::quiet_NaN();
  expect_refusal(request, "temperature");
  request = Request({1}, 5);
  request.params.sampling.presence_penalty = 3;
  expect_refusal(request, "presence_penalty is 3: expected a value from -2 to 2");
  request = Request({1}, 5);
  request.params.sampling.logit_bias = {{100, 1}};
  expect_refusal(request, "logit_bias names token 100: expected an id from 0 to 99");
  request = Request({1}, 5);
  request.params.stop_ids.assign(kStopIdsMax + 1, 3);
  expect_refusal(request, "stop_ids");
  request = Request({}, 5);
  request.prompt = "words";
  expect_refusal(request, "no tokenizer");
  request.prompt = std::string(2 * kLargeTextBytes, 'a');  // Tokenized beside the loop.
  expect_refusal(request, "no tokenizer");
  expect_refusal(Request(std::vector<int32_t>(65, 1), 5), "too_large");
}

TEST(RegionService, CancelsInTheGroupWhatAClientDrops) {
  CoordinatorThread coordinator;
  FakeWorker worker(coordinator.address(), 1);
  ASSERT_TRUE(coordinator.WaitForReady(1));
  {
    rpc::Client client({.address = coordinator.address()});
    const auto result =
        client.Generate(Request({99}, 5), [](const rpc::GenerateChunk&) { return false; });
    EXPECT_EQ(result.finish, FinishReason::kCancelled);
  }
  EXPECT_TRUE(worker.Cancelled().has_value());
  EXPECT_EQ(coordinator.journal_size(), 0u);
}

TEST(RegionService, GoesOnWithAnotherGroupWhereTheLostOneStopped) {
  CoordinatorThread coordinator;
  auto worker = std::make_unique<FakeWorker>(coordinator.address(), 1);
  ASSERT_TRUE(coordinator.WaitForReady(1));
  rpc::Client client({.address = coordinator.address()});
  std::optional<FakeWorker> restarted;
  std::vector<int32_t> tokens;
  int32_t resumes = 0;
  client.Generate(Request({99, 10}, 5), [&](const rpc::GenerateChunk& chunk) {
    if (tokens.empty()) {
      worker.reset();
      restarted.emplace(coordinator.address(), 2);
    }
    tokens.insert(tokens.end(), chunk.update.tokens.begin(), chunk.update.tokens.end());
    resumes += chunk.update.resumes;
    return true;
  });
  EXPECT_EQ(tokens, (std::vector<int32_t>{11, 12, 13, 14, 15}));
  EXPECT_EQ(resumes, 1);
  EXPECT_EQ(coordinator.journal_size(), 0u);
}

TEST(RegionService, SaysThatTheGroupWasLostAndTakesItBack) {
  core::RegionOptions options;
  options.resume_timeout_ms = 0;
  CoordinatorThread coordinator(options);
  auto worker = std::make_unique<FakeWorker>(coordinator.address(), 1);
  ASSERT_TRUE(coordinator.WaitForReady(1));
  rpc::Client client(
      {.address = coordinator.address(), .retry = {.profile = client::RetryProfile::kNone}});
  const auto error = ErrorOf([&] {
    client.Generate(Request({99}, 5), [&](const rpc::GenerateChunk&) {
      EXPECT_EQ(coordinator.journal_size(), 1u);
      worker.reset();
      return true;
    });
  });
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code(), ErrorCode::kPeerFailed);
  EXPECT_THAT(error->what(), HasSubstr("group_lost"));
  EXPECT_TRUE(coordinator.WaitForLost(1));
  EXPECT_EQ(coordinator.journal_size(), 0u);

  const auto busy = ErrorOf([&] { Generate(client, Request({1}, 1)); });
  ASSERT_TRUE(busy.has_value());
  EXPECT_THAT(busy->what(), HasSubstr("no_group"));
  FakeWorker restarted(coordinator.address(), 2);
  ASSERT_TRUE(coordinator.WaitForReady(2));
  EXPECT_EQ(Generate(client, Request({1}, 1)), (std::vector<int32_t>{2}));
  EXPECT_GT(client.Status().groups.at(0).epoch, 1u);
}

// What a gateway hears of one stream. Waits until it has ended, or has so many tokens.
class Listener : public core::StreamListener {
 public:
  void OnTokens(const SequenceUpdate& update) override { Add(update, ""); }
  void OnFinish(const SequenceUpdate& update) override { Add(update, ToString(update.finish)); }
  void OnError(const StreamError& error) override { Add({}, ToString(error.reason)); }

  std::vector<int32_t> Await(size_t tokens) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::milliseconds(test::kPatienceMs),
                      [&] { return tokens_.size() >= tokens || !end_.empty(); });
    return tokens_;
  }
  std::string end() {
    const std::lock_guard lock(mutex_);
    return end_;
  }

 private:
  void Add(const SequenceUpdate& update, std::string_view end) {
    const std::lock_guard lock(mutex_);
    tokens_.insert(tokens_.end(), update.tokens.begin(), update.tokens.end());
    end_ = end;
    changed_.notify_all();
  }

  std::mutex mutex_;  // Guards the two below.
  std::vector<int32_t> tokens_;
  std::string end_;
  std::condition_variable changed_;
};

TEST(RegionService, TellsAllOfAStreamToAClientThatComesBack) {
  CoordinatorThread coordinator;
  FakeWorker worker(coordinator.address(), 1);
  ASSERT_TRUE(coordinator.WaitForReady(1));
  core::Request request{{99, 10}, {}};
  request.params.tokens_max = 5;
  request.resumable = true;
  request.stream = StreamId{1, 2};
  Listener first;
  Listener second;
  Listener third;
  coordinator.Do([&](RegionService& region) {
    EXPECT_TRUE(std::holds_alternative<StreamId>(region.Submit(request, first)));
  });
  EXPECT_EQ(first.Await(1), (std::vector<int32_t>{11}));
  coordinator.Do([&](RegionService& region) { region.Detach(*request.stream); });
  coordinator.Do([&](RegionService& region) {
    const auto outcome = region.Resume(request, second);
    ASSERT_TRUE(std::holds_alternative<core::GenerationService::Resumed>(outcome));
    EXPECT_FALSE(std::get<core::GenerationService::Resumed>(outcome).recomputing);
  });
  EXPECT_EQ(second.Await(1), (std::vector<int32_t>{11}));
  EXPECT_EQ(first.end(), "") << "it left";
  coordinator.Do([&](RegionService& region) {
    EXPECT_TRUE(
        std::holds_alternative<core::GenerationService::Resumed>(region.Resume(request, third)));
    EXPECT_EQ(second.end(), "stream_taken") << "another one took its place";
    core::Request other = request;
    other.prompt = {98};
    EXPECT_TRUE(std::holds_alternative<StreamError>(region.Resume(other, first)));
  });
  EXPECT_EQ(third.Await(1), (std::vector<int32_t>{11}));
  coordinator.Do([&](RegionService& region) { region.Cancel(*request.stream); });
  EXPECT_TRUE(worker.Cancelled().has_value());
  EXPECT_EQ(third.end(), "");
  EXPECT_EQ(coordinator.journal_size(), 0u);
}

TEST(RegionService, SaysThatItRecomputesWhereTheListenerBeforeWasStillToHearOfTheEnd) {
  auto io = kj::setupAsyncIo();
  const SteadyClock clock;
  const core::RegionOptions options;
  RegionService region(options, clock, io.provider->getTimer(), {});
  const RankRegistration rank = core::MakeRank(1);
  const uint64_t epoch = region.OnRegister(1, rank).epoch;
  const core::SequenceId canary = options.boot + 1;
  EXPECT_TRUE(region.OnUpdates(
      1, epoch,
      {core::AnswerCanary(core::SubmitOf(core::Canary(canary, options.canary_prompt, rank)))}, {}));
  core::Request request{{99, 10}, {}};
  request.params.tokens_max = 5;
  request.resumable = true;
  request.stream = StreamId{1, 2};
  Listener first;
  Listener second;
  EXPECT_TRUE(std::holds_alternative<StreamId>(region.Submit(request, first)));
  SequenceUpdate refusal;
  refusal.id = canary + 1;
  refusal.finish = FinishReason::kCancelled;
  refusal.detail = "not this one";
  EXPECT_TRUE(region.OnUpdates(1, epoch, {refusal}, {}));
  const auto outcome = region.Resume(request, second);
  EXPECT_EQ(first.end(), "stream_taken");
  ASSERT_TRUE(std::holds_alternative<core::GenerationService::Resumed>(outcome));
  EXPECT_TRUE(std::get<core::GenerationService::Resumed>(outcome).recomputing);
}

TEST(RegionService, DrainsAGroupAndSaysWhenItIsGone) {
  CoordinatorThread coordinator;
  FakeWorker worker(coordinator.address(), 1);
  ASSERT_TRUE(coordinator.WaitForReady(1));
  coordinator.Do([](RegionService& region) {
    EXPECT_EQ(region.Drain(0, /*restart=*/false), "");
    EXPECT_THAT(region.Drain(7, false), HasSubstr("there is no group 7"));
    EXPECT_FALSE(region.OnGroupEnded(7, LossCause::kRankDied, "its processes ended"));
  });
  EXPECT_TRUE(coordinator.WaitForLost(1));
  EXPECT_EQ(coordinator.last_loss(), LossCause::kDrained);
  coordinator.Do([](RegionService& region) {
    EXPECT_EQ(region.status().group_losses_total, 0);
    EXPECT_FALSE(region.OnGroupEnded(0, LossCause::kRankDied, "its processes ended"));
  });
}

TEST(RegionService, TellsAClientThatItStops) {
  auto coordinator = std::make_unique<CoordinatorThread>();
  FakeWorker worker(coordinator->address(), 1);
  ASSERT_TRUE(coordinator->WaitForReady(1));
  rpc::Client client({.address = coordinator->address(), .resume_timeout_ms = 0});
  std::thread stopper;
  const auto error = ErrorOf([&] {
    client.Generate(Request({99}, 5), [&](const rpc::GenerateChunk&) {
      stopper = std::thread([&] { coordinator.reset(); });
      return true;
    });
  });
  stopper.join();
  ASSERT_TRUE(error.has_value());
  EXPECT_THAT(error->what(), HasSubstr("draining"));
}

}  // namespace
}  // namespace shoal::gateway
