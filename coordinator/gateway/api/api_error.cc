#include "coordinator/gateway/api/api_error.h"

// The error object and the status codes of overload.

#include <utility>

#include "coordinator/gateway/json/json_writer.h"

namespace shoal::gateway {

ApiError MakeApiError(int status, std::string type, std::string code, const std::string& message) {
  ApiError error("", message, std::move(code));
  error.status = status;
  error.type = std::move(type);
  return error;
}

std::string ErrorObject(const ApiError& error, const std::string& request_id) {
  JsonWriter json;
  json.BeginObject().Key("message").String(error.what()).Key("type").String(error.type);
  json.Key("param");
  error.param.empty() ? json.Null() : json.String(error.param);
  json.Key("code");
  error.code.empty() ? json.Null() : json.String(error.code);
  json.Key("request_id");
  request_id.empty() ? json.Null() : json.String(request_id);
  if (error.max_context >= 0) {
    json.Key("prompt_tokens").Int(error.prompt_tokens).Key("max_context").Int(error.max_context);
  }
  if (error.retry_after_ms >= 0) {
    json.Key("retry_after_ms").Int(error.retry_after_ms).Key("predicted_wait_ms");
    error.predicted_wait_ms < 0 ? json.Null() : json.Int(error.predicted_wait_ms);
  }
  return json.EndObject().Take();
}

HttpResponse ErrorResponse(const ApiError& error, const std::string& request_id) {
  HttpResponse response;
  response.status = error.status;
  response.body = JsonWriter()
                      .BeginObject()
                      .Key("error")
                      .Raw(ErrorObject(error, request_id))
                      .EndObject()
                      .Take();
  // 0: to ask again as it is would be of no use, and a header asks for just that.
  if (error.retry_after_ms > 0) {
    // Whole seconds, rounded up, at least one (RFC 9110 section 10.2.3).
    const int64_t seconds = std::max<int64_t>(1, (error.retry_after_ms + 999) / 1000);
    response.headers.emplace_back("Retry-After", std::to_string(seconds));
  }
  return response;
}

ApiError FromRequestError(const RequestError& error) {
  const auto code = [&]() -> std::string {
    switch (error.kind) {
      case RequestError::Kind::kInvalid:
        return "invalid_value";
      case RequestError::Kind::kUnknownModel:
        return "model_not_found";
      case RequestError::Kind::kInvalidGrammar:
        return "invalid_grammar";
      case RequestError::Kind::kNoTokenizer:
        return "no_tokenizer";
      case RequestError::Kind::kNoChatTemplate:
        return "no_chat_template";
      case RequestError::Kind::kContextExceeded:
        return "context_length_exceeded";
      case RequestError::Kind::kCacheExceeded:
        return "kv_cache_exceeded";
    }
    return "invalid_value";
  };
  ApiError result(error.field, error.what(), code());
  if (error.kind == RequestError::Kind::kUnknownModel) result.status = 404;
  result.prompt_tokens = error.prompt_tokens;
  result.max_context = error.context_tokens;
  return result;
}

ApiError FromStreamError(const StreamError& error) {
  ApiError result("", error.message, std::string(ToString(error.reason)));
  switch (error.reason) {
    case BusyReason::kCursorExpired:
      result.status = 410;
      return result;
    case BusyReason::kStreamTaken:
      result.status = 409;
      return result;
    case BusyReason::kTooLarge:
    case BusyReason::kInvalid:
    case BusyReason::kCursorInvalid:
    case BusyReason::kCursorMismatch:
      return result;
    default:
      break;
  }
  result.predicted_wait_ms = error.predicted_wait_ms;
  if (error.reason == BusyReason::kQuotaExceeded) {
    result.status = 429;
    result.type = "rate_limit_error";
    result.retry_after_ms = std::max<int64_t>(0, error.retry_after_ms);
    return result;
  }
  result.status = 503;
  result.type = "server_error";
  if (error.reason == BusyReason::kRefused) {
    result.status = 500;
    return result;
  }
  result.retry_after_ms = std::max<int64_t>(0, error.retry_after_ms);
  return result;
}

ApiError FromDoorsRefusal(const StreamError& error) {
  ApiError refusal = FromStreamError(error);
  refusal.unrecorded = error;
  return refusal;
}

ApiError NumericError(const std::string& detail) {
  ApiError result("",
                  Str("the model's numbers were not finite", detail.empty() ? "" : " at ", detail),
                  "numeric_error");
  result.status = 500;
  result.type = "server_error";
  return result;
}

}  // namespace shoal::gateway
