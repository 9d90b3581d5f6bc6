// The HTTP client for outsiders (transport/client) before the real gateway, over real sockets.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <thread>

#include "tests/coordinator/gateway/fakes.h"
#include "tests/support/trial/loop_jobs.h"
#include "tests/transport/client/scripted_server.h"
#include "transport/client/http_batch.h"

namespace shoal::gateway {
namespace {

using ::testing::HasSubstr;

// A gateway on a port and a thread of its own, before a region whose tokens the test deals out.
class GatewayThread {
 public:
  GatewayThread() {
    std::promise<void> started;
    std::future<void> future = started.get_future();
    thread_ = std::thread([this, &started] {
      auto io = kj::setupAsyncIo();
      ByteTokenizer tokenizer;
      HttpGatewayOptions options;
      options.port = 0;
      TextService text;
      text.tokenizer = &tokenizer;
      text.vocab_size = kByteVocabSize;
      HttpGateway gateway(options, generation, text, io.provider->getTimer(), io.unixEventPort);
      gateway.Listen(io.provider->getNetwork(), io.waitScope);
      url = gateway.url();
      started.set_value();
      jobs_.Serve(io);
    });
    future.get();
  }
  ~GatewayThread() noexcept {
    jobs_.Stop();
    thread_.join();
  }

  void Run(const std::function<void()>& what) { jobs_.Run(what); }
  // Once `count` sequences were submitted, runs that on the gateway's loop.
  void WhenSubmitted(size_t count, const std::function<void()>& what) {
    for (bool is_there = false; !is_there;) {
      Run([&] {
        is_there = generation.sequences.size() >= count;
        if (is_there) what();
      });
    }
  }

  FakeGeneration generation;  // Of the gateway's loop.
  std::string url;

 private:
  test::LoopJobs jobs_;
  std::thread thread_;
};

client::HttpClientOptions Options(const GatewayThread& gateway) {
  return {.url = gateway.url, .retry = {.base_ms = 1}, .retry_draw = [] { return 0.0; }};
}

TEST(HttpClientDoor, StreamsAnAnswer) {
  GatewayThread gateway;
  std::thread answer([&] {
    gateway.WhenSubmitted(1, [&] {
      gateway.generation.Deliver(0, "ab");
      gateway.generation.Finish(0, FinishReason::kLength, {'c'});
    });
  });
  client::HttpClient client(Options(gateway));
  std::string text;
  const client::HttpAnswer result =
      client.Generate({.body = client::CompletionBody("hi", 3, true)}, [&](std::string_view data) {
        text += client::TextOf(data);
        return true;
      });
  answer.join();
  EXPECT_EQ(text, "abc");
  EXPECT_EQ(result.text, "abc");
}

TEST(HttpClientDoor, IsToldWhyAndWhenToComeBackAndDoes) {
  GatewayThread gateway;
  StreamError refusal = MakeStreamError(BusyReason::kQueueFull, "3 requests wait");
  gateway.Run([&] { gateway.generation.refusal = refusal; });
  client::HttpClientOptions options = Options(gateway);
  options.retry.profile = client::RetryProfile::kNone;
  client::HttpClient once(options);
  std::optional<client::HttpError> error;
  try {
    once.Generate({.body = client::CompletionBody("hi", 3, false)});
  } catch (const client::HttpError& said) {
    error = said;
  }
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->failure.status, 503);
  EXPECT_EQ(error->failure.code, "queue_full");
  EXPECT_EQ(error->failure.retry_after_ms, 1'000);
  EXPECT_THAT(error->what(), HasSubstr("3 requests wait"));

  client::HttpClient patient(Options(gateway));
  std::future<client::HttpAnswer> answer = std::async(std::launch::async, [&] {
    return patient.Generate({.body = client::CompletionBody("hi", 3, false)});
  });
  // It comes back a second after its first attempt, at the earliest.
  EXPECT_EQ(answer.wait_for(std::chrono::milliseconds(500)), std::future_status::timeout);
  gateway.Run([&] { gateway.generation.refusal.reset(); });
  gateway.WhenSubmitted(1, [&] {
    gateway.generation.Finish(0, FinishReason::kLength, {'o', 'k'});
  });
  const client::HttpAnswer result = answer.get();
  EXPECT_EQ(result.text, "ok");
  EXPECT_EQ(result.attempts, 2);
}

// Hands bytes on between a client and the gateway, and cuts the first connection off after the
// gateway's first event.
class CuttingRelay {
 public:
  explicit CuttingRelay(GatewayThread& gateway)
      : server([this, &gateway](int fd, size_t number, const std::string& request) {
          for (bool is_free = number == 0; !is_free;) {  // Until the gateway has noticed the cut.
            gateway.Run([&] { is_free = is_noticed = gateway.generation.sequences[0].detached; });
          }
          const int64_t end_ms = client::SteadyNowMs() + 60'000;
          const std::string port = gateway.url.substr(gateway.url.rfind(':') + 1);
          client::HttpSocket upstream("127.0.0.1", port, end_ms, nullptr);
          EXPECT_TRUE(upstream.Write(request, 60'000, end_ms));
          std::string heard;
          for (std::string_view bytes = upstream.Read(60'000, end_ms); !bytes.empty();
               bytes = upstream.Read(60'000, end_ms)) {
            client::Say(fd, bytes);
            heard += bytes;
            const size_t event = heard.find("data: ");
            if (number == 0 && event != heard.npos && heard.find("\n\n", event) != heard.npos)
              return;
          }
        }) {}

  std::atomic<bool> is_noticed = false;
  client::ScriptedServer server;
};

TEST(HttpClientDoor, GoesOnWithAnAnswerThatWasCutOff) {
  GatewayThread gateway;
  CuttingRelay relay(gateway);
  std::thread answer([&] {
    gateway.WhenSubmitted(1, [&] { gateway.generation.Deliver(0, "ab"); });
    // Its client is gone, and comes back.
    for (bool is_back = false; !is_back;) {
      gateway.Run([&] {
        const FakeGeneration::Sequence& sequence = gateway.generation.sequences[0];
        is_back = relay.is_noticed && !sequence.detached;
        if (!is_back) return;
        gateway.generation.Replay(0);
        gateway.generation.Finish(0, FinishReason::kLength, {'c'});
      });
    }
  });
  client::HttpClientOptions options = Options(gateway);
  options.url = relay.server.url();
  client::HttpClient client(options);
  const client::HttpAnswer result = client.Generate({.body = client::CompletionBody("hi", 3, true)},
                                                    [](std::string_view) { return true; });
  answer.join();
  EXPECT_EQ(result.text, "abc");
  EXPECT_EQ(result.reconnects, 1);
  EXPECT_EQ(result.attempts, 1);
}

// A prompt with the separator of merged texts is a prompt like others.
TEST(HttpClientDoor, KeepsThePromptsOfABatchApart) {
  GatewayThread gateway;
  const std::vector<std::string> prompts = {"a\nUser: b", "c"};
  std::thread answer([&] {
    gateway.WhenSubmitted(2, [&] {
      for (size_t i = 0; i < 2; ++i) {
        const std::vector<int32_t>& prompt = gateway.generation.sequences[i].prompt;
        EXPECT_TRUE(std::string(prompt.begin(), prompt.end()) == prompts[0] ||
                    std::string(prompt.begin(), prompt.end()) == prompts[1]);
        gateway.generation.Finish(i, FinishReason::kLength, prompt);
      }
    });
  });
  client::HttpClient client(Options(gateway));
  std::vector<client::HttpRequest> requests;
  for (const std::string& prompt : prompts) {
    requests.push_back({.body = client::CompletionBody(prompt, 20, false)});
  }
  const std::vector<client::BatchItem> items = client::GenerateBatch(client, requests);
  answer.join();
  for (size_t i = 0; i < 2; ++i) {
    ASSERT_FALSE(items[i].error.has_value()) << items[i].error->what();
    EXPECT_EQ(items[i].answer.text, prompts[i]);
  }
}

}  // namespace
}  // namespace shoal::gateway
