#include "coordinator/gateway/api/record_query.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <string>

#include "coordinator/gateway/api/api_error.h"
#include "transport/base/check.h"

namespace shoal::gateway {
namespace {

constexpr size_t kRequestBytesMax = 256;

int64_t ParseCount(std::string_view name, std::string_view value) {
  int64_t count = -1;
  const auto parsed = std::from_chars(value.data(), value.data() + value.size(), count);
  if (parsed.ec == std::errc() && parsed.ptr == value.data() + value.size() && count >= 0) {
    return count;
  }
  throw ApiError(std::string(name), Str(name, ": expected a whole number of 0 or more, found '",
                                        value.substr(0, kRequestBytesMax), "'"));
}

void TakeParameter(std::string_view name, std::string_view value, RecordQuery& query) {
  if (name == "since_ms") {
    query.since_ms = ParseCount(name, value);
  } else if (name == "after") {
    query.after = static_cast<uint64_t>(ParseCount(name, value));
  } else if (name == "request") {
    if (value.empty() || value.size() > kRequestBytesMax) {
      throw ApiError("request", Str("request: expected 1 to ", kRequestBytesMax,
                                    " characters, as in X-Request-Id, found ", value.size()));
    }
    query.request = value;
  } else {
    throw ApiError(std::string(name.substr(0, kRequestBytesMax)),
                   Str("unknown parameter '", name.substr(0, kRequestBytesMax),
                       "': expected request, since_ms or after"));
  }
}

}  // namespace

RecordQuery ParseRecordQuery(std::string_view text) {
  RecordQuery query;
  std::set<std::string_view> taken;
  while (!text.empty()) {
    const std::string_view pair = text.substr(0, text.find('&'));
    text.remove_prefix(std::min(text.size(), pair.size() + 1));
    const size_t equals = pair.find('=');
    const std::string_view name = pair.substr(0, equals);
    if (equals == std::string_view::npos || !taken.insert(name).second) {
      throw ApiError("", Str("the query's part '", pair.substr(0, kRequestBytesMax),
                             "': expected NAME=VALUE, each name once"));
    }
    TakeParameter(name, pair.substr(equals + 1), query);
  }
  return query;
}

}  // namespace shoal::gateway
