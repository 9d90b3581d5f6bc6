// One coroutine for each call under way, all on one thread: the clients share the machine with the
// server and must cost it little, so connections are kept and used again.

#include "coordinator/cli/bench/overload/clients.h"

#include <utility>  // Before Asio, which uses std::exchange without it.

#include <algorithm>
#include <array>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "coordinator/cli/bench/load/event_reader.h"
#include "coordinator/cli/bench/load/load.h"
#include "coordinator/cli/bench/overload/retries.h"
#include "transport/base/error.h"

namespace shoal::cli {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Json = nlohmann::ordered_json;
using Parser = http::response_parser<http::buffer_body>;

constexpr size_t kErrorBytesMax = 1 << 16;
constexpr uint64_t kAnswerBytesMax = uint64_t{1} << 30;
constexpr size_t kIdleMax = 256;  // Connections that are kept for the next attempts.
constexpr auto kTurn = std::chrono::milliseconds(100);

struct Attempt {
  bool heard = false;     // A byte of an answer came.
  bool admitted = false;  // Status 200.
  bool refused = false;   // Status 429 or 503.
  bool degraded = false;
  int64_t retry_after_ms = -1;
  TimeNs first_token = 0;  // On the clock; 0: none came.
  TimeNs end = 0;
  std::string outcome = kBrokeOff;
};

std::chrono::steady_clock::time_point TimePoint(TimeNs at) {
  return std::chrono::steady_clock::time_point(std::chrono::nanoseconds(at));
}

void ReadRefusal(const std::string& body, Attempt& attempt) {
  const Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  const auto error = json.is_object() ? json.find("error") : json.end();
  attempt.outcome = kUntyped;
  if (!json.is_object() || error == json.end() || !error->is_object()) return;
  const auto code = error->find("code");
  if (code != error->end() && code->is_string()) attempt.outcome = code->get<std::string>();
  const auto wait = error->find("retry_after_ms");
  if (wait != error->end() && wait->is_number()) attempt.retry_after_ms = wait->get<int64_t>();
}

class Clients {
 public:
  Clients(const ClientOptions& options, std::span<const Call> calls)
      : options_(options), calls_(calls), rules_(options.patient, options.seed) {
    boost::system::error_code error;
    asio::ip::tcp::resolver resolver(io_);
    addresses_ = resolver.resolve(options.server.host, options.server.port, error);
    if (error) {
      Throw(ErrorCode::kCannotJoin, options.server.host, ":", options.server.port, ": ",
            error.message());
    }
  }

  LoadRecords RunOpen() {
    records_.calls.resize(calls_.size());
    // Before the first is due: making them takes time that sending them should not.
    for (size_t index = 0; index < calls_.size(); ++index) bodies_.push_back(MakeBody(index));
    start_ = clock_.now();
    asio::co_spawn(io_, Dispatch(), asio::detached);
    while (finished_ < calls_.size()) io_.run_for(kTurn);
    return std::move(records_);
  }

  LoadRecords RunClosed(int64_t clients, double seconds) {
    repeats_ = false;
    records_.calls.resize(calls_.size());
    start_ = clock_.now();
    stop_ = start_ + static_cast<TimeNs>(seconds * static_cast<double>(kSecondNs));
    for (int64_t i = 0; i < clients; ++i) {
      ++working_;
      asio::co_spawn(io_, Work(), asio::detached);
    }
    while (working_ > 0) io_.run_for(kTurn);
    records_.calls.resize(next_);
    return std::move(records_);
  }

 private:
  asio::awaitable<void> Dispatch() {
    asio::steady_timer timer(io_);
    for (size_t index = 0; index < calls_.size(); ++index) {
      timer.expires_at(TimePoint(start_ + calls_[index].due));
      co_await timer.async_wait(asio::use_awaitable);
      asio::co_spawn(io_, Serve(index, start_ + calls_[index].due), asio::detached);
    }
  }

  asio::awaitable<void> Work() {
    while (next_ < calls_.size() && clock_.now() < stop_) {
      const size_t index = next_++;
      co_await Serve(index, clock_.now());
    }
    --working_;
  }

  asio::awaitable<void> Serve(size_t index, TimeNs due) {
    const Call& call = calls_[index];
    CallRecord& record = records_.calls[index];
    record.tenant = call.tenant;
    record.angry = call.angry;
    record.due = due - start_;
    const auto tenant = static_cast<size_t>(call.tenant);
    const TimeNs deadline = due + kTenantTraits[tenant].deadline_ms * kMillisecondNs;
    rules_.Begin(call.tenant);
    records_.lateness_ms.push_back(Milliseconds(clock_.now() - due));
    asio::steady_timer timer(io_);
    TimeNs at = due;
    while (true) {
      ++record.attempts;
      Attempt attempt;
      co_await Try(index, record.attempts, deadline, attempt);
      // Whatever kept this program from hanging up in time.
      if (attempt.outcome == kWhole && attempt.end > deadline) attempt.outcome = kClientTimeout;
      Note(attempt, at, record);
      const std::optional<TimeNs> next = NextAttempt(record, attempt, deadline);
      if (!next) break;
      at = *next;
      timer.expires_at(TimePoint(at));
      co_await timer.async_wait(asio::use_awaitable);
    }
    ++finished_;
  }

  void Note(const Attempt& attempt, TimeNs at, CallRecord& record) {
    ++records_.attempts[attempt.outcome];
    record.outcome = attempt.outcome;
    record.end = attempt.end - start_;
    if (attempt.admitted) ++record.admitted;
    if (attempt.refused) records_.rejections_ms.push_back(Milliseconds(attempt.end - at));
    if (attempt.outcome != kWhole) return;
    record.degraded = attempt.degraded;
    record.first_token = attempt.first_token > 0 ? attempt.first_token - start_ : 0;
  }

  std::optional<TimeNs> NextAttempt(const CallRecord& record, const Attempt& attempt,
                                    TimeNs deadline) {
    if (!repeats_ || attempt.outcome == kWhole || attempt.outcome == kClientTimeout) {
      return std::nullopt;
    }
    const auto next = rules_.Next({.tenant = record.tenant,
                                   .angry = record.angry,
                                   .attempts = record.attempts,
                                   .retry_after_ms = attempt.retry_after_ms,
                                   .now = attempt.end,
                                   .deadline = deadline});
    if (!next) ++records_.retries_withheld;
    return next;
  }

  // A connection that the server closed while nobody used it says nothing about the attempt.
  asio::awaitable<void> Try(size_t index, int32_t number, TimeNs deadline, Attempt& attempt) {
    bool kept = false;
    do {
      std::unique_ptr<beast::tcp_stream> stream;
      kept = !idle_.empty();
      if (kept) {
        stream = std::move(idle_.back());
        idle_.pop_back();
      } else {
        stream = std::make_unique<beast::tcp_stream>(io_);
      }
      attempt = Attempt();
      stream->expires_at(TimePoint(deadline));
      bool connected = kept;
      try {
        if (!kept) {
          co_await stream->async_connect(addresses_, asio::use_awaitable);
          stream->socket().set_option(asio::ip::tcp::no_delay(true));
          connected = true;
        }
        if (co_await Exchange(*stream, MakeRequest(index, number, deadline), index, attempt) &&
            idle_.size() < kIdleMax) {
          stream->expires_never();
          idle_.push_back(std::move(stream));
        }
      } catch (const boost::system::system_error& error) {
        attempt.outcome = error.code() == beast::error::timeout ? kClientTimeout
                          : connected                           ? kBrokeOff
                                                                : kConnectFailed;
      }
    } while (kept && attempt.outcome == kBrokeOff && !attempt.heard);
    attempt.end = clock_.now();
  }

  // Result: whether the connection can be used again. Errors: boost::system::system_error.
  asio::awaitable<bool> Exchange(beast::tcp_stream& stream,
                                 http::request<http::string_body> request, size_t index,
                                 Attempt& attempt) {
    co_await http::async_write(stream, request, asio::use_awaitable);
    beast::flat_buffer buffer;
    Parser parser;
    parser.body_limit(kAnswerBytesMax);
    co_await http::async_read_header(stream, buffer, parser, asio::use_awaitable);
    attempt.heard = true;
    const unsigned status = parser.get().result_int();
    attempt.admitted = status == 200;
    attempt.refused = status == 429 || status == 503;
    RequestRecord record;
    EventReader events(record);
    std::string body;
    std::array<char, 16384> piece;
    while (!parser.is_done()) {
      parser.get().body().data = piece.data();
      parser.get().body().size = piece.size();
      boost::system::error_code error;
      co_await http::async_read_some(stream, buffer, parser,
                                     asio::redirect_error(asio::use_awaitable, error));
      if (error && error != http::error::need_buffer) throw boost::system::system_error(error);
      const std::string_view bytes(piece.data(), piece.size() - parser.get().body().size);
      if (attempt.admitted) events.Add(bytes, clock_.now());
      if (!attempt.admitted && body.size() < kErrorBytesMax) body += bytes;
    }
    if (attempt.admitted) {
      ReadAnswer(events, record, calls_[index].output_tokens, attempt);
    } else {
      ReadRefusal(body, attempt);
    }
    co_return parser.get().keep_alive();
  }

  static void ReadAnswer(const EventReader& events, const RequestRecord& record,
                         int64_t output_tokens, Attempt& attempt) {
    attempt.degraded = events.degraded();
    if (!record.events.empty()) attempt.first_token = record.events.front();
    const bool whole = events.done() && record.failure.empty() &&
                       (events.degraded() || record.completion_tokens == output_tokens);
    attempt.outcome = whole ? kWhole : kIncomplete;
    if (!events.error_code().empty()) attempt.outcome = events.error_code();
  }

  http::request<http::string_body> MakeRequest(size_t index, int32_t number,
                                               TimeNs deadline) const {
    const Call& call = calls_[index];
    http::request<http::string_body> request(http::verb::post, "/v1/completions", 11);
    request.set(http::field::host, options_.server.host + ":" + options_.server.port);
    request.set(http::field::content_type, "application/json");
    request.set(http::field::authorization,
                "Bearer " + options_.api_keys[static_cast<size_t>(call.tenant)]);
    const int64_t left_ms = std::max<int64_t>(1, (deadline - clock_.now()) / kMillisecondNs);
    request.set("X-Shoal-Deadline-Ms", std::to_string(left_ms));
    request.set("X-Shoal-Attempt", std::to_string(std::min(number, 1'000)));
    request.body() = bodies_.empty() ? MakeBody(index) : bodies_[index];
    request.prepare_payload();
    return request;
  }

  std::string MakeBody(size_t index) const {
    const PlannedRequest planned = {.prompt_tokens = calls_[index].prompt_tokens,
                                    .output_tokens = calls_[index].output_tokens};
    return RequestBody(LoadOptions{}, planned, static_cast<int64_t>(options_.first_prompt + index));
  }

  static double Milliseconds(TimeNs ns) { return static_cast<double>(ns) / kMillisecondNs; }

  const ClientOptions& options_;
  std::span<const Call> calls_;
  std::vector<std::string> bodies_;  // Of an open loop's calls.
  SteadyClock clock_;
  asio::io_context io_{1};
  asio::ip::tcp::resolver::results_type addresses_;
  RetryRules rules_;
  std::vector<std::unique_ptr<beast::tcp_stream>> idle_;
  LoadRecords records_;
  bool repeats_ = true;
  TimeNs start_ = 0;
  TimeNs stop_ = 0;  // Of a closed loop: no new calls.
  size_t next_ = 0;
  int64_t working_ = 0;
  size_t finished_ = 0;
};

}  // namespace

LoadRecords RunOpenLoop(const ClientOptions& options, std::span<const Call> calls) {
  return Clients(options, calls).RunOpen();
}

LoadRecords RunClosedLoop(const ClientOptions& options, std::span<const Call> calls,
                          int64_t clients, double seconds) {
  return Clients(options, calls).RunClosed(clients, seconds);
}

}  // namespace shoal::cli
