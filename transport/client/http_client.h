#pragma once

// For programs that speak HTTP with a coordinator: ask for a generation, read its events as they
// come, ask again as the policy says, go on where a connection broke. With the headers beside it,
// all that is needed is POSIX and the standard library. No TLS.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "transport/client/http_exchange.h"
#include "transport/client/http_socket.h"
#include "transport/client/http_types.h"
#include "transport/client/retry_guard.h"

namespace shoal::client {

// Thread-safe: each call has a connection of its own; throttle and retry budget are shared.
class HttpClient {
 public:
  // Called with the data of each event but the last, "[DONE]"; false ends the generation.
  using OnEvent = std::function<bool(std::string_view data)>;

  // Errors: std::invalid_argument if the URL or the key cannot be used.
  explicit HttpClient(HttpClientOptions options)
      : options_(std::move(options)), guard_(options_.retry, options_.retry_draw) {
    std::string rest = options_.url;
    if (rest.starts_with("http://")) rest.erase(0, 7);
    while (rest.ends_with('/')) rest.pop_back();
    const size_t colon = rest.rfind(':');
    std::string& host = host_.host = rest.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    if (colon != rest.npos) host_.port = rest.substr(colon + 1);
    const bool is_port =
        !host_.port.empty() && host_.port.find_first_not_of("0123456789") == rest.npos;
    if (host.empty() || !is_port || rest.find('/') != rest.npos) {
      throw std::invalid_argument("'" + options_.url + "': expected http://HOST:PORT (no TLS)");
    }
    CheckHeader("api_key", options_.api_key);
  }

  // Asks until it is answered or the policy gives up. A stream of events goes to `on_event`, each
  // once, whatever breaks on the way; the rest of the answer is returned. What `cancel` breaks off
  // returns with `cancelled`. Errors: HttpError; std::invalid_argument for terms that no header
  // holds; what `on_event` throws.
  HttpAnswer Generate(const HttpRequest& request, const OnEvent& on_event = nullptr,
                      const Cancel* cancel = nullptr) {
    CheckHeader("name", request.name);
    CheckHeader("service_class", request.service_class);
    CheckHeader("session", request.session);
    CheckHeader("path", request.path);
    const int64_t begun_ms = SteadyNowMs();
    RetryState state{.deadline_ms = request.deadline_ms};
    while (true) {
      HttpAttempt attempt{request, on_event, cancel, begun_ms};
      attempt.number = state.attempt;
      attempt.answer.attempts = state.attempt;
      try {
        Ask(attempt);
        return std::move(attempt.answer);
      } catch (HttpError& error) {  // Passed on, unless it can be made good.
        state.elapsed_ms = SteadyNowMs() - begun_ms;
        const RetryDecision decision = guard_.OnFailure(state, error.failure);
        error.attempts = state.attempt;
        error.give_up = decision.give_up;
        if (decision.give_up != GiveUp::kNone) throw;
        if (!Pause(attempt, decision.wait_ms)) return std::move(attempt.answer);
        ++state.attempt;
      }
    }
  }

 private:
  static void CheckHeader(const char* what, const std::string& value) {
    const bool is_bad = std::ranges::any_of(
        value, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
    if (is_bad) {
      throw std::invalid_argument(std::string(what) + ": expected no control characters, " +
                                  "they would end the header");
    }
  }

  // Result: false if it was cancelled meanwhile.
  static bool Pause(HttpAttempt& attempt, int64_t wait_ms) {
    const bool cancelled =
        WaitFor(-1, 0, SteadyNowMs() + wait_ms, attempt.cancel) == Waited::kCancelled;
    attempt.answer.cancelled |= cancelled;
    return !cancelled;
  }

  void Ask(HttpAttempt& attempt) {
    if (!guard_.MaySend(attempt.number, SteadyNowMs())) {
      throw HttpError(RetryGuard::Throttled(),
                      "client_throttled: the server refuses most of what this client asks for, and "
                      "was not asked: send less, or later");
    }
    try {
      AskServer(attempt);
    } catch (HttpError& error) {
      error.failure.begun = attempt.heard;
      if (attempt.heard || !RetryGuard::IsBusy(error.failure)) guard_.OnAccepted(SteadyNowMs());
      throw;
    }
    guard_.OnAccepted(SteadyNowMs());
  }

  // Once, and on as long as what was begun can be gone on with.
  void AskServer(HttpAttempt& attempt) {
    constexpr int64_t kPauseMinMs = 50;
    constexpr int64_t kPauseMaxMs = 500;
    int64_t pause_ms = kPauseMinMs;
    std::optional<int64_t> lost_ms;
    while (true) {
      const std::string before = attempt.cursor;
      try {
        return HttpExchange(options_, host_).Run(attempt);
      } catch (const HttpError& error) {  // Passed on, unless it can be made good.
        if (attempt.cursor.empty() || options_.resume_timeout_ms <= 0) throw;
        Failure failure = error.failure;
        failure.begun = failure.timed_out = false;  // A cursor makes both safe.
        if (!IsRetriable(failure) || SteadyNowMs() >= attempt.end_ms()) throw;
        if (attempt.cursor != before || !lost_ms) {
          lost_ms = SteadyNowMs();
          pause_ms = kPauseMinMs;
        }
        if (SteadyNowMs() - *lost_ms >= options_.resume_timeout_ms) throw;
        if (!Pause(attempt, pause_ms)) return;
        pause_ms = std::min(2 * pause_ms, kPauseMaxMs);
        ++attempt.answer.reconnects;
      }
    }
  }

  const HttpClientOptions options_;
  HttpHost host_;
  RetryGuard guard_;
};

}  // namespace shoal::client
