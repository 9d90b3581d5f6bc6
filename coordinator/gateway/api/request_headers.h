#pragma once

// What a request's headers say: the form of its body, its key, and all that one table lists.

#include <string>
#include <string_view>

#include "coordinator/gateway/http/http_message.h"
#include "coordinator/gateway/json/json_writer.h"
#include "transport/base/overload/request_terms.h"
#include "transport/rpc/caller.h"

namespace shoal::gateway {

// Null if it is not there. Errors: ApiError 400 if it comes more than once. `name`: in lower case.
const std::string* FindOnce(const HttpRequest& request, std::string_view name);

// A browser asks first before it sends JSON for a foreign page, but not before it sends what a form
// can hold. Errors: ApiError 415.
void CheckBodyForm(const HttpRequest& request);

// The API key that is shown; empty if none is.
std::string_view ShownKey(const HttpRequest& request);

struct GenerationHeaders {
  RequestTerms terms{};
  bool resumable = false;  // Its events have cursors, as the body may ask for itself.
  bool degrade = true;     // A lower rung of the ladder may answer it.
  bool strict = false;     // Fields that nobody here knows are refused.
  std::string cursor{};    // Last-Event-ID. Empty: it begins anew.
};

// What each row of the table says. `request_id`: what records call the request. Errors: ApiError
// 400 that names the header, what it must be, and what it is, or that it comes twice.
GenerationHeaders ReadHeaders(const HttpRequest& request, const rpc::Caller& caller,
                              const std::string& request_id);

// The table as a JSON array of {"name", "note"}.
void WriteHeaders(JsonWriter& json);

}  // namespace shoal::gateway
