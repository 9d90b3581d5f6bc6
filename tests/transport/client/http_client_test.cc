// The HTTP client before servers that are busy, die, go silent, or are no servers at all.

#include "transport/client/http_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <future>
#include <optional>

#include "tests/support/patience.h"
#include "tests/transport/client/scripted_server.h"
#include "transport/client/http_batch.h"

namespace shoal::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::string_view kAnswer = R"({"choices":[{"index":0,"text":"ok"}]})";

std::string Busy(const std::string& code, int64_t retry_after_ms) {
  return JsonResponse("503 Service Unavailable",
                      R"({"error":{"message":"no","code":")" + code + R"(","retry_after_ms":)" +
                          std::to_string(retry_after_ms) + R"(,"predicted_wait_ms":77}})",
                      "Retry-After: 1\r\n");
}

std::string Event(const std::string& id, const std::string& text) {
  return "id: " + id + "\ndata: {\"choices\":[{\"index\":0,\"text\":" + QuoteJson(text) + "}]}\n\n";
}

HttpClientOptions Options(const ScriptedServer& server) {
  return {.url = server.url(), .retry = {.base_ms = 1}, .retry_draw = [] { return 0.0; }};
}

std::optional<HttpError> ErrorOf(HttpClient& client, const HttpRequest& request,
                                 const HttpClient::OnEvent& on_event = nullptr) {
  try {
    client.Generate(request, on_event);
  } catch (const HttpError& error) {
    return error;
  }
  return std::nullopt;
}

const HttpRequest kRequest{.body = CompletionBody("hi", 8, false)};
const HttpRequest kStreamed{.body = CompletionBody("hi", 8, true)};

TEST(HttpClient, AsksAgainNumbersItsAttemptsAndShortensItsDeadline) {
  ScriptedServer server([](int fd, size_t number, const std::string&) {
    Say(fd, number < 2 ? Busy("queue_full", 30) : JsonResponse("200 OK", std::string(kAnswer)));
  });
  HttpClient client(Options(server));
  HttpRequest request = kRequest;
  request.name = "mine";
  request.service_class = "critical";
  request.session = "s1";
  request.deadline_ms = 60'000;
  const HttpAnswer answer = client.Generate(request);
  EXPECT_EQ(answer.text, "ok");
  EXPECT_EQ(answer.body, kAnswer);
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.attempts, 3);
  const std::vector<std::string> heard = server.requests();
  ASSERT_EQ(heard.size(), 3U);
  for (size_t i = 0; i < heard.size(); ++i) {
    EXPECT_THAT(heard[i], HasSubstr("X-Shoal-Attempt: " + std::to_string(i + 1) + "\r\n"));
    EXPECT_THAT(heard[i], HasSubstr("X-Shoal-Class: critical\r\n"));
    EXPECT_THAT(heard[i], HasSubstr("X-Shoal-Session: s1\r\n"));
    EXPECT_THAT(heard[i], HasSubstr("X-Request-Id: mine\r\n"));
    const size_t at = heard[i].find("X-Shoal-Deadline-Ms: ");
    ASSERT_NE(at, std::string::npos);
    EXPECT_LE(std::stoll(heard[i].substr(at + 21)), 60'000 - 30 * static_cast<int64_t>(i));
  }
}

TEST(HttpClient, SaysWhyWhenAndHowOften) {
  ScriptedServer server([](int fd, size_t number, const std::string&) {
    Say(fd, number < 3 ? Busy("kv_full", 1)
                       : JsonResponse("400 Bad Request", R"({"error":{"message":"max_tokens"}})"));
  });
  HttpClientOptions options = Options(server);
  options.retry.attempts_max = 3;
  HttpClient client(options);
  const auto busy = ErrorOf(client, kRequest);
  ASSERT_TRUE(busy.has_value());
  EXPECT_EQ(busy->failure.code, "kv_full");
  EXPECT_EQ(busy->failure.retry_after_ms, 1);
  EXPECT_EQ(busy->failure.predicted_wait_ms, 77);
  EXPECT_EQ(busy->attempts, 3);
  EXPECT_EQ(busy->give_up, GiveUp::kAttempts);
  const auto wrong = ErrorOf(client, kRequest);
  ASSERT_TRUE(wrong.has_value());
  EXPECT_EQ(wrong->failure.status, 400);
  EXPECT_EQ(wrong->attempts, 1);
  EXPECT_THAT(wrong->what(), HasSubstr("max_tokens"));
}

TEST(HttpClient, HandsOnEventsAndTellsThatLessWasGiven) {
  ScriptedServer server([](int fd, size_t, const std::string&) {
    Say(fd, kStreamHead);
    Say(fd, Event("1", "a") + ": still here\n\n" + Event("2", "b"));
    Say(fd,
        "data: {\"choices\":[],\"x_shoal\":{\"degraded\":true,\"model_used\":\"tiny\","
        "\"rung\":1}}\n\ndata: [DONE]\n\n");
  });
  HttpClient client(Options(server));
  std::vector<std::string> events;
  const HttpAnswer answer = client.Generate(kStreamed, [&](std::string_view data) {
    events.emplace_back(data);
    return true;
  });
  EXPECT_EQ(events.size(), 3U);
  EXPECT_EQ(answer.text, "ab");
  EXPECT_EQ(answer.disclosure, (Disclosure{true, "tiny", 1, 0}));
  EXPECT_FALSE(answer.cancelled);
}

TEST(HttpClient, GoesOnWhereAStreamBroke) {
  ScriptedServer server([](int fd, size_t number, const std::string&) {
    if (number == 1) return Say(fd, Busy("no_group", 5'000));
    Say(fd, kStreamHead);
    if (number == 0) return Say(fd, Event("1", "a") + Event("2", "b") + "id: 3\ndata: {\"cho");
    if (number == 2) return;  // It dies again.
    Say(fd, Event("3", "c") + "data: [DONE]\n\n");
  });
  HttpClient client(Options(server));
  std::string text;
  const HttpAnswer answer = client.Generate(kStreamed, [&](std::string_view data) {
    text += TextOf(data);
    return true;
  });
  EXPECT_EQ(text, "abc");
  EXPECT_EQ(answer.text, "abc");
  EXPECT_EQ(answer.reconnects, 3);
  EXPECT_EQ(answer.attempts, 1);
  const std::vector<std::string> heard = server.requests();
  ASSERT_EQ(heard.size(), 4U);
  EXPECT_THAT(heard[0], Not(HasSubstr("Last-Event-ID")));
  EXPECT_THAT(heard[0], HasSubstr("X-Shoal-Resumable: 1\r\n"));
  for (size_t i = 1; i < 4; ++i) EXPECT_THAT(heard[i], HasSubstr("Last-Event-ID: 2\r\n"));
}

TEST(HttpClient, NeverAsksAgainForAnAnswerThatHasBegun) {
  ScriptedServer server([](int fd, size_t, const std::string&) {
    Say(fd, std::string(kStreamHead) + "data: {\"choices\":[{\"index\":0,\"text\":\"a\"}]}\n\n");
  });
  HttpClient client(Options(server));
  std::string text;
  const auto error = ErrorOf(client, kStreamed, [&](std::string_view data) {
    text += TextOf(data);
    return true;
  });
  ASSERT_TRUE(error.has_value());
  EXPECT_TRUE(error->failure.begun);
  EXPECT_EQ(error->give_up, GiveUp::kFinal);
  EXPECT_EQ(text, "a");
  EXPECT_EQ(server.requests().size(), 1U);
}

TEST(HttpClient, AsksAgainWhereAnErrorCameBeforeTheFirstToken) {
  ScriptedServer server([](int fd, size_t number, const std::string&) {
    Say(fd, kStreamHead);
    if (number == 0) {
      return Say(fd,
                 "data: {\"error\":{\"code\":\"group_lost\",\"message\":\"x\"}}\n\ndata: "
                 "[DONE]\n\n");
    }
    if (number == 1) return;  // Not a word.
    Say(fd, Event("1", "a") + "data: [DONE]\n\n");
  });
  HttpClient client(Options(server));
  const HttpAnswer answer = client.Generate(kStreamed, [](std::string_view) { return true; });
  EXPECT_EQ(answer.text, "a");
  EXPECT_EQ(answer.attempts, 3);
}

TEST(HttpClient, LosesItsPatienceWithASilentServer) {
  std::promise<void> over;
  const std::shared_future<void> is_over = over.get_future().share();
  ScriptedServer server([&](int, size_t, const std::string&) { is_over.wait(); });
  HttpClientOptions options = Options(server);
  options.idle_timeout_ms = 50;
  HttpClient client(options);
  const auto silent = ErrorOf(client, kRequest);
  ASSERT_TRUE(silent.has_value());
  EXPECT_TRUE(silent->failure.timed_out);
  EXPECT_EQ(silent->attempts, 1) << "the server may be at work still";
  HttpRequest large = kRequest;
  large.body = std::string(32 << 20, 'x');  // More than the kernel takes in.
  EXPECT_TRUE(ErrorOf(client, large)->failure.timed_out);
  // The request's own deadline ends the wait, a second after it.
  options.idle_timeout_ms = test::kPatienceMs;
  HttpClient patient(options);
  HttpRequest hurried = kRequest;
  hurried.deadline_ms = 1;
  EXPECT_TRUE(ErrorOf(patient, hurried)->failure.timed_out);
  over.set_value();
}

TEST(HttpClient, IsCancelledFromAnotherThreadWhateverItWaitsFor) {
  for (const bool between_attempts : {false, true}) {
    std::promise<void> asked;
    std::promise<void> over;
    ScriptedServer server([&](int fd, size_t, const std::string&) {
      if (between_attempts) Say(fd, Busy("queue_full", 50'000));
      asked.set_value();
      if (!between_attempts) over.get_future().wait();
    });
    HttpClient client(Options(server));
    const Cancel cancel;
    std::thread canceller([&] {
      asked.get_future().wait();
      cancel.Now();
    });
    EXPECT_TRUE(client.Generate(kRequest, nullptr, &cancel).cancelled);
    canceller.join();
    over.set_value();
    EXPECT_EQ(server.requests().size(), 1U);
  }
}

TEST(HttpClient, IsCancelledByItsReader) {
  ScriptedServer server([](int fd, size_t, const std::string&) {
    Say(fd, std::string(kStreamHead) + Event("1", "a") + Event("2", "b"));
  });
  HttpClient client(Options(server));
  const HttpAnswer answer = client.Generate(kStreamed, [](std::string_view) { return false; });
  EXPECT_TRUE(answer.cancelled);
  EXPECT_EQ(answer.text, "a");
}

TEST(HttpClient, RefusesWhatItCannotSend) {
  for (const char* url : {"", "https://x:1", "http://x", "x:y", "http://x:1/path", ":80"}) {
    EXPECT_THROW(HttpClient({.url = url}), std::invalid_argument) << url;
  }
  EXPECT_THROW(HttpClient({.api_key = "a\r\nb"}), std::invalid_argument);
  HttpClient client({.url = "http://127.0.0.1:1"});
  HttpRequest request = kRequest;
  request.session = "a\r\nX-Shoal-Class: critical_plus";
  EXPECT_THROW(client.Generate(request), std::invalid_argument);
}

TEST(HttpClient, SaysWhatIsNotThereOrNoHttp) {
  HttpClient nobody({.url = "http://127.0.0.1:1", .retry = {.attempts_max = 2, .base_ms = 1}});
  const auto refused = ErrorOf(nobody, kRequest);
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->failure.status, 0);
  EXPECT_EQ(refused->attempts, 2);
  EXPECT_THAT(refused->what(), HasSubstr("127.0.0.1:1: Connection refused"));
  ScriptedServer server([](int fd, size_t, const std::string&) { Say(fd, "SSH-2.0-x\r\n"); });
  HttpClient client(Options(server));
  const auto no_http = ErrorOf(client, kRequest);
  ASSERT_TRUE(no_http.has_value());
  EXPECT_THAT(no_http->what(), HasSubstr("expected 'HTTP/1.1 STATUS', found 'SSH-2.0-x'"));
  EXPECT_EQ(no_http->attempts, 1);
}

TEST(Batch, KeepsItsOrderItsBoundAndEachErrorApart) {
  constexpr size_t kAtOnce = 4;
  std::mutex mutex;
  std::condition_variable changed;
  size_t inside = 0;
  size_t most = 0;
  ScriptedServer server([&](int fd, size_t, const std::string& request) {
    std::unique_lock lock(mutex);
    most = std::max(most, ++inside);
    changed.notify_all();
    // Each waits until there have been as many as may be.
    changed.wait_for(lock, std::chrono::milliseconds(test::kPatienceMs),
                     [&] { return most >= kAtOnce; });
    --inside;
    const std::string body = request.substr(request.find("\r\n\r\n") + 4);
    const std::string prompt = ReadJsonString(FindJson(body, {"prompt"})).value_or("?");
    if (prompt == "p7") return Say(fd, JsonResponse("400 Bad Request", "{}"));
    Say(fd, JsonResponse("200 OK", "{\"choices\":[{\"text\":" + QuoteJson(prompt) + "}]}"));
  });
  HttpClient client(Options(server));
  std::vector<HttpRequest> requests;
  for (int i = 0; i < 40; ++i) {
    requests.push_back({.body = CompletionBody("p" + std::to_string(i), 8, false)});
  }
  requests[9].session = "\n";
  const std::vector<BatchItem> items = GenerateBatch(client, requests, kAtOnce);
  ASSERT_EQ(items.size(), 40U);
  for (size_t i = 0; i < items.size(); ++i) {
    EXPECT_EQ(items[i].error.has_value(), i == 7 || i == 9) << i;
    if (!items[i].error) {
      EXPECT_EQ(items[i].answer.text, "p" + std::to_string(i));
    }
  }
  EXPECT_EQ(items[7].error->failure.status, 400);
  EXPECT_THAT(items[9].error->what(), HasSubstr("session"));
  EXPECT_EQ(most, kAtOnce);
}

}  // namespace
}  // namespace shoal::client
