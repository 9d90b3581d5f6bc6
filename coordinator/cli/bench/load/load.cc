// One coroutine for each connection, all on one thread, take the requests in turn: the client
// shares the machine with the server and must cost it little.

#include "coordinator/cli/bench/load/load.h"

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
#include <nlohmann/json.hpp>
#include <random>

#include "coordinator/cli/bench/load/event_reader.h"
#include "transport/base/error.h"

namespace shoal::cli {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Json = nlohmann::ordered_json;

constexpr uint64_t kResponseBytesMax = uint64_t{1} << 32;
constexpr auto kProgress = std::chrono::milliseconds(100);

class Load {
 public:
  Load(const LoadOptions& options, std::span<const PlannedRequest> requests)
      : options_(options), requests_(requests), records_(requests.size()) {}

  std::vector<RequestRecord> Run(const std::function<void(const LoadProgress&)>& on_progress) {
    Resolve();
    start_ = clock_.now();
    const auto count = std::min<int64_t>(options_.connections_max, requests_.size());
    for (int64_t i = 0; i < count; ++i) asio::co_spawn(io_, Work(), asio::detached);
    while (finished_ < static_cast<int64_t>(requests_.size())) {
      io_.run_for(kProgress);
      on_progress({finished_, running_});
    }
    return std::move(records_);
  }

 private:
  // Also tries to connect, so that a wrong address is one message and not a table of failures.
  void Resolve() {
    boost::system::error_code error;
    asio::ip::tcp::resolver resolver(io_);
    addresses_ = resolver.resolve(options_.host, options_.port, error);
    asio::ip::tcp::socket socket(io_);
    if (!error) asio::connect(socket, addresses_, error);
    if (error) {
      Throw(ErrorCode::kCannotJoin, "http://", options_.host, ":", options_.port, ": ",
            error.message(), "; is a coordinator running there?");
    }
  }

  asio::awaitable<void> Work() {
    asio::steady_timer timer(io_);
    while (next_ < requests_.size()) {
      const size_t index = next_++;
      RequestRecord& record = records_[index];
      if (options_.closed_loop) {
        record.due = clock_.now();
      } else {
        record.due = start_ + requests_[index].due;
        timer.expires_after(std::chrono::nanoseconds(record.due - clock_.now()));
        co_await timer.async_wait(asio::use_awaitable);
      }
      ++running_;
      record.sent = clock_.now();
      try {
        co_await Exchange(index, record);
      } catch (const std::exception& error) {  // A failed request is a result.
        if (record.failure.empty()) record.failure = error.what();
      }
      record.end = clock_.now();
      --running_;
      ++finished_;
    }
  }

  asio::awaitable<void> Exchange(size_t index, RequestRecord& record) {
    beast::tcp_stream stream(io_);
    const auto silence = std::chrono::milliseconds(options_.silence_ms);
    stream.expires_after(silence);
    co_await stream.async_connect(addresses_, asio::use_awaitable);
    stream.socket().set_option(asio::ip::tcp::no_delay(true));
    const http::request<http::string_body> request = MakeRequest(index);
    co_await http::async_write(stream, request, asio::use_awaitable);

    beast::flat_buffer buffer;
    http::response_parser<http::buffer_body> parser;
    parser.body_limit(kResponseBytesMax);
    co_await http::async_read_header(stream, buffer, parser, asio::use_awaitable);
    const bool good = parser.get().result() == http::status::ok;
    if (!good) record.failure = Str("status ", parser.get().result_int());
    EventReader events(record);
    std::array<char, 16384> piece;
    while (!parser.is_done()) {
      parser.get().body().data = piece.data();
      parser.get().body().size = piece.size();
      stream.expires_after(silence);
      boost::system::error_code error;
      co_await http::async_read_some(stream, buffer, parser,
                                     asio::redirect_error(asio::use_awaitable, error));
      if (error && error != http::error::need_buffer) throw boost::system::system_error(error);
      const size_t bytes = piece.size() - parser.get().body().size;
      if (good) events.Add({piece.data(), bytes}, clock_.now());
    }
    if (good && !events.done() && record.failure.empty()) record.failure = "the stream broke off";
  }

  http::request<http::string_body> MakeRequest(size_t index) const {
    http::request<http::string_body> request(http::verb::post, "/v1/completions", 11);
    request.set(http::field::host, options_.host + ":" + options_.port);
    request.set(http::field::content_type, "application/json");
    request.set(http::field::connection, "close");
    if (!options_.api_key.empty()) {
      request.set(http::field::authorization, "Bearer " + options_.api_key);
    }
    request.body() = RequestBody(options_, requests_[index], static_cast<int64_t>(index));
    request.prepare_payload();
    return request;
  }

  const LoadOptions& options_;
  std::span<const PlannedRequest> requests_;
  SteadyClock clock_;
  asio::io_context io_{1};
  asio::ip::tcp::resolver::results_type addresses_;
  std::vector<RequestRecord> records_;
  TimeNs start_ = 0;
  size_t next_ = 0;
  int64_t running_ = 0;
  int64_t finished_ = 0;
};

}  // namespace

std::string RequestBody(const LoadOptions& options, const PlannedRequest& request, int64_t index) {
  // Ids that any vocabulary has, and none of them special.
  constexpr uint64_t kFirstId = 100;
  constexpr uint64_t kIds = 150;
  std::mt19937_64 shared(0);
  std::mt19937_64 own(static_cast<uint64_t>(index) + 1);
  Json prompt = Json::array();
  for (int64_t i = 0; i < request.prompt_tokens; ++i) {
    prompt.push_back(kFirstId + (i < options.shared_prefix_tokens ? shared : own)() % kIds);
  }
  Json body;
  if (!options.model.empty()) body["model"] = options.model;
  body["prompt"] = std::move(prompt);
  body["max_tokens"] = request.output_tokens;
  body["temperature"] = 0;
  body["ignore_eos"] = true;
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  return body.dump();
}

std::vector<RequestRecord> RunLoad(const LoadOptions& options,
                                   std::span<const PlannedRequest> requests,
                                   const std::function<void(const LoadProgress&)>& on_progress) {
  return Load(options, requests).Run(on_progress);
}

}  // namespace shoal::cli
