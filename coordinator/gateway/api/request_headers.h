#pragma once

// What a generation's headers say: the form of its body, its key, and its terms.

#include <string>
#include <string_view>

#include "coordinator/gateway/http/http_message.h"
#include "coordinator/gateway/json/json_writer.h"
#include "transport/base/clock.h"
#include "transport/base/overload/request_terms.h"
#include "transport/rpc/caller.h"

namespace shoal::gateway {

// Null if it is not there. Errors: ApiError 400 if it comes more than once. `name`: in lower case.
const std::string* FindOnce(const HttpRequest& request, std::string_view name);

// A browser asks first before it sends JSON for a foreign page, but not before it sends what a form
// can hold. Errors: ApiError 415.
void CheckBodyForm(const HttpRequest& request);

// What a header of 1 or 0 says; `missing` if it is not there. Errors: ApiError.
bool ReadSwitch(const HttpRequest& request, std::string_view name, bool missing);

// The API key that is shown; empty if none is.
std::string_view ShownKey(const HttpRequest& request);

// X-Shoal-Class, -Deadline-Ms, -Attempt and -Session. `request_id`: what records call the request.
// Errors: ApiError 400 that names the header, what it must be, and what it is.
RequestTerms ReadTerms(const HttpRequest& request, const rpc::Caller& caller,
                       const std::string& request_id);

// So much of its time has passed at the door. Errors: ApiError, 503, if nothing is left.
void TakeTime(RequestTerms& terms, TimeNs passed);

// The headers above, and those of other things, as a JSON array of {"name", "note"}.
void WriteHeaders(JsonWriter& json);

}  // namespace shoal::gateway
