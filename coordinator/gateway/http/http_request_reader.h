#pragma once

// Bytes of a connection in, HTTP requests out: no sockets, no time.
//
// Stricter than the grammar where lenience lets two parties disagree about where a request ends
// (RFC 9112 sections 5.2, 6.1 to 6.3, 11.2): no folded lines, bare line feeds, control characters
// or second Content-Length; no Transfer-Encoding other than one "chunked", and never beside
// Content-Length; exactly one Host in HTTP/1.1.

#include <memory>
#include <string>
#include <string_view>

#include "coordinator/gateway/http/http_message.h"

namespace shoal::gateway {

struct HttpFailure {
  int status = 400;  // 400, 413, 414, 417, 431 or 505
  std::string message;
};

// Owned by the event loop. After kFailed the connection cannot be used for another request.
class HttpRequestReader {
 public:
  enum class State { kIdle, kHeader, kBody, kComplete, kFailed };

  explicit HttpRequestReader(const HttpLimits& limits);
  ~HttpRequestReader();

  void Append(std::string_view bytes);

  // Goes as far as the bytes allow. kIdle: not one byte of the next request has come.
  State Advance();

  // True once for each request whose sender waits for "100 Continue" before its body.
  bool TakeContinue();

  // Without its body, and its time. Only in kBody.
  const HttpRequest& head() const { return request_; }

  // The complete request; the bytes after it are kept for the next Advance(). Only in kComplete.
  HttpRequest Take();

  // Only in kFailed.
  const HttpFailure& failure() const { return failure_; }

  // Bytes not yet parsed.
  size_t buffered_bytes() const { return buffer_.size() - offset_; }

 private:
  struct Parser;

  void AdvanceHeader();
  void AdvanceBody();
  void CheckHead(std::string_view head);
  void FinishHead();
  void Fail(int status, std::string message);
  void Consume(size_t bytes);

  const HttpLimits limits_;
  State state_ = State::kIdle;
  std::string buffer_;
  size_t offset_ = 0;
  size_t scanned_ = 0;  // Bytes after offset_ that hold no end of headers.
  bool wants_continue_ = false;
  HttpRequest request_;
  HttpFailure failure_;
  std::unique_ptr<Parser> parser_;
};

}  // namespace shoal::gateway
