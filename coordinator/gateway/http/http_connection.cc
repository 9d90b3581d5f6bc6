#include "coordinator/gateway/http/http_connection.h"

// Three promises run side by side until one ends: reading, writing, and an explicit close. State
// changes happen in plain functions between them, so no promise ever destroys itself.

#include <glog/logging.h>
#include <kj/exception.h>
#include <sstream>

#include "transport/base/check.h"

namespace shoal::gateway {
namespace {

// One write, with its own deadline: small, so that a client that reads at all takes it in time.
constexpr size_t kWriteBytes = 16 * 1024;

}  // namespace

TimeNs Now(const kj::Timer& timer) {
  return (timer.now() - kj::origin<kj::TimePoint>()) / kj::NANOSECONDS;
}

HttpConnection::HttpConnection(kj::Own<kj::AsyncIoStream> stream, const HttpLimits& limits,
                               HttpService& service, kj::Timer& timer)
    : stream_(kj::mv(stream)), limits_(limits), service_(service), timer_(timer), reader_(limits) {}

HttpConnection::~HttpConnection() noexcept = default;

kj::Promise<void> HttpConnection::Run() {
  auto closed = kj::newPromiseAndFulfiller<void>();
  closed_ = kj::mv(closed.fulfiller);
  StartReading();
  // A reset is noticed even while reading is paused.
  return ReadLoop()
      .exclusiveJoin(WriteLoop())
      .exclusiveJoin(stream_->whenWriteDisconnected())
      .exclusiveJoin(kj::mv(closed.promise))
      .then([this]() { Close(); },
            [this](kj::Exception&& error) {
              VLOG(1) << "connection ended: " << error.getDescription().cStr();
              Close();
            });
}

void HttpConnection::Tick() {
  const TimeNs now = Now(timer_);
  if (now >= write_deadline_) {
    LOG(INFO) << "dropping a client that has not taken " << writing_.size() << " bytes within "
              << limits_.write_stall_ms << " ms; " << output_.size() << " more were unsent";
    return Close();
  }
  if (now >= linger_deadline_) return Close();
  if (state_ == State::kReading && now >= read_deadline_) {
    if (idle()) return Close();
    return RefuseRequest(service_.Refuse(408, "the request did not arrive in time"));
  }
  if (state_ == State::kAnswering && pending_ != nullptr) pending_->Tick(now);
}

void HttpConnection::Drain() {
  draining_ = true;
  CloseIfIdle();
}

void HttpConnection::CloseIfIdle() {
  if (idle()) Close();
}

kj::Promise<void> HttpConnection::ReadLoop() {
  const bool busy = state_ == State::kAnswering || state_ == State::kFlushing;
  if (busy && reader_.buffered_bytes() >= limits_.pipelined_bytes_max) {
    auto wake = kj::newPromiseAndFulfiller<void>();
    wake_reader_ = kj::mv(wake.fulfiller);
    return wake.promise.then([this]() { return ReadLoop(); });
  }
  return stream_->tryRead(input_, 1, sizeof(input_)).then([this](size_t bytes) {
    if (bytes == 0) {
      OnEnd();
      return kj::Promise<void>(kj::NEVER_DONE);
    }
    OnBytes(bytes);
    return ReadLoop();
  });
}

void HttpConnection::OnBytes(size_t bytes) {
  if (state_ == State::kLingering || state_ == State::kClosed) return;
  if (state_ == State::kFlushing && !keep_alive_) return;  // It was told that this is the last.
  read_at_ = Now(timer_);
  reader_.Append({reinterpret_cast<const char*>(input_), bytes});
  if (state_ == State::kReading) ReadRequests();
}

void HttpConnection::OnEnd() {
  ended_ = true;
  // Whoever stops sending has hung up: an answer that is still being made has no reader.
  if (pending_ != nullptr || state_ == State::kReading || state_ == State::kLingering) Close();
}

// Takes the next request if it is complete. The one after it waits for OnFlushed().
void HttpConnection::ReadRequests() {
  const auto before = reader_state_;
  reader_state_ = reader_.Advance();
  // One that was read ahead came with the last bytes, if not before them.
  if (before == HttpRequestReader::State::kIdle) arrived_ = read_at_;
  switch (reader_state_) {
    case HttpRequestReader::State::kIdle:
      return;
    case HttpRequestReader::State::kHeader:
      if (before == HttpRequestReader::State::kIdle) {
        read_deadline_ = Now(timer_) + limits_.header_ms * kMillisecondNs;
      }
      return;
    case HttpRequestReader::State::kBody:
      if (before != HttpRequestReader::State::kBody) {
        read_deadline_ = Now(timer_) + limits_.body_ms * kMillisecondNs;
        auto refusal = service_.CheckHead(reader_.head());
        if (refusal) return RefuseRequest(*std::move(refusal));
      }
      if (reader_.TakeContinue()) Write("HTTP/1.1 100 Continue\r\n\r\n");
      return;
    case HttpRequestReader::State::kFailed:
      return RefuseRequest(service_.Refuse(reader_.failure().status, reader_.failure().message));
    case HttpRequestReader::State::kComplete:
      break;
  }
  HttpRequest request = reader_.Take();
  request.arrived = arrived_;
  reader_state_ = HttpRequestReader::State::kIdle;
  read_deadline_ = INT64_MAX;
  keep_alive_ = request.keep_alive && !draining_;
  head_only_ = request.method == "HEAD";
  http_1_0_ = request.http_1_0;
  state_ = State::kAnswering;
  pending_ = service_.Answer(request, *this);
  if (pending_ != nullptr && ended_) Close();
}

void HttpConnection::RefuseRequest(HttpResponse refusal) {
  read_deadline_ = INT64_MAX;
  keep_alive_ = false;
  head_only_ = false;
  http_1_0_ = false;
  state_ = State::kAnswering;
  Send(std::move(refusal));
}

std::string HttpConnection::Head(const HttpResponse& response, bool has_length) {
  if (draining_) keep_alive_ = false;
  std::string head = Str("HTTP/1.1 ", response.status, " ", ReasonPhrase(response.status),
                         "\r\nDate: ", HttpDate(service_.UnixSeconds()),
                         "\r\nContent-Type: ", response.content_type, "\r\n");
  for (const auto& [name, value] : response.headers) head += Str(name, ": ", value, "\r\n");
  if (has_length) {
    head += Str("Content-Length: ", response.body.size(), "\r\n");
  } else if (chunked_) {
    head += "Transfer-Encoding: chunked\r\n";
  }
  if (!keep_alive_) {
    head += "Connection: close\r\n";
  } else if (http_1_0_) {
    head += "Connection: keep-alive\r\n";
  }
  return head + "\r\n";
}

void HttpConnection::Send(HttpResponse response) {
  if (state_ != State::kAnswering) return;
  Write(Head(response, true));
  if (!head_only_) Write(response.body);
  Finished();
}

void HttpConnection::StartStream(HttpResponse head) {
  if (state_ != State::kAnswering) return;
  chunked_ = !http_1_0_;
  if (!chunked_) keep_alive_ = false;  // Only the end of the connection ends the body.
  Write(Head(head, false));
}

void HttpConnection::Stream(std::string_view bytes) {
  if (state_ != State::kAnswering || bytes.empty()) return;
  if (!chunked_) return Write(bytes);
  std::ostringstream size;
  size << std::hex << bytes.size() << "\r\n";
  Write(size.str());
  Write(bytes);
  Write("\r\n");
}

void HttpConnection::EndStream() {
  if (state_ != State::kAnswering) return;
  if (chunked_) Write("0\r\n\r\n");
  Finished();
}

bool HttpConnection::HasRoom() const {
  return output_.size() + writing_.size() < limits_.stream_bytes_max;
}

void HttpConnection::Finished() {
  // The pending answer may be calling us: it is destroyed in OnFlushed(), outside its own call.
  state_ = State::kFlushing;
  chunked_ = false;
}

void HttpConnection::Write(std::string_view bytes) {
  if (state_ == State::kClosed) return;
  output_.append(bytes);
  if (wake_writer_.get() != nullptr) kj::mv(wake_writer_)->fulfill();
}

kj::Promise<void> HttpConnection::WriteLoop() {
  if (output_.empty()) {
    write_deadline_ = INT64_MAX;
    OnFlushed();
  }
  if (output_.empty()) {
    auto wake = kj::newPromiseAndFulfiller<void>();
    wake_writer_ = kj::mv(wake.fulfiller);
    return wake.promise.then([this]() { return WriteLoop(); });
  }
  if (output_.size() <= kWriteBytes) {
    writing_.clear();
    writing_.swap(output_);
  } else {
    writing_ = output_.substr(0, kWriteBytes);
    output_.erase(0, kWriteBytes);
  }
  write_deadline_ = Now(timer_) + limits_.write_stall_ms * kMillisecondNs;
  return stream_->write(writing_.data(), writing_.size()).then([this]() {
    OnWritten();
    return WriteLoop();
  });
}

void HttpConnection::OnWritten() {
  writing_.clear();
  if (state_ == State::kAnswering && pending_ != nullptr && HasRoom()) pending_->OnRoom();
}

void HttpConnection::OnFlushed() {
  if (state_ != State::kFlushing) return;
  pending_.reset();
  if (!keep_alive_) {
    state_ = State::kLingering;
    linger_deadline_ = Now(timer_) + limits_.linger_ms * kMillisecondNs;
    stream_->shutdownWrite();
    if (ended_) Close();
    return;
  }
  StartReading();
  ReadRequests();
  // A client that stopped sending still gets the answers to whole requests it sent before.
  if (ended_ && state_ == State::kReading) return Close();
  if (draining_ && state_ == State::kReading) return Close();
  if (wake_reader_.get() != nullptr) kj::mv(wake_reader_)->fulfill();
}

void HttpConnection::StartReading() {
  state_ = State::kReading;
  idle_since_ = Now(timer_);
  read_deadline_ = idle_since_ + limits_.idle_ms * kMillisecondNs;
}

void HttpConnection::Close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  if (closed_.get() != nullptr) closed_->fulfill();
}

}  // namespace shoal::gateway
