#include "coordinator/cli/bench/router/haproxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "coordinator/cli/support/programs.h"
#include "transport/base/check.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"

namespace shoal::cli {
namespace {

constexpr int64_t kHaproxyVersionMs = 10'000;
constexpr int64_t kProxyListenMs = 10'000;
constexpr int64_t kProxyPollMs = 20;
constexpr const char* kProxyHost = "127.0.0.1";
// Debian's is in sbin, which is not in everybody's PATH.
constexpr const char* kProgram = "haproxy";
constexpr const char* kDebianProgram = "/usr/sbin/haproxy";

std::string HaproxyProgram() {
  return access(kDebianProgram, X_OK) == 0 ? kDebianProgram : kProgram;
}

// A port that was free a moment ago: HAProxy takes no 0 that it would tell of.
uint16_t FreePort() {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const place = reinterpret_cast<sockaddr*>(&address);
  const bool found =
      listener >= 0 && bind(listener, place, size) == 0 && getsockname(listener, place, &size) == 0;
  if (listener >= 0) close(listener);
  if (!found) Throw(ErrorCode::kFailed, "no free port on ", kProxyHost);
  return ntohs(address.sin_port);
}

}  // namespace

const char* const kHaproxyMissing =
    "HAProxy is not installed, so nothing is measured beside it: apt-get install -y haproxy";

std::optional<std::string> FindHaproxy() {
  try {
    const ProgramOutput output = RunProgram({HaproxyProgram(), "-v"}, kHaproxyVersionMs);
    if (output.status != 0 || output.lines.empty()) return std::nullopt;
    return output.lines.front();
  } catch (const Error&) {  // It is not there.
    return std::nullopt;
  }
}

std::string InstantAnswer() {
  return "data: {\"id\":\"cmpl-0\",\"object\":\"text_completion\",\"created\":0,\"model\":\"none\","
         "\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":\"length\"}]}\n\n"
         "data: {\"id\":\"cmpl-0\",\"object\":\"text_completion\",\"created\":0,\"model\":\"none\","
         "\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":1,"
         "\"total_tokens\":9}}\n\ndata: [DONE]\n\n";
}

std::unique_ptr<Haproxy> Haproxy::InFrontOf(const HttpAddress& server) {
  return std::unique_ptr<Haproxy>(new Haproxy(
      Str("  default_backend servers\nbackend servers\n  http-reuse always\n  server one ",
          server.host, ":", server.port, "\n"),
      ""));
}

std::unique_ptr<Haproxy> Haproxy::Answering() {
  return std::unique_ptr<Haproxy>(new Haproxy("", InstantAnswer()));
}

Haproxy::Haproxy(const std::string& frontend, const std::string& answer)
    : address_{kProxyHost, std::to_string(FreePort())} {
  std::string rules = frontend;
  if (!answer.empty()) {
    rules = Str("  http-request return status 200 content-type text/event-stream file ",
                scratch_.Write("answer", answer), "\n");
  }
  const std::string text = Str(
      "global\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n"
      "  timeout server 60s\nfrontend front\n  bind ",
      address_.host, ":", address_.port, "\n", rules);
  const std::string path = scratch_.Write("haproxy.cfg", text);
  child_ = std::make_unique<launch::ChildProcess>(
      launch::ChildOptions{.command = {HaproxyProgram(), "-db", "-f", path}});
  const HttpClient client("http://" + address_.host + ":" + address_.port);
  const SteadyClock clock;
  const Deadline deadline = Deadline::After(clock, kProxyListenMs);
  while (true) {
    try {
      client.Get("/livez");
      return;
    } catch (const Error& error) {  // It does not listen yet.
      if (child_->WaitFor(kProxyPollMs) || deadline.Passed(clock)) {
        Throw(ErrorCode::kFailed, "HAProxy does not listen at ", address_.host, ":", address_.port,
              ": ", error.what());
      }
    }
  }
}

}  // namespace shoal::cli
