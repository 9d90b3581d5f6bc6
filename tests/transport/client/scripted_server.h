#pragma once

// An HTTP server of a few lines: each connection brings one request, and a function of the test
// answers it in raw bytes.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace shoal::client {

inline void Say(int fd, std::string_view bytes) {
  // A client that has gone is what some tests are about.
  static_cast<void>(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL));
}

inline std::string JsonResponse(const std::string& status, const std::string& body,
                                const std::string& headers = "") {
  return "HTTP/1.1 " + status + "\r\nContent-Type: application/json\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

constexpr std::string_view kStreamHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n";

class ScriptedServer {
 public:
  // Each on a thread of its own; the connection is closed when it returns. `number`: from 0 on.
  using Answer = std::function<void(int fd, size_t number, const std::string& request)>;

  explicit ScriptedServer(Answer answer)
      : answer_(std::move(answer)), fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(bind(fd_, generic, size), 0);
    EXPECT_EQ(listen(fd_, 128), 0);
    EXPECT_EQ(getsockname(fd_, generic, &size), 0);
    url_ = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    accepting_ = std::thread([this] { Accept(); });
  }
  ~ScriptedServer() {
    shutdown(fd_, SHUT_RDWR);
    accepting_.join();
    close(fd_);
  }

  const std::string& url() const { return url_; }
  std::vector<std::string> requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void Accept() {
    std::vector<std::jthread> serving;
    for (int fd = 0; (fd = accept(fd_, nullptr, nullptr)) >= 0;) {
      serving.emplace_back([this, fd] { Serve(fd); });
    }
  }
  void Serve(int fd) {
    std::string request;
    char buffer[4096];
    while (!IsWhole(request)) {
      const ssize_t size = recv(fd, buffer, sizeof(buffer), 0);
      if (size <= 0) break;
      request.append(buffer, static_cast<size_t>(size));
    }
    size_t number = 0;
    {
      const std::lock_guard lock(mutex_);
      number = requests_.size();
      requests_.push_back(request);
    }
    answer_(fd, number, request);
    shutdown(fd, SHUT_RDWR);
    close(fd);
  }
  static bool IsWhole(const std::string& request) {
    const size_t head = request.find("\r\n\r\n");
    if (head == std::string::npos) return false;
    const size_t length = request.find("Content-Length: ");
    return length == std::string::npos ||
           request.size() >= head + 4 + std::stoul(request.substr(length + 16, 20));
  }

  const Answer answer_;
  const int fd_;
  std::string url_;
  std::mutex mutex_;  // Guards requests_.
  std::vector<std::string> requests_;
  std::thread accepting_;
};

}  // namespace shoal::client
