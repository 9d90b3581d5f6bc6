#include "coordinator/gateway/http/http_request_reader.h"

// Where the server uses Boost.Beast. The header block is collected whole and checked by our
// own rules before Beast's parser sees it; the body's framing is Beast's.

#include <algorithm>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "transport/base/check.h"

namespace shoal::gateway {
namespace {

namespace http = boost::beast::http;

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return lower;
}

// RFC 9110 section 5.6.2.
bool IsToken(std::string_view text) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           kMarks.find(c) != std::string_view::npos;
  });
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// False for a '%' without two hex digits or an encoded NUL.
bool PercentDecode(std::string_view text, std::string& decoded) {
  decoded.clear();
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return false;
    const int high = HexDigit(text[i + 1]);
    const int low = HexDigit(text[i + 2]);
    if (high < 0 || low < 0 || high + low == 0) return false;
    decoded += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return true;
}

// What a header line may hold besides its line end.
bool IsHeaderByte(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte == '\t' || (byte >= 0x20 && byte != 0x7F);
}

}  // namespace

struct HttpRequestReader::Parser {
  http::request_parser<http::string_body> beast;
};

HttpRequestReader::HttpRequestReader(const HttpLimits& limits) : limits_(limits) {}
HttpRequestReader::~HttpRequestReader() = default;

void HttpRequestReader::Append(std::string_view bytes) {
  if (state_ == State::kFailed) return;
  if (offset_ > 0 && offset_ >= buffer_.size() / 2) {
    buffer_.erase(0, offset_);
    offset_ = 0;
  }
  buffer_.append(bytes);
}

HttpRequestReader::State HttpRequestReader::Advance() {
  if (state_ == State::kIdle || state_ == State::kHeader) AdvanceHeader();
  if (state_ == State::kBody) AdvanceBody();
  return state_;
}

bool HttpRequestReader::TakeContinue() {
  return state_ == State::kBody && std::exchange(wants_continue_, false);
}

HttpRequest HttpRequestReader::Take() {
  SHOAL_CHECK(state_ == State::kComplete);
  request_.body = std::move(parser_->beast.get().body());
  parser_.reset();
  state_ = State::kIdle;
  scanned_ = 0;
  wants_continue_ = false;
  return std::exchange(request_, {});
}

void HttpRequestReader::Consume(size_t bytes) {
  offset_ += bytes;
  scanned_ = 0;
}

void HttpRequestReader::Fail(int status, std::string message) {
  state_ = State::kFailed;
  failure_ = {status, std::move(message)};
  buffer_.clear();
  offset_ = 0;
}

void HttpRequestReader::AdvanceHeader() {
  // RFC 9112 section 2.2: an empty line before the request line is to be ignored.
  while (state_ == State::kIdle && buffered_bytes() >= 2 && buffer_[offset_] == '\r' &&
         buffer_[offset_ + 1] == '\n') {
    Consume(2);
  }
  const std::string_view rest = std::string_view(buffer_).substr(offset_);
  if (rest.empty() || (state_ == State::kIdle && rest == "\r")) return;
  state_ = State::kHeader;
  const size_t line_end = rest.substr(0, limits_.request_line_bytes_max).find('\n');
  if (line_end == std::string_view::npos && rest.size() >= limits_.request_line_bytes_max) {
    Fail(414, Str("the request line is longer than ", limits_.request_line_bytes_max, " bytes"));
    return;
  }
  const size_t end = rest.find("\r\n\r\n", scanned_);
  if (end == std::string_view::npos || end + 4 > limits_.header_bytes_max) {
    if (rest.size() >= limits_.header_bytes_max) {
      Fail(431, Str("the headers are longer than ", limits_.header_bytes_max, " bytes"));
      return;
    }
    // A bare line feed would make us wait for an end that the sender thinks it has sent.
    if (rest.find("\n\n", scanned_) != std::string_view::npos) {
      Fail(400, "a header line ends in LF without CR");
      return;
    }
    scanned_ = rest.size() >= 3 ? rest.size() - 3 : 0;
    return;
  }
  const std::string_view head = rest.substr(0, end + 4);
  CheckHead(head);
  if (state_ == State::kFailed) return;
  parser_ = std::make_unique<Parser>();
  parser_->beast.header_limit(static_cast<uint32_t>(limits_.header_bytes_max + 1));
  parser_->beast.body_limit(limits_.body_bytes_max);
  parser_->beast.eager(false);
  boost::beast::error_code error;
  const size_t used = parser_->beast.put(boost::asio::buffer(head.data(), head.size()), error);
  if (error == http::error::body_limit) {
    Fail(413, Str("the body is larger than ", limits_.body_bytes_max, " bytes"));
  } else if (error == http::error::bad_version) {
    Fail(505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
  } else if (error || !parser_->beast.is_header_done() || used != head.size()) {
    Fail(400, Str("malformed request: ", error ? error.message() : "unexpected end of headers"));
  } else {
    Consume(used);
    FinishHead();
  }
}

// Beast accepts folded lines and some control characters; these rules run before it.
void HttpRequestReader::CheckHead(std::string_view head) {
  bool first = true;
  while (head.size() > 2) {
    const size_t end = head.find("\r\n");
    const std::string_view line = head.substr(0, end);
    head.remove_prefix(end + 2);
    if (!std::all_of(line.begin(), line.end(), IsHeaderByte)) {
      return Fail(400, "a header line holds a control character");
    }
    if (!std::exchange(first, false)) {
      const size_t colon = line.find(':');
      if (line.front() == ' ' || line.front() == '\t') {
        return Fail(400, "folded header lines are not accepted");
      }
      if (colon == std::string_view::npos || !IsToken(line.substr(0, colon))) {
        return Fail(400, "a header line is not of the form 'Name: value'");
      }
    }
  }
}

void HttpRequestReader::FinishHead() {
  const auto& message = parser_->beast.get();
  int host_count = 0;
  int content_length_count = 0;
  int transfer_encoding_count = 0;
  for (const auto& field : message.base()) {
    std::string name = Lower({field.name_string().data(), field.name_string().size()});
    std::string value(field.value().data(), field.value().size());
    host_count += name == "host" ? 1 : 0;
    content_length_count += name == "content-length" ? 1 : 0;
    if (name == "content-length" && value.find_first_not_of("0123456789") != std::string::npos) {
      return Fail(400, "Content-Length is not a number");
    }
    if (name == "transfer-encoding") {
      ++transfer_encoding_count;
      if (Lower(value) != "chunked") {
        return Fail(400, "the only Transfer-Encoding accepted is 'chunked'");
      }
    }
    if (name == "expect") {
      if (Lower(value) != "100-continue") return Fail(417, "the only Expect is '100-continue'");
      wants_continue_ = message.version() == 11;
    }
    request_.headers.emplace_back(std::move(name), std::move(value));
  }
  request_.method = std::string(message.method_string());
  request_.http_1_0 = message.version() == 10;
  request_.keep_alive = parser_->beast.keep_alive();
  if (message.version() != 10 && message.version() != 11) {
    return Fail(505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
  }
  if (content_length_count > 1) return Fail(400, "more than one Content-Length");
  if (transfer_encoding_count > 1) return Fail(400, "more than one Transfer-Encoding");
  if (transfer_encoding_count + content_length_count > 1) {
    return Fail(400, "both Content-Length and Transfer-Encoding");
  }
  if (transfer_encoding_count > 0 && request_.http_1_0) {
    return Fail(400, "HTTP/1.0 has no Transfer-Encoding");
  }
  if (host_count > 1 || (host_count == 0 && !request_.http_1_0)) {
    return Fail(400, "exactly one Host header is required");
  }

  std::string target(message.target());
  const std::string lower = Lower(target.substr(0, 8));
  const size_t scheme = lower.rfind("http://", 0) == 0 ? 7 : lower == "https://" ? 8 : 0;
  if (scheme != 0) {  // RFC 9112 section 3.2.2: a server accepts the absolute form.
    const size_t slash = target.find_first_of("/?", scheme);
    target = slash == std::string::npos ? "/" : target.substr(slash);
    if (target.front() == '?') target.insert(0, "/");
  }
  const size_t question = target.find('?');
  if (question != std::string::npos) request_.query = target.substr(question + 1);
  if ((target.front() != '/' && target != "*") ||
      !PercentDecode(std::string_view(target).substr(0, question), request_.path)) {
    return Fail(400, "the request target is not a path");
  }
  state_ = parser_->beast.is_done() ? State::kComplete : State::kBody;
}

void HttpRequestReader::AdvanceBody() {
  while (state_ == State::kBody && buffered_bytes() > 0) {
    boost::beast::error_code error;
    const size_t used =
        parser_->beast.put(boost::asio::buffer(buffer_.data() + offset_, buffered_bytes()), error);
    wants_continue_ = false;  // The sender did not wait.
    Consume(used);
    if (error == http::error::body_limit) {
      return Fail(413, Str("the body is larger than ", limits_.body_bytes_max, " bytes"));
    }
    if (error && error != http::error::need_more) {
      return Fail(400, Str("malformed request body: ", error.message()));
    }
    if (parser_->beast.is_done()) {
      state_ = State::kComplete;
    } else if (error == http::error::need_more || used == 0) {
      // Only a chunk's size line or the trailers are ever left unconsumed.
      if (buffered_bytes() >= limits_.header_bytes_max) {
        Fail(400, "a chunk header or trailer is too long");
      }
      return;
    }
  }
}

}  // namespace shoal::gateway
