#include "tests/e2e/failover/http_answer.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "transport/base/clock.h"
#include "transport/base/error.h"

namespace shoal::test {
namespace {

using nlohmann::json;

class Socket {
 public:
  explicit Socket(uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval silence{.tv_sec = kSilenceMs / 1000, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0;
  }
  ~Socket() { close(fd_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  // All that comes until the other side closes, or its process dies.
  std::string Exchange(const std::string& bytes) {
    std::string received;
    size_t done = 0;
    while (connected_ && done < bytes.size()) {
      const ssize_t count = send(fd_, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
      if (count < 0) return received;
      done += static_cast<size_t>(count);
    }
    char buffer[16384];
    while (connected_) {
      const ssize_t count = recv(fd_, buffer, sizeof(buffer), 0);
      if (count <= 0) break;
      received.append(buffer, static_cast<size_t>(count));
    }
    return received;
  }

 private:
  const int fd_;
  bool connected_ = false;
};

struct Message {
  int status = 0;  // 0: not even a head came.
  std::string body;
  bool whole = false;
};

Message Parse(const std::string& bytes) {
  Message message;
  const size_t end = bytes.find("\r\n\r\n");
  if (end == std::string::npos) return message;
  std::string head = bytes.substr(0, end);
  std::ranges::transform(head, head.begin(), [](unsigned char c) { return std::tolower(c); });
  message.status = std::stoi(head.substr(head.find(' ')));
  if (head.find("transfer-encoding: chunked") == std::string::npos) {
    message.body = bytes.substr(end + 4);
    const size_t length = head.find("content-length: ");
    message.whole =
        length == std::string::npos || message.body.size() == std::stoul(head.substr(length + 16));
    return message;
  }
  for (size_t at = end + 4; at < bytes.size();) {
    const size_t line = bytes.find("\r\n", at);
    if (line == std::string::npos) break;
    const size_t size = std::stoul(bytes.substr(at, line - at), nullptr, 16);
    message.whole = size == 0;
    if (size == 0) break;
    message.body += bytes.substr(line + 2, size);
    at = line + 2 + size + 2;
  }
  return message;
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

class Parts {
 public:
  const std::string& cursor() const { return cursor_; }
  bool done() const { return done_; }

  void TakeBody(const json& body) {
    TakeRest(body);
    for (const json& choice : body.value("choices", json::array())) {
      choices_[choice["index"].get<int64_t>()] = choice;
    }
    done_ = true;
  }

  // Those events that came whole.
  void TakeEvents(const std::string& body) {
    size_t at = 0;
    for (size_t end = body.find("\n\n"); end != std::string::npos; end = body.find("\n\n", at)) {
      TakeLines(body.substr(at, end - at));
      at = end + 2;
    }
  }

  Answer Finish() {
    json all = {{"usage", usage_}, {"choices", json::array()}};
    // What the cache held differs from run to run.
    if (usage_.is_object()) all["usage"].erase("prompt_tokens_details");
    for (const auto& [index, choice] : choices_) all["choices"].push_back(choice);
    answer_.bytes = all.dump();
    return answer_;
  }

  Answer Fail(std::string why) {
    answer_.error = std::move(why);
    return answer_;
  }

 private:
  void TakeLines(const std::string& event) {
    std::string id;
    for (size_t at = 0; at < event.size();) {
      const size_t end = std::min(event.find('\n', at), event.size());
      const std::string line = event.substr(at, end - at);
      at = end + 1;
      if (line.starts_with("id: ")) id = line.substr(4);
      if (!line.starts_with("data: ")) continue;
      if (line == "data: [DONE]") {
        done_ = true;
      } else {
        TakeEvent(json::parse(line.substr(6)));
      }
    }
    if (!id.empty()) cursor_ = id;
  }

  void TakeEvent(const json& event) {
    TakeRest(event);
    for (const json& choice : event.value("choices", json::array())) {
      json piece = choice;
      piece.erase("index");
      Merge(choices_[choice["index"].get<int64_t>()], piece);
    }
  }

  void TakeRest(const json& from) {
    if (from.contains("error")) answer_.error = from["error"].dump();
    if (from.contains("usage") && from["usage"].is_object()) usage_ = from["usage"];
    if (!from.contains("x_shoal")) return;
    answer_.resumes = std::max(answer_.resumes, from["x_shoal"].value("resumes", int64_t{0}));
  }

  Answer answer_;
  bool done_ = false;
  std::string cursor_;
  json usage_;
  std::map<int64_t, json> choices_;
};

std::string RequestBytes(const Ask& ask, const std::string& cursor) {
  return Str("POST ", ask.path, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n",
             ask.resumable ? "X-Shoal-Resumable: 1\r\n" : "",
             cursor.empty() ? "" : Str("Last-Event-ID: ", cursor, "\r\n"),
             "Content-Type: application/json\r\nContent-Length: ", ask.body.size(), "\r\n\r\n",
             ask.body);
}

// Whether asking again, with the cursor, may still bring the answer.
bool MayResume(const Ask& ask, const Message& message) {
  if (!ask.resumable) return false;
  return message.status == 0 || message.status == 503 || !message.whole;
}

}  // namespace

Answer GetOverHttp(uint16_t port, const Ask& ask) {
  const SteadyClock clock;
  const Deadline deadline = Deadline::After(clock, kSilenceMs);
  Parts parts;
  try {
    while (true) {
      const Message message = Parse(Socket(port).Exchange(RequestBytes(ask, parts.cursor())));
      if (message.status == 200 && ask.streamed) {
        parts.TakeEvents(message.body);
      } else if (message.status == 200 && message.whole) {
        parts.TakeBody(json::parse(message.body));
      }
      if (parts.done()) return parts.Finish();
      if (!MayResume(ask, message) || deadline.Passed(clock)) {
        return parts.Fail(Str(message.status, ", cursor '", parts.cursor(), "': ", message.body));
      }
      poll(nullptr, 0, kRetryMs);
    }
  } catch (const std::exception& error) {  // What the test counts.
    return parts.Fail(error.what());
  }
}

}  // namespace shoal::test
