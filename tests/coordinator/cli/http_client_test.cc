// A client whose server goes silent.

#include "coordinator/cli/support/http_client.h"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "transport/base/error.h"

namespace shoal::cli {
namespace {

// Takes connections; the kernel does, nobody reads.
class SilentServer {
 public:
  SilentServer() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(bind(fd_, generic, size), 0);
    EXPECT_EQ(listen(fd_, 16), 0);
    EXPECT_EQ(getsockname(fd_, generic, &size), 0);
    port_ = ntohs(address.sin_port);
  }
  ~SilentServer() { close(fd_); }

  int fd() const { return fd_; }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

 private:
  const int fd_;
  int port_ = 0;
};

template <typename Body>
std::optional<ErrorCode> CodeOf(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.code();
  }
  return std::nullopt;
}

TEST(HttpClient, LosesAServerThatNeverAnswers) {
  const SilentServer server;
  const HttpClient client(server.url(), "", /*silence_ms=*/50);
  EXPECT_EQ(CodeOf([&] { client.Get("/livez"); }), ErrorCode::kPeerLost);
  EXPECT_EQ(CodeOf([&] { client.Post("/x", std::string(32 << 20, 'x')); }), ErrorCode::kPeerLost)
      << "a request that it does not read";
}

TEST(HttpClient, LosesAStreamThatGoesSilentAndTriesToResumeIt) {
  const SilentServer server;
  int connection = -1;
  std::thread begins([&] {
    connection = accept(server.fd(), nullptr, nullptr);
    constexpr std::string_view kBegin =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nid: 1\ndata: a\n\n";
    EXPECT_EQ(write(connection, kBegin.data(), kBegin.size()), static_cast<ssize_t>(kBegin.size()));
  });
  const HttpClient client(server.url(), "", /*silence_ms=*/200);
  std::string taken;
  int losses = 0;
  EXPECT_EQ(CodeOf([&] {
              client.PostForEvents(
                  "/x", "{}",
                  [&](std::string_view data) {
                    taken += data;
                    return true;
                  },
                  {.timeout_ms = 100, .on_lost = [&](const std::string&) { ++losses; }});
            }),
            ErrorCode::kPeerLost);
  EXPECT_EQ(taken, "a");
  EXPECT_EQ(losses, 1);
  begins.join();
  close(connection);
}

}  // namespace
}  // namespace shoal::cli
