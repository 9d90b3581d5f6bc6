#pragma once

// Bytes of an HTTP/1.1 response into its parts, and bytes of a body into server-sent events. The
// pieces may end anywhere. Standard library only.

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace shoal::client {

// The server said something that is no HTTP, or too much.
struct HttpFormatError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline std::string LowerCase(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

inline std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) {
    text.remove_suffix(1);
  }
  return text;
}

struct HttpHead {
  int32_t status = 0;                                        // 0: it has not all come.
  std::vector<std::pair<std::string, std::string>> headers;  // Names in lower case.

  // Empty if there is none.
  std::string Get(std::string_view name) const {
    for (const auto& [key, value] : headers) {
      if (key == name) return value;
    }
    return {};
  }
};

class HttpReader {
 public:
  static constexpr size_t kHeadBytesMax = 64 << 10;

  // Result: false once the response is whole, or `on_body` gave false. Errors: HttpFormatError.
  bool Add(std::string_view bytes, const std::function<bool(std::string_view)>& on_body) {
    rest_ += bytes;
    size_t at = 0;  // What is before it is read.
    while (state_ != State::kDone) {
      const std::string_view left = std::string_view(rest_).substr(at);
      if (state_ == State::kBody) {
        if (left.empty()) break;
        const std::string_view piece = left.substr(0, std::min<uint64_t>(left_, left.size()));
        at += piece.size();
        if (left_ != kUntilClose) left_ -= piece.size();
        if (left_ == 0) state_ = is_chunked_ ? State::kChunkEnd : State::kDone;
        if (!on_body(piece)) return false;
        continue;
      }
      const size_t end = left.find('\n');
      if (end == left.npos) {
        if (left.size() > kHeadBytesMax) throw HttpFormatError("a header line without an end");
        break;
      }
      at += end + 1;
      TakeLine(std::string(Trim(left.substr(0, end))));
    }
    rest_.erase(0, at);
    return state_ != State::kDone;
  }
  // The server closed the connection. Result: whether the response is whole.
  bool IsWholeAtClose() const {
    return state_ == State::kDone || (state_ == State::kBody && left_ == kUntilClose);
  }
  bool has_head() const { return state_ > State::kHeaders; }
  const HttpHead& head() const { return head_; }

 private:
  enum class State : uint8_t { kStatus, kHeaders, kBody, kChunkSize, kChunkEnd, kTrailer, kDone };
  static constexpr uint64_t kUntilClose = UINT64_MAX;

  void TakeLine(const std::string& line) {
    head_bytes_ += line.size() + 2;
    switch (state_) {
      case State::kStatus:
        if (!line.starts_with("HTTP/1.") || line.size() < 12) {
          throw HttpFormatError("expected 'HTTP/1.1 STATUS', found '" + line.substr(0, 40) + "'");
        }
        head_ = {};
        head_.status = static_cast<int32_t>(Number(std::string_view(line).substr(9, 3), 10));
        state_ = State::kHeaders;
        break;
      case State::kHeaders:
        if (head_bytes_ > kHeadBytesMax) throw HttpFormatError("headers beyond 64 KiB");
        line.empty() ? BeginBody() : TakeHeader(line);
        break;
      case State::kChunkSize:
        left_ = Number(Trim(std::string_view(line).substr(0, line.find(';'))), 16);
        state_ = left_ == 0 ? State::kTrailer : State::kBody;
        head_bytes_ = 0;
        break;
      case State::kChunkEnd:
        state_ = State::kChunkSize;
        break;
      default:
        if (head_bytes_ > kHeadBytesMax) throw HttpFormatError("trailers beyond 64 KiB");
        if (line.empty()) state_ = State::kDone;
    }
  }
  void TakeHeader(const std::string& line) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) {
      throw HttpFormatError("expected 'NAME: VALUE', found '" + line.substr(0, 40) + "'");
    }
    head_.headers.emplace_back(LowerCase(line.substr(0, colon)), Trim(line.substr(colon + 1)));
  }
  void BeginBody() {
    if (head_.status < 200) {  // An interim one: the response follows.
      state_ = State::kStatus;
      return;
    }
    const std::string length = head_.Get("content-length");
    is_chunked_ = LowerCase(head_.Get("transfer-encoding")) == "chunked";
    left_ = kUntilClose;
    if (!is_chunked_ && !length.empty()) left_ = Number(length, 10);
    if (head_.status == 204 || head_.status == 304) left_ = 0;
    state_ = is_chunked_ ? State::kChunkSize : left_ == 0 ? State::kDone : State::kBody;
  }
  static uint64_t Number(std::string_view text, int base) {
    uint64_t number = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), number, base);
    if (read.ec != std::errc() || read.ptr != text.data() + text.size() || number > INT64_MAX) {
      throw HttpFormatError("expected a number, found '" + std::string(text.substr(0, 40)) + "'");
    }
    return number;
  }

  State state_ = State::kStatus;
  std::string rest_;
  size_t head_bytes_ = 0;
  uint64_t left_ = 0;
  bool is_chunked_ = false;
  HttpHead head_;
};

struct HttpEvent {
  std::string id;
  std::string data;
};

// What has no blank line after it is no event yet.
class EventReader {
 public:
  static constexpr size_t kEventBytesMax = 64 << 20;

  // Result: false once `on_event` gave false. Errors: HttpFormatError.
  bool Add(std::string_view bytes, const std::function<bool(const HttpEvent&)>& on_event) {
    rest_ += bytes;
    size_t begin = 0;
    for (size_t end = 0; (end = rest_.find('\n', begin)) != std::string::npos; begin = end + 1) {
      std::string_view line = std::string_view(rest_).substr(begin, end - begin);
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (line.empty()) {
        const HttpEvent event = std::exchange(event_, {});
        const bool has_data = std::exchange(has_data_, false);
        if (has_data && !on_event(event)) return false;
        continue;
      }
      const size_t colon = std::min(line.find(':'), line.size());
      std::string_view value = line.substr(std::min(colon + 1, line.size()));
      if (value.starts_with(' ')) value.remove_prefix(1);
      if (line.substr(0, colon) == "id") event_.id = value;
      if (line.substr(0, colon) != "data") continue;
      if (std::exchange(has_data_, true)) event_.data += '\n';
      event_.data += value;
    }
    rest_.erase(0, begin);
    if (rest_.size() + event_.data.size() > kEventBytesMax) {
      throw HttpFormatError("an event beyond 64 MiB");
    }
    return true;
  }

 private:
  std::string rest_;
  HttpEvent event_;
  bool has_data_ = false;
};

}  // namespace shoal::client
