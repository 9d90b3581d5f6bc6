#pragma once

// What goes wrong with a request, in the shape that OpenAI's clients expect.

#include <cstdint>
#include <optional>
#include <string>

#include "coordinator/core/generation_service.h"
#include "coordinator/gateway/http/http_message.h"
#include "coordinator/gateway/text/request_error.h"
#include "transport/base/error.h"

namespace shoal::gateway {

// Thrown while a request is validated; the gateway turns it into a response.
class ApiError : public Error {
 public:
  // 400. `param`: the field's path, such as "messages[0].content"; empty if none.
  ApiError(std::string param, const std::string& message, std::string code = "invalid_value")
      : Error(ErrorCode::kInvalidArgument, message),
        param(std::move(param)),
        code(std::move(code)) {}

  int status = 400;
  std::string type = "invalid_request_error";
  std::string param;
  std::string code;
  int64_t prompt_tokens = -1;  // With max_context, if not negative.
  int64_t max_context = -1;
  int64_t retry_after_ms = -1;  // As in StreamError; -1: it does not apply.
  int64_t predicted_wait_ms = -1;
  std::optional<StreamError> unrecorded{};  // A refusal that no record tells of yet.
};

ApiError MakeApiError(int status, std::string type, std::string code, const std::string& message);

// {"message":...,"type":...,"param":...,"code":...,"request_id":...}, without the outer "error";
// with retry_after_ms and predicted_wait_ms (null: unknown) where there is something to wait for.
std::string ErrorObject(const ApiError& error, const std::string& request_id);

// With Retry-After where it belongs.
HttpResponse ErrorResponse(const ApiError& error, const std::string& request_id);

// What a request's reading finds: 404 for a model that is not served, else 400, with a code for
// each kind.
ApiError FromRequestError(const RequestError& error);

// 400 if it is wrong or too large for any group, 409 for an answer that another client has taken,
// 410 for a cursor that has expired, 500 if a group refused it after all, else 503.
ApiError FromStreamError(const StreamError& error);
// Of a refusal by the door itself, of which the region does not know.
ApiError FromDoorsRefusal(const StreamError& error);

// A generation whose numbers were not finite: 500, code numeric_error.
ApiError NumericError(const std::string& detail);

}  // namespace shoal::gateway
