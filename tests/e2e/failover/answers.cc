// The clients: what comes in whatever pieces is put together to one text.

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "tests/e2e/failover/asks.h"
#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::test {
namespace {

using nlohmann::json;

// A stream that brings nothing for so long counts as lost.
constexpr int64_t kSilenceMs = 120'000;

// Logprobs as bits.
json Bits(const std::vector<TokenLogprobs>& list) {
  json out = json::array();
  for (const TokenLogprobs& entry : list) {
    json top = json::array();
    for (const auto& [token, value] : entry.top) {
      top.push_back({token, std::bit_cast<uint32_t>(value)});
    }
    out.push_back({std::bit_cast<uint32_t>(entry.logprob), std::move(top)});
  }
  return out;
}

Answer GetOverRpc(const Door& door, const Ask& ask) {
  Answer answer;
  SequenceUpdate all;
  std::string text;
  const auto take = [&](const rpc::GenerateChunk& chunk) {
    const SequenceUpdate& update = chunk.update;
    all.tokens.insert(all.tokens.end(), update.tokens.begin(), update.tokens.end());
    all.logprobs.insert(all.logprobs.end(), update.logprobs.begin(), update.logprobs.end());
    all.prompt_logprobs.insert(all.prompt_logprobs.end(), update.prompt_logprobs.begin(),
                               update.prompt_logprobs.end());
    answer.resumes += update.resumes;
    text += chunk.text;
    return true;
  };
  try {
    rpc::Client client({.address = door.rpc_address});
    const rpc::GenerateResult result = client.Generate(ask.request, take, kSilenceMs);
    answer.bytes = json{{"tokens", all.tokens},
                        {"logprobs", Bits(all.logprobs)},
                        {"prompt_logprobs", Bits(all.prompt_logprobs)},
                        {"text", text},
                        {"finish", ToString(result.finish)},
                        {"detail", result.detail},
                        {"prompt_tokens", result.prompt_tokens},
                        {"completion_tokens", result.completion_tokens}}
                       .dump();
  } catch (const Error& error) {  // What the test counts.
    answer.error = error.what();
  }
  return answer;
}

class Socket {
 public:
  explicit Socket(uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval silence{.tv_sec = kSilenceMs / 1000, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0) {
      Throw(ErrorCode::kFailed, "connect: ", strerror(errno));
    }
  }
  ~Socket() { close(fd_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  void Send(const std::string& bytes) {
    size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t count = send(fd_, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
      if (count < 0) Throw(ErrorCode::kFailed, "send: ", strerror(errno));
      done += static_cast<size_t>(count);
    }
  }

  std::string ReceiveAll() {
    std::string bytes;
    char buffer[16384];
    while (true) {
      const ssize_t count = recv(fd_, buffer, sizeof(buffer), 0);
      if (count == 0) return bytes;
      if (count < 0) Throw(ErrorCode::kFailed, "recv: ", strerror(errno), " after ", bytes);
      bytes.append(buffer, static_cast<size_t>(count));
    }
  }

 private:
  const int fd_;
};

// The body of a message whose length is given or that comes in chunks.
std::string BodyOf(const std::string& message) {
  const size_t end = message.find("\r\n\r\n");
  if (end == std::string::npos) Throw(ErrorCode::kFailed, "no HTTP answer: ", message);
  std::string head = message.substr(0, end);
  std::ranges::transform(head, head.begin(), [](unsigned char c) { return std::tolower(c); });
  if (head.find("transfer-encoding: chunked") == std::string::npos) return message.substr(end + 4);
  std::string body;
  for (size_t at = end + 4; at < message.size();) {
    const size_t line = message.find("\r\n", at);
    if (line == std::string::npos) break;
    const size_t size = std::stoul(message.substr(at, line - at), nullptr, 16);
    if (size == 0) return body;
    body += message.substr(line + 2, size);
    at = line + 2 + size + 2;
  }
  Throw(ErrorCode::kFailed, "an HTTP answer was cut short: ", message);
}

// Lists grow, texts grow, what is set stays: one choice out of its pieces.
void Merge(json& into, const json& piece) {
  for (const auto& [key, value] : piece.items()) {
    json& place = into[key];
    if (value.is_null()) continue;
    if (place.is_null()) {
      place = value;
    } else if (value.is_string() && place.is_string()) {
      if (key != "role") place = place.get<std::string>() + value.get<std::string>();
    } else if (value.is_array()) {
      place.insert(place.end(), value.begin(), value.end());
    } else if (value.is_object()) {
      Merge(place, value);
    } else {
      place = value;
    }
  }
}

class HttpAnswer {
 public:
  explicit HttpAnswer(Answer& answer) : answer_(answer) {}

  void TakeBody(const json& body) {
    if (body.contains("error")) answer_.error = body["error"].dump();
    TakeRest(body);
    for (const json& choice : body.value("choices", json::array())) {
      choices_[choice["index"].get<int64_t>()] = choice;
    }
  }

  void TakeEvents(const std::string& events) {
    bool done = false;
    for (size_t at = 0; at < events.size();) {
      const size_t end = std::min(events.find('\n', at), events.size());
      std::string line = events.substr(at, end - at);
      at = end + 1;
      if (!line.starts_with("data: ")) continue;
      line = line.substr(6);
      done = line == "[DONE]";
      if (!done) TakeEvent(json::parse(line));
    }
    if (!done && answer_.error.empty()) answer_.error = "the stream has no end: " + events;
  }

  void Finish() {
    json all = {{"usage", usage_}, {"choices", json::array()}};
    // What the cache held differs from run to run.
    if (usage_.is_object()) all["usage"].erase("prompt_tokens_details");
    for (const auto& [index, choice] : choices_) all["choices"].push_back(choice);
    answer_.bytes = all.dump();
  }

 private:
  void TakeEvent(const json& event) {
    if (event.contains("error")) answer_.error = event["error"].dump();
    TakeRest(event);
    for (const json& choice : event.value("choices", json::array())) {
      const int64_t index = choice["index"].get<int64_t>();
      json piece = choice;
      piece.erase("index");
      Merge(choices_[index], piece);
    }
  }

  void TakeRest(const json& from) {
    if (from.contains("usage") && from["usage"].is_object()) usage_ = from["usage"];
    if (from.contains("x_shoal")) answer_.resumes += from["x_shoal"].value("resumes", int64_t{0});
  }

  Answer& answer_;
  json usage_;
  std::map<int64_t, json> choices_;
};

Answer GetOverHttp(const Door& door, const Ask& ask) {
  Answer answer;
  try {
    Socket socket(door.port);
    socket.Send(Str("POST ", ask.path, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n",
                    "Content-Type: application/json\r\nContent-Length: ", ask.body.size(),
                    "\r\n\r\n", ask.body));
    const std::string message = socket.ReceiveAll();
    const std::string body = BodyOf(message);
    HttpAnswer parts(answer);
    if (ask.streamed && message.starts_with("HTTP/1.1 200")) {
      parts.TakeEvents(body);
    } else {
      parts.TakeBody(json::parse(body));
    }
    parts.Finish();
  } catch (const std::exception& error) {  // What the test counts.
    answer.error = error.what();
  }
  return answer;
}

}  // namespace

Answer Get(const Door& door, const Ask& ask) {
  return ask.path.empty() ? GetOverRpc(door, ask) : GetOverHttp(door, ask);
}

}  // namespace shoal::test
