#pragma once

// One connection of an HttpClient: a request out, and its answer in, to the end or as far as it
// comes.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "transport/client/http_reader.h"
#include "transport/client/http_socket.h"
#include "transport/client/http_types.h"

namespace shoal::client {

// A request on however many connections, and what has come of it.
struct HttpAttempt {
  const HttpRequest& request;
  const std::function<bool(std::string_view data)>& on_event;
  const Cancel* cancel = nullptr;
  int64_t begun_ms = 0;  // The first of the attempts.
  int32_t number = 1;
  bool heard = false;    // Something of the answer was handed on.
  bool is_done = false;  // Its last event has come.
  std::string cursor{};  // Of the last event.
  HttpAnswer answer{};

  // When its client loses its patience, whatever the server does.
  int64_t end_ms() const {
    return request.deadline_ms > 0 ? begun_ms + request.deadline_ms + 1'000 : INT64_MAX;
  }
};

constexpr int32_t kAttemptMax = 1'000;  // A server of ours takes no higher number.

struct HttpHost {
  std::string host;  // IPv6 without brackets.
  std::string port;
};

class HttpExchange {
 public:
  // References outlive it.
  HttpExchange(const HttpClientOptions& options, const HttpHost& host)
      : options_(options), host_(host) {}

  // One connection, to the end of what the server says. Errors: HttpError.
  void Run(HttpAttempt& attempt) {
    HttpAnswer& answer = attempt.answer;
    HttpReader reader;
    EventReader events;
    std::string body;
    const auto take = [&](std::string_view bytes) {
      if (IsStream(reader.head())) {
        return events.Add(bytes, [&](const HttpEvent& event) { return Take(attempt, event); });
      }
      body += bytes;
      if (body.size() > options_.body_bytes_max) throw HttpFormatError("a body beyond the bound");
      return true;
    };
    try {
      const int64_t connect_until = SteadyNowMs() + options_.connect_timeout_ms;
      HttpSocket socket(host_.host, host_.port, std::min(connect_until, attempt.end_ms()),
                        attempt.cancel);
      const int64_t silence_ms = options_.idle_timeout_ms;
      // What takes no more may have said why.
      static_cast<void>(socket.Write(Head(attempt), silence_ms, attempt.end_ms()) &&
                        socket.Write(attempt.request.body, silence_ms, attempt.end_ms()));
      while (true) {
        const std::string_view bytes = socket.Read(silence_ms, attempt.end_ms());
        if (bytes.empty() && !reader.IsWholeAtClose()) {
          throw SocketError(Waited::kReady, "the server closed the connection");
        }
        if (bytes.empty() || !reader.Add(bytes, take)) break;
      }
    } catch (const SocketError& error) {
      if (error.waited == Waited::kCancelled) answer.cancelled = true;
      if (answer.cancelled || attempt.is_done) return;
      throw HttpError({.timed_out = error.waited == Waited::kTimedOut}, error.what());
    } catch (const HttpFormatError& error) {
      throw HttpError({.status = 502, .code = "refused"}, std::string("no HTTP: ") + error.what());
    }
    Finish(attempt, reader.head(), std::move(body));
  }

 private:
  static bool IsStream(const HttpHead& head) {
    return head.status == 200 && head.Get("content-type").starts_with("text/event-stream");
  }

  std::string Head(const HttpAttempt& attempt) const {
    const HttpRequest& request = attempt.request;
    std::string head = (request.body.empty() ? "GET " : "POST ") + request.path + " HTTP/1.1\r\n";
    const auto add = [&](std::string_view name, const std::string& value) {
      if (!value.empty()) head.append(name).append(": ").append(value).append("\r\n");
    };
    add("Host", host_.host.find(':') == host_.host.npos ? host_.host + ":" + host_.port
                                                        : "[" + host_.host + "]:" + host_.port);
    add("Connection", "close");
    if (!options_.api_key.empty()) add("Authorization", "Bearer " + options_.api_key);
    add("X-Request-Id", request.name);
    add("X-Shoal-Class", request.service_class);
    add("X-Shoal-Session", request.session);
    add("X-Shoal-Attempt",
        std::to_string(std::min(kAttemptMax, request.attempt + attempt.number - 1)));
    if (request.deadline_ms > 0) {
      const int64_t passed_ms = SteadyNowMs() - attempt.begun_ms;
      add("X-Shoal-Deadline-Ms",
          std::to_string(std::max<int64_t>(1, request.deadline_ms - passed_ms)));
    }
    if (attempt.on_event && options_.resume_timeout_ms > 0) add("X-Shoal-Resumable", "1");
    add("Last-Event-ID", attempt.cursor);
    if (!request.body.empty()) {
      add("Content-Type", "application/json");
      add("Content-Length", std::to_string(request.body.size()));
    }
    return head + "\r\n";
  }

  // Result: whether there is more to come.
  static bool Take(HttpAttempt& attempt, const HttpEvent& event) {
    if (event.data == "[DONE]") {
      attempt.is_done = true;
      return false;
    }
    if (FindJson(event.data, {"error"})) throw MakeHttpError(503, event.data);
    if (!event.id.empty()) attempt.cursor = event.id;
    attempt.heard = true;
    attempt.answer.text += TextOf(event.data);
    ReadDisclosure(event.data, attempt.answer.disclosure);
    if (attempt.on_event && !attempt.on_event(event.data)) attempt.answer.cancelled = true;
    return !attempt.answer.cancelled;
  }

  static void Finish(HttpAttempt& attempt, const HttpHead& head, std::string body) {
    HttpAnswer& answer = attempt.answer;
    answer.status = head.status;
    answer.headers = head.headers;
    if (answer.cancelled || attempt.is_done) return;
    if (head.status < 200 || head.status > 299) {
      throw MakeHttpError(head.status, body, head.Get("retry-after"));
    }
    if (IsStream(head)) {
      throw HttpError({}, "the server closed the connection before the stream's end");
    }
    answer.text = TextOf(body);
    ReadDisclosure(body, answer.disclosure);
    answer.body = std::move(body);
  }

  const HttpClientOptions& options_;
  const HttpHost& host_;
};

}  // namespace shoal::client
