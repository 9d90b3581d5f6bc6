#pragma once

// What a URL asks of the records.

#include <string_view>

#include "transport/base/overload/record.h"

namespace shoal::gateway {

// Of "request=ID&since_ms=N&after=N", each at most once; `text`: what stands after the '?'.
// Errors: ApiError 400 that names the parameter, what it must be, and what it is.
RecordQuery ParseRecordQuery(std::string_view text);

}  // namespace shoal::gateway
