#pragma once

// An HTTP/1.1 request and response as the gateway's endpoints see them, and the limits on both.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "transport/base/clock.h"

namespace shoal::gateway {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct HttpLimits {
  size_t request_line_bytes_max = 8 * 1024;
  size_t header_bytes_max = 16 * 1024;  // Request line included.
  size_t body_bytes_max = 4 * 1024 * 1024;
  size_t pipelined_bytes_max = 64 * 1024;  // Read ahead of the request being answered.
  size_t stream_bytes_max = 256 * 1024;    // Unsent output of one stream; then it makes no more.
  int64_t header_ms = 10'000;              // From a request's first byte to the end of its headers.
  int64_t body_ms = 60'000;                // From there to the end of its body.
  int64_t idle_ms = 75'000;                // Between requests.
  int64_t write_stall_ms = 30'000;         // A client that takes no byte for so long is dropped.
  int64_t linger_ms = 2'000;  // Reading on after the last response, so that it is not lost.
  size_t connections_max = 4096;
};

struct HttpRequest {
  std::string method;
  std::string path;   // Percent-decoded, without the query.
  std::string query;  // As sent, without '?'.
  Headers headers;    // Names in lower case, in order.
  std::string body;
  bool http_1_0 = false;
  bool keep_alive = true;
  TimeNs arrived = 0;  // Its first byte.

  // The first header of that (lower-case) name; null if absent.
  const std::string* Find(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  Headers headers;  // Beyond Content-Type, Content-Length and the connection's own.
  std::string body;
};

// "Not Found" for 404; empty for one that has no standard phrase, which a status line may be.
std::string_view ReasonPhrase(int status);

// "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 section 5.6.7).
std::string HttpDate(int64_t unix_seconds);

// Without blanks around it; only ASCII letters have cases.
std::string LowerTrimmed(std::string_view text);

// Whether a Content-Type says that the body is JSON: application/json or application/*+json, with
// any parameters (RFC 6839 section 3.1).
bool IsJsonType(std::string_view content_type);

// 1 to 128 letters, digits, '-', '_' and '.': safe in any header.
bool IsPlainName(std::string_view text);

}  // namespace shoal::gateway
