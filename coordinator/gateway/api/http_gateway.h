#pragma once

// The public HTTP interface: OpenAI's completions and chat, models, health, metrics.

#include <kj/async-io.h>
#include <kj/function.h>
#include <kj/timer.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "coordinator/gateway/answer/generation_answer.h"
#include "coordinator/gateway/api/fields/ignored_fields.h"
#include "coordinator/gateway/api/metrics.h"
#include "coordinator/gateway/http/http_server.h"
#include "coordinator/gateway/ladder/degrader.h"
#include "coordinator/gateway/text/text_service.h"
#include "coordinator/gateway/text/text_thread.h"
#include "transport/rpc/caller.h"

namespace shoal::gateway {

struct HttpGatewayOptions {
  std::string bind = "127.0.0.1";
  uint16_t port = 8000;         // 0: any free one.
  rpc::FindCaller find_caller;  // Whose the API keys are. Null: none is needed.
  HttpLimits limits;
  bool strict_params = false;  // Fields that nobody here knows are a 400, not a warning.
  std::string version_json = R"({"name":"shoal"})";  // The body of /version.
  // Authenticates cursors: kCursorKeyBytes. Empty: a random one, so that no cursor outlives the
  // gateway.
  std::string cursor_key;
  Degrader* ladder = nullptr;  // Null: nothing is degraded. Outlives the gateway.
  // Ids, and seeds of requests that bring none. Null: std::random_device's.
  std::function<uint64_t()> random;
  // Seconds since 1970, for the `created` fields. Null: the system's clock.
  std::function<int64_t()> unix_seconds;
};

// Threading: owned by the event loop. The references must outlive it, and no connection it serves
// may outlive it.
class HttpGateway : private HttpService {
 public:
  HttpGateway(HttpGatewayOptions options, core::GenerationService& generation, TextService text,
              kj::Timer& timer, kj::UnixEventPort& port);
  ~HttpGateway() noexcept override;

  // Errors: kInvalidArgument, naming the port, if it cannot be had.
  void Listen(kj::Network& network, kj::WaitScope& wait_scope);
  uint16_t port() const { return server_.port(); }
  // By which programs of this machine reach it: "http://127.0.0.1:8000", also where it is bound to
  // all addresses.
  std::string url() const;

  // Serves a connection made elsewhere.
  void Accept(kj::Own<kj::AsyncIoStream> stream) { server_.Accept(kj::mv(stream)); }
  size_t connection_count() const { return server_.connection_count(); }

  // No new connection or request; resolves when the answers under way are out, or after `grace_ms`.
  // /readyz says 503 meanwhile.
  kj::Promise<void> Stop(int64_t grace_ms);

 private:
  struct Route;
  struct Call;     // One request being routed.
  struct Reading;  // What reading a generation's body needs, and nothing that may change meanwhile.
  class LargeCall;  // A generation whose body is read beside the loop.

  std::unique_ptr<PendingAnswer> Answer(const HttpRequest& request, HttpReply& reply) override;
  std::optional<HttpResponse> CheckHead(const HttpRequest& head) override;
  HttpResponse Refuse(int status, const std::string& message) override;
  int64_t UnixSeconds() override { return unix_seconds_(); }

  std::unique_ptr<PendingAnswer> Dispatch(Call& call);
  std::unique_ptr<PendingAnswer> Generate(Call& call);
  Reading MakeReading(const Call& call);
  // With the time that is left of its deadline. Errors: ApiError, 503, if nothing is.
  RequestTerms TermsLeft(const Call& call) const;
  std::unique_ptr<PendingAnswer> Start(const Call& call, AnswerSetup setup);
  // The answer, begun. Null: it is out.
  std::unique_ptr<PendingAnswer> Begin(const Call& call, AnswerSetup setup);
  // What `work` returns. Its errors become the reply, and null.
  std::unique_ptr<PendingAnswer> AnswerOrRefuse(
      const Call& call, kj::FunctionParam<std::unique_ptr<PendingAnswer>()> work);
  // By the key that it shows. Errors: ApiError 401.
  rpc::Caller FindCaller(const HttpRequest& request) const;
  void SendJson(Call& call, int status, std::string body);
  void SendModels(Call& call);
  void SendModel(Call& call);
  void SendParameters(Call& call);
  void SendLive(Call& call);
  void SendReady(Call& call);
  void SendVersion(Call& call);
  void SendMetrics(Call& call);
  void SendCluster(Call& call);
  void SendRecords(Call& call);
  std::string RequestId(const HttpRequest* request);
  // What the request wants to go on with. Errors: ApiError.
  std::optional<Cursor> ReadCursor(const std::string& text) const;
  std::string RandomHex(int digits);

  static const std::vector<Route>& Routes();
  static const Route* FindRoute(const std::string& path);  // Null: there is none.
  HttpResponse FormatError(const ApiError& error, const std::string& request_id,
                           const std::string& route);

  const HttpGatewayOptions options_;
  core::GenerationService& generation_;
  const TextService text_;
  kj::Timer& timer_;
  const std::function<uint64_t()> random_;
  const std::function<int64_t()> unix_seconds_;
  const int64_t started_seconds_;
  const std::shared_ptr<const CursorCodec> cursors_;
  bool stopping_ = false;
  GatewayMetrics metrics_;
  IgnoredLog ignored_;
  LiveAnswers live_;
  TextThreads text_threads_;
  TextThread formatter_;
  HttpServer server_;  // Last: its connections use all of the above.
};

}  // namespace shoal::gateway
