#include "coordinator/gateway/http/http_server.h"

// Which connections there are, and one clock tick for all of them.

#include <glog/logging.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "transport/base/error.h"

namespace shoal::gateway {
namespace {

constexpr auto kTick = 250 * kj::MILLISECONDS;
constexpr auto kRefusal = 1 * kj::SECONDS;
constexpr int32_t kRefusalsMax = 32;  // Under way at once; beyond, a connection is just closed.
constexpr std::string_view kTooManyBody =
    R"({"error":{"message":"too many connections","type":"server_error","param":null,)"
    R"("code":"connections_exceeded","request_id":null}})";

}  // namespace

HttpServer::HttpServer(const HttpLimits& limits, HttpService& service, kj::Timer& timer)
    : limits_(limits),
      service_(service),
      timer_(timer),
      tasks_(kj::heap<kj::TaskSet>(static_cast<kj::TaskSet::ErrorHandler&>(*this))) {
  ticking_ = TickLoop().eagerlyEvaluate(
      [](kj::Exception&& error) { LOG(ERROR) << error.getDescription().cStr(); });
}

HttpServer::~HttpServer() noexcept = default;

std::string UrlHost(const std::string& address) {
  const bool bare_ipv6 =
      address.find(':') != std::string::npos && address.find('[') == std::string::npos;
  return bare_ipv6 ? "[" + address + "]" : address;
}

void HttpServer::Listen(kj::Network& network, const std::string& bind, uint16_t port,
                        kj::WaitScope& wait_scope) {
  const std::string where = Str(UrlHost(bind), ":", port);
  kj::Own<kj::ConnectionReceiver> receiver;
  KJ_IF_MAYBE (error, kj::runCatchingExceptions([&]() {
                 auto address = network.parseAddress(where).wait(wait_scope);
                 receiver = address->listen();
               })) {
    const std::string_view why = error->getDescription().cStr();
    VLOG(1) << why;
    if (why.find(strerror(EADDRINUSE)) != std::string_view::npos) {
      Throw(ErrorCode::kInvalidArgument, "port ", port, " on ", bind,
            " is in use: stop the other program or choose another --port");
    }
    // What comes before the reason is a line of source.
    const size_t reason = why.rfind("): ");
    Throw(ErrorCode::kInvalidArgument, "cannot listen on ", where, ": ",
          reason == std::string_view::npos ? why : why.substr(reason + 3),
          "; choose another --bind or --port");
  }
  port_ = static_cast<uint16_t>(receiver->getPort());
  accepting_ = kj::heap<rpc::AcceptLoop>(
      kj::mv(receiver), timer_, "HTTP port", [this](kj::Own<kj::AsyncIoStream> stream) {
        const int on = 1;
        stream->setsockopt(IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        Accept(kj::mv(stream));
      });
}

void HttpServer::Accept(kj::Own<kj::AsyncIoStream> stream) {
  if (stopping_) return;
  if (connections_.size() >= limits_.connections_max && !MakeRoom()) return Refuse(kj::mv(stream));
  auto connection = kj::heap<HttpConnection>(kj::mv(stream), limits_, service_, timer_);
  HttpConnection* raw = connection.get();
  connections_.insert(raw);
  auto run = connection->Run();
  tasks_->add(
      run.attach(kj::defer([this, raw]() { connections_.erase(raw); }), kj::mv(connection)));
}

bool HttpServer::MakeRoom() {
  HttpConnection* idle = nullptr;
  for (HttpConnection* connection : connections_) {
    if (!connection->idle()) continue;
    if (idle == nullptr || connection->idle_since() < idle->idle_since()) idle = connection;
  }
  if (idle == nullptr) return false;
  idle->CloseIfIdle();
  return true;
}

void HttpServer::Refuse(kj::Own<kj::AsyncIoStream> stream) {
  if (refusals_ >= kRefusalsMax) return;
  ++refusals_;
  auto refusal = kj::heap<std::string>(
      Str("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n",
          "Content-Type: application/json\r\nContent-Length: ", kTooManyBody.size(), "\r\n\r\n",
          kTooManyBody));
  auto write = stream->write(refusal->data(), refusal->size());
  tasks_->add(write.exclusiveJoin(timer_.afterDelay(kRefusal))
                  .attach(kj::mv(refusal), kj::mv(stream), kj::defer([this]() { --refusals_; })));
}

kj::Promise<void> HttpServer::TickLoop() {
  return timer_.afterDelay(kTick).then([this]() {
    for (HttpConnection* connection : connections_) connection->Tick();
    return TickLoop();
  });
}

kj::Promise<void> HttpServer::Stop(int64_t grace_ms) {
  stopping_ = true;
  accepting_ = nullptr;
  for (HttpConnection* connection : connections_) connection->Drain();
  return tasks_->onEmpty()
      .exclusiveJoin(timer_.afterDelay(grace_ms * kj::MILLISECONDS))
      .then([this]() { tasks_ = nullptr; })
      .eagerlyEvaluate(nullptr);
}

void HttpServer::taskFailed(kj::Exception&& error) {
  VLOG(1) << "connection failed: " << error.getDescription().cStr();
}

}  // namespace shoal::gateway
