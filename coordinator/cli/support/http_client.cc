// Beast parses; every wait for the socket has a deadline of its own.

#include "coordinator/cli/support/http_client.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <optional>

#include "transport/base/clock.h"
#include "transport/base/error.h"

namespace shoal::cli {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;

constexpr int64_t kConnectMs = 10'000;
// Of a stream of events that has begun: the server sends something every 10 s.
constexpr int64_t kStreamSilenceMs = 30'000;
constexpr uint64_t kBodyBytesMax = 256 << 20;

using boost::system::error_code;

void Connect(asio::io_context& io, asio::ip::tcp::socket& socket, const HttpAddress& address,
             error_code& error) {
  asio::ip::tcp::resolver resolver(io);
  const auto found = resolver.resolve(address.host, address.port, error);
  if (error) return;
  error = asio::error::timed_out;
  asio::async_connect(socket, found,
                      [&](const error_code& outcome, const auto&) { error = outcome; });
  io.run_for(std::chrono::milliseconds(kConnectMs));
}

// What Beast reads from and writes to. The socket never blocks: the wait for it is here.
class BoundedStream {
 public:
  BoundedStream(asio::ip::tcp::socket& socket, int64_t silence_ms)
      : socket_(socket), silence_ms_(silence_ms) {}

  void SetSilence(int64_t milliseconds) { silence_ms_ = milliseconds; }

  template <typename Buffers>
  size_t read_some(const Buffers& buffers, error_code& error) {
    return Repeat(POLLIN, error, [&] { return socket_.read_some(buffers, error); });
  }
  template <typename Buffers>
  size_t write_some(const Buffers& buffers, error_code& error) {
    return Repeat(POLLOUT, error, [&] { return socket_.write_some(buffers, error); });
  }
  // Those that throw are part of what a stream is.
  template <typename Buffers>
  size_t read_some(const Buffers& buffers) {
    error_code error;
    const size_t size = read_some(buffers, error);
    if (error) throw boost::system::system_error(error);
    return size;
  }
  template <typename Buffers>
  size_t write_some(const Buffers& buffers) {
    error_code error;
    const size_t size = write_some(buffers, error);
    if (error) throw boost::system::system_error(error);
    return size;
  }

 private:
  template <typename Attempt>
  size_t Repeat(int16_t event, error_code& error, Attempt&& attempt) {
    const SteadyClock clock;
    const Deadline deadline = Deadline::After(clock, silence_ms_);
    while (true) {
      const size_t size = attempt();
      if (error != asio::error::would_block) return size;
      if (deadline.Passed(clock)) {
        error = asio::error::timed_out;
        return 0;
      }
      pollfd waited{.fd = socket_.native_handle(), .events = event, .revents = 0};
      // However it ends, the next attempt tells.
      static_cast<void>(poll(&waited, 1, static_cast<int>(deadline.RemainingMs(clock)) + 1));
    }
  }

  asio::ip::tcp::socket& socket_;
  int64_t silence_ms_;
};

struct Event {
  std::string id;
  std::string data;
};

// The server-sent events in a stream of bytes whose pieces may end anywhere. What has no blank line
// after it is no event yet.
class EventSplitter {
 public:
  // Result: false once `on_event` gave false.
  bool Add(std::string_view bytes, const std::function<bool(const Event&)>& on_event) {
    constexpr std::string_view kId = "id: ";
    constexpr std::string_view kData = "data: ";
    rest_ += bytes;
    for (size_t end = rest_.find('\n'); end != std::string::npos; end = rest_.find('\n')) {
      const std::string line = rest_.substr(0, end);
      rest_.erase(0, end + 1);
      if (line.starts_with(kId)) event_.id = line.substr(kId.size());
      if (line.starts_with(kData)) event_.data = line.substr(kData.size());
      if (!line.empty()) continue;
      const Event event = std::exchange(event_, {});
      if (!event.data.empty() && !on_event(event)) return false;
    }
    return true;
  }

 private:
  std::string rest_;
  Event event_;
};

constexpr int64_t kPauseMinMs = 50;
constexpr int64_t kPauseMaxMs = 500;

void Pause(int64_t milliseconds) {
  asio::io_context io;
  asio::steady_timer(io, std::chrono::milliseconds(milliseconds)).wait();
}

// The connection is lost, or there is none yet again.
bool MayComeBack(ErrorCode code) {
  return code == ErrorCode::kPeerLost || code == ErrorCode::kCannotJoin;
}

}  // namespace

HttpAddress ParseHttpUrl(const std::string& url) {
  constexpr std::string_view kScheme = "http://";
  std::string rest = url;
  if (rest.starts_with(kScheme)) rest.erase(0, kScheme.size());
  while (rest.ends_with('/')) rest.pop_back();
  const size_t colon = rest.rfind(':');
  const HttpAddress address = {rest.substr(0, colon),
                               colon == std::string::npos ? "80" : rest.substr(colon + 1)};
  const bool is_port =
      !address.port.empty() && address.port.find_first_not_of("0123456789") == std::string::npos;
  if (address.host.empty() || !is_port || rest.find('/') != std::string::npos) {
    Throw(ErrorCode::kInvalidArgument, "'", url, "': expected http://HOST:PORT");
  }
  return address;
}

HttpClient::HttpClient(const std::string& url, std::string api_key, int64_t silence_ms)
    : address_(ParseHttpUrl(url)), api_key_(std::move(api_key)), silence_ms_(silence_ms) {}

HttpAnswer HttpClient::Get(const std::string& path) const {
  return Exchange("GET", path, "", {}, {});
}

HttpAnswer HttpClient::Post(const std::string& path, const std::string& json) const {
  return Exchange("POST", path, json, {}, {});
}

HttpAnswer HttpClient::PostForEvents(const std::string& path, const std::string& json,
                                     const std::function<bool(std::string_view data)>& on_event,
                                     const ResumeOptions& resume) const {
  const SteadyClock clock;
  std::string cursor;  // Of the last event.
  std::optional<Deadline> deadline;
  int64_t pause_ms = kPauseMinMs;
  const auto take = [&](const Event& event) {
    if (!event.id.empty()) cursor = event.id;
    deadline.reset();
    return on_event(event.data);
  };
  while (true) {
    EventSplitter splitter;
    Headers headers;
    if (resume.timeout_ms > 0) headers.emplace_back("X-Shoal-Resumable", "1");
    if (!cursor.empty()) headers.emplace_back("Last-Event-ID", cursor);
    try {
      HttpAnswer answer = Exchange("POST", path, json, headers, [&](std::string_view bytes) {
        return splitter.Add(bytes, take);
      });
      const bool is_busy = answer.status == 503 && !cursor.empty();
      if (!is_busy || (deadline && deadline->Passed(clock))) return answer;
    } catch (const Error& error) {  // Passed on, unless it can be made good.
      if (cursor.empty() || !MayComeBack(error.code())) throw;
      if (deadline && deadline->Passed(clock)) throw;
      if (!deadline && resume.on_lost) resume.on_lost(error.what());
    }
    if (!deadline) {
      deadline = Deadline::After(clock, resume.timeout_ms);
      pause_ms = kPauseMinMs;
    }
    Pause(pause_ms);
    pause_ms = std::min(2 * pause_ms, kPauseMaxMs);
  }
}

HttpAnswer HttpClient::Exchange(const std::string& method, const std::string& path,
                                const std::string& json, const Headers& headers,
                                const std::function<bool(std::string_view bytes)>& on_bytes) const {
  asio::io_context io;
  asio::ip::tcp::socket socket(io);
  error_code error;
  Connect(io, socket, address_, error);
  if (!error) socket.non_blocking(true, error);
  if (error) {
    Throw(ErrorCode::kCannotJoin, "http://", address_.host, ":", address_.port, ": ",
          error.message(), "; is a coordinator running there?");
  }
  BoundedStream stream(socket, silence_ms_);

  http::request<http::string_body> request(method == "GET" ? http::verb::get : http::verb::post,
                                           path, 11);
  request.set(http::field::host, address_.host + ":" + address_.port);
  request.set(http::field::connection, "close");
  if (!api_key_.empty()) request.set(http::field::authorization, "Bearer " + api_key_);
  if (!json.empty()) request.set(http::field::content_type, "application/json");
  for (const auto& [name, value] : headers) request.set(name, value);
  request.body() = json;
  request.prepare_payload();

  HttpAnswer answer;
  boost::beast::flat_buffer buffer;
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(kBodyBytesMax);
  http::write(stream, request, error);
  if (!error) http::read_header(stream, buffer, parser, error);
  if (on_bytes) stream.SetSilence(std::min(silence_ms_, kStreamSilenceMs));
  answer.status = parser.get().result_int();
  bool go_on = true;
  while (!error && go_on && !parser.is_done()) {
    std::array<char, 4096> piece{};
    parser.get().body().data = piece.data();
    parser.get().body().size = piece.size();
    http::read_some(stream, buffer, parser, error);
    if (error == http::error::need_buffer) error = {};
    const std::string_view bytes(piece.data(), piece.size() - parser.get().body().size);
    if (on_bytes && answer.status == 200) {
      go_on = on_bytes(bytes);
    } else {
      answer.body += bytes;
    }
  }
  if (error) {
    Throw(ErrorCode::kPeerLost, "http://", address_.host, ":", address_.port, path, ": ",
          error.message());
  }
  return answer;
}

}  // namespace shoal::cli
