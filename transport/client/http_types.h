#pragma once

// What a program says to HttpClient, and what it hears. Standard library only.

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "transport/client/json_scan.h"
#include "transport/client/retry_policy.h"

namespace shoal::client {

struct HttpClientOptions {
  std::string url = "http://127.0.0.1:8000";  // http://HOST:PORT; no TLS: put a proxy before it.
  std::string api_key{};                      // Empty if the server has no keys.
  int64_t connect_timeout_ms = 10'000;
  int64_t idle_timeout_ms = 60'000;  // The longest wait for the server's next byte.
  // How long a streamed answer whose connection is lost tries to go on over another one, counted
  // from when it last got on. 0: not at all.
  int64_t resume_timeout_ms = 30'000;
  size_t body_bytes_max = 256 << 20;
  RetryOptions retry{};
  // As RetryGuard's.
  std::function<double()> retry_draw = nullptr;
};

struct HttpRequest {
  std::string path = "/v1/completions";
  std::string body{};  // JSON. Empty: it is a GET.
  // Terms, as the headers X-Request-Id, X-Shoal-Class, -Session, -Deadline-Ms, -Attempt; empty or
  // 0: not said. The client counts attempts on from `attempt`, and takes what time has passed off
  // the deadline; its own waits end a second after it.
  std::string name{};
  std::string service_class{};
  std::string session{};
  int64_t deadline_ms = 0;
  int32_t attempt = 1;
};

// What the answer says of how it came to be: `x_shoal` in it.
struct Disclosure {
  bool degraded = false;     // Less than was asked for:
  std::string model_used{};  // by this model,
  int64_t rung = -1;         // on this rung of the server's ladder. -1: it does not say.
  int64_t resumes = 0;       // Groups that went on with it.

  bool operator==(const Disclosure&) const = default;
};

struct HttpAnswer {
  int32_t status = 0;
  std::vector<std::pair<std::string, std::string>> headers{};  // Names in lower case.
  std::string body{};                                          // Empty if it came as events.
  std::string text{};  // Of the first choice, events joined.
  Disclosure disclosure{};
  bool cancelled = false;  // By on_event, or by the Cancel.
  int32_t attempts = 1;    // How often it was asked for, before it was taken.
  int32_t reconnects = 0;  // How often this client came back for the rest.
};

// Anything else than an answer with a status from 200 to 299.
struct HttpError : std::runtime_error {
  HttpError(Failure failed, const std::string& message)
      : std::runtime_error(message), failure(std::move(failed)) {}

  Failure failure;  // Status, code, when to come back, the predicted wait.
  int32_t attempts = 1;
  GiveUp give_up = GiveUp::kNone;  // Why it was not asked again.
};

// The text that an event, or a whole body, has for the first choice; empty if none.
inline std::string TextOf(std::string_view json) {
  if (ReadJsonInt(FindJson(json, {"choices", "0", "index"})).value_or(0) != 0) return {};
  for (const auto& path : {FindJson(json, {"choices", "0", "text"}),
                           FindJson(json, {"choices", "0", "delta", "content"}),
                           FindJson(json, {"choices", "0", "message", "content"})}) {
    if (const auto text = ReadJsonString(path)) return *text;
  }
  return {};
}

inline void ReadDisclosure(std::string_view json, Disclosure& disclosure) {
  if (!FindJson(json, {"x_shoal"})) return;
  if (FindJson(json, {"x_shoal", "degraded"}) == "true") disclosure.degraded = true;
  if (const auto model = ReadJsonString(FindJson(json, {"x_shoal", "model_used"}))) {
    disclosure.model_used = *model;
  }
  if (const auto rung = ReadJsonInt(FindJson(json, {"x_shoal", "rung"}))) disclosure.rung = *rung;
  if (const auto resumes = ReadJsonInt(FindJson(json, {"x_shoal", "resumes"}))) {
    disclosure.resumes = *resumes;
  }
}

// `json`: a body or an event with an error object. `retry_after`: the header, whole seconds; the
// object's milliseconds win.
inline HttpError MakeHttpError(int32_t status, std::string_view json,
                               const std::string& retry_after = {}) {
  Failure failure{.status = status};
  failure.code = ReadJsonString(FindJson(json, {"error", "code"})).value_or("");
  if (const auto seconds = ReadJsonInt(retry_after); seconds && *seconds > 0) {
    failure.retry_after_ms = std::min(*seconds, kWaitMsMax / 1'000) * 1'000;
  }
  const auto said_ms = ReadJsonInt(FindJson(json, {"error", "retry_after_ms"}));
  if (said_ms && *said_ms >= 0) failure.retry_after_ms = *said_ms;
  failure.predicted_wait_ms =
      ReadJsonInt(FindJson(json, {"error", "predicted_wait_ms"})).value_or(-1);
  const std::string message = ReadJsonString(FindJson(json, {"error", "message"}))
                                  .value_or(std::string(json.substr(0, 200)));
  const std::string code = failure.code.empty() ? "" : " (" + failure.code + ")";
  return {failure, "HTTP " + std::to_string(status) + code + ": " + message};
}

// Bodies for the two endpoints, of one prompt; `more`: further fields, such as
// R"(,"temperature":0)".
inline std::string CompletionBody(std::string_view prompt, int64_t max_tokens, bool stream,
                                  std::string_view more = {}) {
  return "{\"prompt\":" + QuoteJson(prompt) + ",\"max_tokens\":" + std::to_string(max_tokens) +
         (stream ? ",\"stream\":true" : "") + std::string(more) + "}";
}
inline std::string ChatBody(std::string_view user, int64_t max_tokens, bool stream,
                            std::string_view more = {}) {
  return "{\"messages\":[{\"role\":\"user\",\"content\":" + QuoteJson(user) +
         "}],\"max_tokens\":" + std::to_string(max_tokens) + (stream ? ",\"stream\":true" : "") +
         std::string(more) + "}";
}

}  // namespace shoal::client
