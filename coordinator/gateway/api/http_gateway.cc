#include "coordinator/gateway/api/http_gateway.h"

// Routes, and the endpoints that answer at once.

#include <glog/logging.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "coordinator/gateway/api/api_request.h"
#include "coordinator/gateway/api/fields/parameters.h"
#include "coordinator/gateway/api/record_query.h"
#include "coordinator/gateway/api/request_headers.h"
#include "coordinator/gateway/json/records_json.h"
#include "coordinator/gateway/json/status_json.h"
#include "coordinator/gateway/json/strict_json.h"
#include "coordinator/gateway/ladder/ladder_answer.h"
#include "coordinator/gateway/resume/cursor_key.h"
#include "coordinator/gateway/resume/request_digest.h"
#include "transport/base/host/system_random.h"
#include "transport/base/host/system_seconds.h"

namespace shoal::gateway {
namespace {

constexpr std::string_view kModelPrefix = "/v1/models/";

// Errors: ApiError 404, with the names that are served.
const ServedModel& GetModel(const std::vector<ServedModel>& models, const std::string& name) {
  try {
    return NeedModel(models, name);
  } catch (const RequestError& error) {  // Becomes what HTTP answers.
    throw FromRequestError(error);
  }
}

[[noreturn]] void ThrowMismatch(const std::string& message) {
  throw FromStreamError(MakeStreamError(BusyReason::kCursorMismatch, message));
}

// The version of the model that the answer began with. Errors: ApiError.
const ServedModel& FindVersion(const std::vector<ServedModel>& models, const ServedModel& model,
                               const std::string& numerics_id) {
  for (const ServedModel& version : models) {
    if (version.name == model.name && version.numerics_id == numerics_id) return version;
  }
  ThrowMismatch(Str("the cursor is of an answer of numerics id ", numerics_id,
                    ", which is not served; the model's is ", model.numerics_id));
}

// 24 hex digits, for the answer's id.
std::string ShortHex(const StreamId& id) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4) text += kHex[id.high >> shift & 15];
  for (int shift = 60; shift >= 32; shift -= 4) text += kHex[id.low >> shift & 15];
  return text;
}

void WriteModel(JsonWriter& json, const ServedModel& model, int64_t created) {
  json.BeginObject().Key("id").String(model.name).Key("object").String("model");
  json.Key("created").Int(created).Key("owned_by").String("shoal");
  json.Key("max_model_len").Int(model.context_tokens).EndObject();
}

}  // namespace

struct HttpGateway::Route {
  std::string path;  // Ends in '/': everything below.
  bool post = false;
  bool needs_key = true;
  Endpoint endpoint = Endpoint::kCompletions;
  void (HttpGateway::*send)(Call&) = nullptr;  // Null: a generation.
};

struct HttpGateway::Call {
  const HttpRequest& request;
  HttpReply& reply;
  std::string request_id;
  TimeNs started = 0;
  std::string route = "other";
  const Route* matched = nullptr;
  rpc::Caller caller{};
  TimeNs arrived = 0;  // Its first byte. Deadlines count from there.
  GenerationHeaders headers{};
};

struct HttpGateway::Reading {
  Endpoint endpoint = Endpoint::kCompletions;
  std::vector<ServedModel> models;
  uint64_t seed = 0;                    // For a request that brings none.
  std::optional<ApiError> unavailable;  // Nobody can answer, however good the request is.
  bool strict = false;                  // Unknown fields are refused.
  bool resumable = false;               // As the body may ask for itself.
  bool may_degrade = false;             // Something else may answer while no group is there.
  std::optional<Cursor> cursor{};       // To go on with.
  std::shared_ptr<const CursorCodec> cursors{};
  std::string owner{};  // rpc::Caller::owner.

  // Checks the body and makes token ids of its text; fills the request, its model, its prompts and
  // the format. `own`: the text side that this coordinator reads. Pure. Errors: ApiError.
  AnswerSetup Read(const std::string& body, const TextService& own) const;

 private:
  // Says in `request` whether its answer has cursors.
  void CheckResumable(ApiRequest& request) const;
  const ServedModel& ChooseModel(const std::string& name) const;
  void SetCursor(AnswerSetup& setup) const;
};

const std::vector<HttpGateway::Route>& HttpGateway::Routes() {
  static const std::vector<Route> kRoutes = {
      {"/v1/chat/completions", true, true, Endpoint::kChat, nullptr},
      {"/v1/completions", true, true, Endpoint::kCompletions, nullptr},
      {"/v1/models", false, true, {}, &HttpGateway::SendModels},
      {std::string(kModelPrefix), false, true, {}, &HttpGateway::SendModel},
      {"/v1/parameters", false, true, {}, &HttpGateway::SendParameters},
      {"/health", false, false, {}, &HttpGateway::SendReady},
      {"/livez", false, false, {}, &HttpGateway::SendLive},
      {"/readyz", false, false, {}, &HttpGateway::SendReady},
      {"/version", false, false, {}, &HttpGateway::SendVersion},
      {"/metrics", false, true, {}, &HttpGateway::SendMetrics},
      {"/v1/cluster", false, true, {}, &HttpGateway::SendCluster},
      {"/v1/records", false, true, {}, &HttpGateway::SendRecords},
  };
  return kRoutes;
}

HttpGateway::HttpGateway(HttpGatewayOptions options, core::GenerationService& generation,
                         TextService text, kj::Timer& timer, kj::UnixEventPort& port)
    : options_(std::move(options)),
      generation_(generation),
      text_(std::move(text)),
      timer_(timer),
      random_(options_.random ? options_.random : SystemRandom()),
      unix_seconds_(options_.unix_seconds ? options_.unix_seconds : SystemSeconds),
      started_seconds_(unix_seconds_()),
      cursors_(std::make_shared<const CursorCodec>(
          options_.cursor_key.empty() ? RandomCursorKey() : options_.cursor_key)),
      text_threads_(port),
      formatter_(port),
      server_(options_.limits, *this, timer) {}

HttpGateway::~HttpGateway() noexcept = default;

void HttpGateway::Listen(kj::Network& network, kj::WaitScope& wait_scope) {
  server_.Listen(network, options_.bind, options_.port, wait_scope);
}

std::string HttpGateway::url() const {
  const std::string& bind = options_.bind;
  const bool anywhere = bind == "*" || bind == "0.0.0.0" || bind == "::" || bind == "[::]";
  return Str("http://", anywhere ? "127.0.0.1" : UrlHost(bind), ":", port());
}

kj::Promise<void> HttpGateway::Stop(int64_t grace_ms) {
  stopping_ = true;
  return server_.Stop(grace_ms);
}

std::string HttpGateway::RandomHex(int digits) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  for (uint64_t bits = 0; digits > 0; --digits, bits >>= 4) {
    if (text.size() % 16 == 0) bits = random_();
    text += kHex[bits & 15];
  }
  return text;
}

std::string HttpGateway::RequestId(const HttpRequest* request) {
  const std::string* given = request == nullptr ? nullptr : request->Find("x-request-id");
  return given != nullptr && IsPlainName(*given) ? *given : "req-" + RandomHex(24);
}

const HttpGateway::Route* HttpGateway::FindRoute(const std::string& path) {
  const Route* found = nullptr;
  for (const Route& route : Routes()) {
    const bool below =
        route.path.back() == '/' && path.size() > route.path.size() && path.starts_with(route.path);
    if (below || path == route.path) found = &route;
  }
  return found;
}

HttpResponse HttpGateway::FormatError(const ApiError& error, const std::string& request_id,
                                      const std::string& route) {
  HttpResponse response = ErrorResponse(error, request_id);
  response.headers.emplace_back("X-Request-Id", request_id);
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  metrics_.CountRequest(route, error.status);
  return response;
}

// Only whoever has a key may have a body of its own kept here.
std::optional<HttpResponse> HttpGateway::CheckHead(const HttpRequest& head) {
  const Route* const route = FindRoute(head.path);
  if (route != nullptr && !route->needs_key) return std::nullopt;
  try {
    FindCaller(head);
    return std::nullopt;
  } catch (const ApiError& error) {  // Becomes the reply.
    return FormatError(error, RequestId(&head), route == nullptr ? "other" : route->path);
  }
}

HttpResponse HttpGateway::Refuse(int status, const std::string& message) {
  metrics_.CountRequest("other", status);
  const std::string request_id = RequestId(nullptr);
  HttpResponse response =
      ErrorResponse(MakeApiError(status, "invalid_request_error",
                                 status == 413 ? "body_too_large" : "bad_request", message),
                    request_id);
  response.headers.emplace_back("X-Request-Id", request_id);
  return response;
}

std::unique_ptr<PendingAnswer> HttpGateway::Answer(const HttpRequest& request, HttpReply& reply) {
  Call call{.request = request,
            .reply = reply,
            .request_id = RequestId(&request),
            .started = Now(timer_),
            .arrived = request.arrived};
  return AnswerOrRefuse(call, [&] { return Dispatch(call); });
}

std::unique_ptr<PendingAnswer> HttpGateway::AnswerOrRefuse(
    const Call& call, kj::FunctionParam<std::unique_ptr<PendingAnswer>()> work) {
  const auto fail = [&](const ApiError& error, Headers headers) {
    HttpResponse response = FormatError(error, call.request_id, call.route);
    response.headers.insert(response.headers.end(), headers.begin(), headers.end());
    call.reply.Send(std::move(response));
  };
  // The HTTP boundary: like the RPC boundary, it turns every error into a reply.
  try {
    return work();
  } catch (const ApiError& error) {
    if (error.unrecorded) {
      generation_.NoteRecord(core::RejectionOf(call.headers.terms, *error.unrecorded));
    }
    Headers headers;
    if (error.status == 405)
      headers.emplace_back("Allow", call.matched->post ? "POST" : "GET, HEAD");
    if (error.code == "unsupported_encoding") headers.emplace_back("Accept-Encoding", "identity");
    fail(error, std::move(headers));
  } catch (const std::exception& error) {
    LOG(ERROR) << call.request_id << ": " << error.what();
    fail(MakeApiError(500, "server_error", "internal_error",
                      "something broke while reading this request; the server's log says what"),
         {});
  }
  return nullptr;
}

std::unique_ptr<PendingAnswer> HttpGateway::Dispatch(Call& call) {
  const HttpRequest& request = call.request;
  call.matched = FindRoute(request.path);
  if (call.matched == nullptr) {
    call.caller = FindCaller(request);
    std::string known;
    for (const Route& route : Routes()) known += (known.empty() ? "" : ", ") + route.path;
    throw MakeApiError(404, "invalid_request_error", "unknown_path",
                       "there is no such path; there are " + known);
  }
  call.route = call.matched->path;
  if (call.matched->needs_key) call.caller = FindCaller(request);
  const bool allowed = call.matched->post ? request.method == "POST"
                                          : request.method == "GET" || request.method == "HEAD";
  if (!allowed) {
    throw MakeApiError(405, "invalid_request_error", "method_not_allowed",
                       Str(call.route, " takes ", call.matched->post ? "POST" : "GET"));
  }
  if (call.matched->send == nullptr) return Generate(call);
  (this->*call.matched->send)(call);
  return nullptr;
}

rpc::Caller HttpGateway::FindCaller(const HttpRequest& request) const {
  if (!options_.find_caller) return {};
  std::optional<rpc::Caller> caller = options_.find_caller(ShownKey(request));
  if (caller) return *std::move(caller);
  throw MakeApiError(401, "authentication_error", "invalid_api_key",
                     request.Find("authorization") == nullptr
                         ? "this server needs the header Authorization: Bearer KEY"
                         : "the API key is not one of this server's");
}

void HttpGateway::Reading::CheckResumable(ApiRequest& request) const {
  if (cursor && !request.stream) {
    ThrowMismatch(
        "Last-Event-ID goes on with a streamed answer, and this request has no stream: send the "
        "very request that the cursor came from");
  }
  request.resumable = request.stream && (request.resumable || resumable || cursor);
  const auto prompts = static_cast<int64_t>(request.prompts.size());
  if (request.resumable && prompts * request.answers_per_prompt > kResumableSequencesMax) {
    throw ApiError(prompts > 1 ? "prompt" : "n",
                   Str("prompts times n are ", prompts * request.answers_per_prompt,
                       " sequences, and a resumable answer has at most ", kResumableSequencesMax,
                       ": split the request, or leave out resumable"),
                   "too_large");
  }
}

const ServedModel& HttpGateway::Reading::ChooseModel(const std::string& name) const {
  const ServedModel& model = GetModel(models, name);
  if (unavailable) throw *unavailable;
  if (model.context_tokens <= 0 && (!may_degrade || cursor)) {
    throw FromDoorsRefusal(MakeStreamError(BusyReason::kNoGroup, "no group has joined yet"));
  }
  if (!cursor) return model;
  // Before its version is looked for.
  if (cursor->model != DigestText(model.name)) {
    ThrowMismatch("the cursor is of an answer of another model");
  }
  return FindVersion(models, model, cursor->numerics_id);
}

void HttpGateway::Reading::SetCursor(AnswerSetup& setup) const {
  const CursorDoor door =
      endpoint == Endpoint::kChat ? CursorDoor::kChat : CursorDoor::kCompletions;
  const Digest request = DigestRequest(setup.request, setup.prompts, owner);
  const Digest model = DigestText(setup.model.name);
  const size_t choice_count =
      setup.prompts.size() * static_cast<size_t>(setup.request.answers_per_prompt);
  setup.cursors = cursors;
  setup.resumed = cursor.has_value();
  if (cursor) {
    const std::string mismatch = FindMismatch(*cursor, door, model, request, choice_count);
    if (!mismatch.empty()) ThrowMismatch(mismatch);
    setup.cursor = *cursor;
    return;
  }
  setup.cursor.door = door;
  setup.cursor.seed = setup.prompts.front().params.sampling.seed;
  setup.cursor.kv_cache_tokens = setup.model.kv_cache_tokens;
  setup.cursor.request = request;
  setup.cursor.model = model;
  setup.cursor.numerics_id = setup.model.numerics_id;
  setup.cursor.choices.resize(choice_count);
}

AnswerSetup HttpGateway::Reading::Read(const std::string& body, const TextService& own) const {
  nlohmann::ordered_json json;
  try {
    json = ParseStrictJson(body);
  } catch (const Error& error) {
    // Only here is it known that the text is a request's body.
    throw ApiError("", Str("the request body is ", error.what()), "invalid_json");
  }
  AnswerSetup setup;
  setup.terms.may_degrade = may_degrade && !cursor;
  setup.request = ParseApiRequest(endpoint, json);
  if (strict) RefuseIgnored(setup.request.ignored);
  CheckResumable(setup.request);
  ServedModel& model = setup.model = ChooseModel(setup.request.model);
  // Another group may be the largest one now, but the answer ends where it would have.
  if (cursor) model.kv_cache_tokens = cursor->kv_cache_tokens;
  setup.request.model = model.name;
  const PromptEncoder encoder(own, model, kHttpWords);
  setup.prompts = PlanGeneration(setup.request, encoder, cursor ? cursor->seed : seed);
  if (setup.request.resumable) SetCursor(setup);
  AnswerFormat& format = setup.format;
  format.endpoint = endpoint;
  format.model = setup.request.model;
  if (!model.numerics_id.empty()) format.fingerprint = "fp_" + model.numerics_id.substr(0, 16);
  format.return_token_ids = setup.request.return_token_ids;
  format.include_usage = setup.request.include_usage;
  format.top_logprobs = setup.request.params.top_logprobs;
  format.tokenizer = encoder.tokenizer();
  format.warnings = WarningsAbout(setup.request.ignored);
  SetCallForm(setup);
  return setup;
}

std::optional<Cursor> HttpGateway::ReadCursor(const std::string& text) const {
  if (text.empty()) return std::nullopt;
  auto decoded = cursors_->Decode(text, unix_seconds_());
  if (const auto* error = std::get_if<StreamError>(&decoded)) {
    ApiError refusal = FromStreamError(*error);
    refusal.param = "Last-Event-ID";
    throw refusal;
  }
  return std::get<Cursor>(std::move(decoded));
}

HttpGateway::Reading HttpGateway::MakeReading(const Call& call) {
  const GenerationHeaders& headers = call.headers;
  Reading reading{.endpoint = call.matched->endpoint,
                  .models = generation_.models(),
                  .seed = random_(),
                  .unavailable = std::nullopt,
                  .strict = options_.strict_params || headers.strict,
                  .resumable = headers.resumable,
                  .may_degrade = options_.ladder != nullptr && headers.degrade,
                  .cursor = ReadCursor(headers.cursor),
                  .cursors = cursors_,
                  .owner = call.caller.owner};
  if (stopping_) {
    reading.unavailable =
        FromDoorsRefusal(MakeStreamError(BusyReason::kDraining, "the server is stopping"));
  }
  return reading;
}

// Waits for the other thread, then stands for the answer that is made of what it read.
class HttpGateway::LargeCall : public PendingAnswer {
 public:
  LargeCall(HttpGateway& gateway, TextThread& thread, const Call& call, Reading reading)
      : call_{kNoRequest,   call.reply,  call.request_id, call.started, call.route,
              call.matched, call.caller, call.arrived,    call.headers},
        reading_(thread
                     .Run(std::function(
                         [body = call.request.body, text = gateway.text_,
                          reading = std::move(reading)] { return reading.Read(body, text); }))
                     .then([this, &gateway](kj::Own<Outcome<AnswerSetup>>&& outcome) {
                       answer_ = gateway.AnswerOrRefuse(
                           call_, [&] { return gateway.Start(call_, outcome->Take()); });
                     })
                     .eagerlyEvaluate([](kj::Exception&& error) {
                       LOG(ERROR) << error.getDescription().cStr();
                     })) {}

  ~LargeCall() noexcept override = default;

  void Tick(TimeNs now) override {
    if (answer_ != nullptr) answer_->Tick(now);
  }
  void OnRoom() override {
    if (answer_ != nullptr) answer_->OnRoom();
  }

 private:
  static inline const HttpRequest kNoRequest{};  // The body is not kept once it is read.

  const Call call_;
  std::unique_ptr<PendingAnswer> answer_;
  kj::Promise<void> reading_;  // Last: it uses all of the above.
};

std::unique_ptr<PendingAnswer> HttpGateway::Generate(Call& call) {
  CheckBodyForm(call.request);
  call.headers = ReadHeaders(call.request, call.caller, call.request_id);
  TermsLeft(call);  // What is late is not even read.
  const bool may_degrade = options_.ladder != nullptr && call.headers.degrade;
  // Otherwise it is taken already, or the ladder answers where the model does not.
  if (call.headers.cursor.empty() && !may_degrade) {
    const std::optional<StreamError> refusal = generation_.PreCheck(call.headers.terms);
    if (refusal) throw FromStreamError(*refusal);
  }
  Reading reading = MakeReading(call);
  TextThread* thread = text_threads_.For(call.request.body.size());
  if (thread == nullptr) return Start(call, reading.Read(call.request.body, text_));
  if (thread->full()) {
    throw FromDoorsRefusal(
        MakeStreamError(BusyReason::kQueueFull, "too many requests are waiting to be read"));
  }
  return std::make_unique<LargeCall>(*this, *thread, call, std::move(reading));
}

RequestTerms HttpGateway::TermsLeft(const Call& call) const {
  RequestTerms terms = call.headers.terms;
  const std::optional<StreamError> refusal = TakeTime(terms, Now(timer_) - call.arrived);
  if (refusal) throw FromDoorsRefusal(*refusal);
  return terms;
}

std::unique_ptr<PendingAnswer> HttpGateway::Start(const Call& call, AnswerSetup setup) {
  const bool may_degrade = setup.terms.may_degrade;
  setup.terms = TermsLeft(call);
  if (options_.ladder != nullptr) setup.terms.may_degrade = may_degrade;
  AnswerFormat& format = setup.format;
  if (setup.resumed) {
    setup.answer = setup.cursor.answer;
    format.created = setup.cursor.created;
    const auto earlier = live_.find(setup.answer);
    if (earlier != live_.end()) earlier->second->GiveUp();
  } else {
    setup.answer = {random_(), random_()};
    format.created = unix_seconds_();
    setup.cursor.answer = setup.answer;
    setup.cursor.created = format.created;
  }
  format.id = (format.endpoint == Endpoint::kChat ? "chatcmpl-" : "cmpl-") + ShortHex(setup.answer);
  setup.request_id = call.request_id;
  setup.route = call.route;
  setup.started = call.started;
  setup.headers.emplace_back("X-Request-Id", call.request_id);
  if (setup.terms.service_class) {
    setup.headers.emplace_back("X-Shoal-Class", ToString(*setup.terms.service_class));
  }
  if (!setup.request.seeded) {
    const auto seed = static_cast<int64_t>(setup.prompts.front().params.sampling.seed);
    setup.headers.emplace_back("X-Shoal-Seed", std::to_string(seed));
  }
  const std::string ignored = JoinNames(setup.request.ignored);
  if (!ignored.empty()) setup.headers.emplace_back("X-Shoal-Ignored", ignored);
  const std::string line = ignored_.Note(setup.request.ignored, Now(timer_));
  if (!line.empty()) LOG(WARNING) << line;
  metrics_.ignored_fields = ignored_.total();
  return Begin(call, std::move(setup));
}

std::unique_ptr<PendingAnswer> HttpGateway::Begin(const Call& call, AnswerSetup setup) {
  const auto now = [this] { return Now(timer_); };
  const auto generate = [this, now, &reply = call.reply](AnswerSetup what) {
    return std::make_unique<GenerationAnswer>(std::move(what), generation_, reply, formatter_,
                                              metrics_, live_, now);
  };
  if (options_.ladder == nullptr || !setup.terms.may_degrade) {
    auto answer = generate(std::move(setup));
    if (!answer->Start()) return nullptr;
    return answer;
  }
  auto answer = std::make_unique<LadderAnswer>(
      std::move(setup), LadderHost{*options_.ladder, call.reply, metrics_, text_threads_, now,
                                   [this] { return generation_.models(); }, generate});
  if (!answer->Start()) return nullptr;
  return answer;
}

void HttpGateway::SendJson(Call& call, int status, std::string body) {
  HttpResponse response;
  response.status = status;
  response.headers.emplace_back("X-Request-Id", call.request_id);
  response.body = std::move(body);
  metrics_.CountRequest(call.route, status);
  call.reply.Send(std::move(response));
}

void HttpGateway::SendModels(Call& call) {
  JsonWriter json;
  json.BeginObject().Key("object").String("list").Key("data").BeginArray();
  const std::vector<ServedModel> models = generation_.models();
  for (const ServedModel& model : models) {
    // Each name once, as the version that takes new requests.
    if (&model == core::FindModel(models, model.name)) WriteModel(json, model, started_seconds_);
  }
  SendJson(call, 200, json.EndArray().EndObject().Take());
}

void HttpGateway::SendModel(Call& call) {
  const std::string name = call.request.path.substr(kModelPrefix.size());
  JsonWriter json;
  WriteModel(json, GetModel(generation_.models(), name), started_seconds_);
  SendJson(call, 200, json.Take());
}

void HttpGateway::SendLive(Call& call) { SendJson(call, 200, R"({"status":"live"})"); }

void HttpGateway::SendParameters(Call& call) { SendJson(call, 200, ParametersJson()); }

void HttpGateway::SendVersion(Call& call) { SendJson(call, 200, options_.version_json); }

void HttpGateway::SendReady(Call& call) {
  // Of the model that requests get if they name none.
  const int64_t ready = generation_.models().front().groups_ready;
  const bool serving = ready > 0 && !stopping_;
  JsonWriter json;
  json.BeginObject().Key("status");
  json.String(stopping_ ? "stopping" : serving ? "ready" : "no group is ready");
  json.Key("groups_ready").Int(ready).EndObject();
  SendJson(call, serving ? 200 : 503, json.Take());
}

void HttpGateway::SendCluster(Call& call) { SendJson(call, 200, StatusJson(generation_.status())); }

void HttpGateway::SendRecords(Call& call) {
  RecordQuery query = ParseRecordQuery(call.request.query);
  query.tenant = call.caller.seen_tenant();
  SendJson(call, 200, RecordsJson(generation_.FindRecords(query)));
}

void HttpGateway::SendMetrics(Call& call) {
  metrics_.CountRequest(call.route, 200);
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.headers.emplace_back("X-Request-Id", call.request_id);
  response.body = metrics_.Write(generation_.status(), server_.connection_count());
  if (options_.ladder != nullptr) options_.ladder->WriteMetrics(response.body);
  call.reply.Send(std::move(response));
}

}  // namespace shoal::gateway
