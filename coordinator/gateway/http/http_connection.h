#pragma once

// One client's connection: requests in order, answers in the same order, every wait bounded.

#include <kj/async-io.h>
#include <kj/timer.h>

#include <memory>
#include <string>

#include "coordinator/gateway/http/http_exchange.h"
#include "coordinator/gateway/http/http_request_reader.h"

namespace shoal::gateway {

// Nanoseconds since the timer's origin.
TimeNs Now(const kj::Timer& timer);

// Threading: owned by the event loop. One request is in flight at a time; what the client sends
// meanwhile is read ahead up to a bound, because reading is what notices that it hung up.
class HttpConnection : private HttpReply {
 public:
  HttpConnection(kj::Own<kj::AsyncIoStream> stream, const HttpLimits& limits, HttpService& service,
                 kj::Timer& timer);
  ~HttpConnection() noexcept override;

  // Resolves, never fails, when the connection is over. The connection must outlive the promise.
  kj::Promise<void> Run();

  // Enforces deadlines and ticks the pending answer. Call a few times a second.
  void Tick();

  // No further request is taken; ends now if none is in flight.
  void Drain();

  bool answering() const { return state_ == State::kAnswering; }

  // Between requests: not one byte of the next has come.
  bool idle() const {
    return state_ == State::kReading && reader_state_ == HttpRequestReader::State::kIdle;
  }
  TimeNs idle_since() const { return idle_since_; }
  void CloseIfIdle();

 private:
  enum class State { kReading, kAnswering, kFlushing, kLingering, kClosed };

  void Send(HttpResponse response) override;
  void StartStream(HttpResponse head) override;
  void Stream(std::string_view bytes) override;
  void EndStream() override;
  bool HasRoom() const override;
  void Abort() override { Close(); }

  kj::Promise<void> ReadLoop();
  kj::Promise<void> WriteLoop();
  void OnBytes(size_t bytes);
  void OnEnd();
  void OnWritten();
  void OnFlushed();
  void ReadRequests();
  void StartReading();
  // Answers before it has come, and then closes.
  void RefuseRequest(HttpResponse refusal);
  std::string Head(const HttpResponse& response, bool has_length);
  void Write(std::string_view bytes);
  void Finished();
  void Close();

  kj::Own<kj::AsyncIoStream> stream_;
  const HttpLimits limits_;
  HttpService& service_;
  kj::Timer& timer_;

  State state_ = State::kReading;
  HttpRequestReader reader_;
  HttpRequestReader::State reader_state_ = HttpRequestReader::State::kIdle;
  std::unique_ptr<PendingAnswer> pending_;
  bool ended_ = false;  // The client will send nothing more.
  bool draining_ = false;
  // Of the request being answered:
  bool keep_alive_ = true;
  bool head_only_ = false;
  bool chunked_ = false;
  bool http_1_0_ = false;

  TimeNs idle_since_ = 0;  // Only where it is idle.
  TimeNs read_at_ = 0;     // The last bytes came.
  TimeNs arrived_ = 0;     // The first byte of the request that is read.
  TimeNs read_deadline_ = INT64_MAX;
  TimeNs write_deadline_ = INT64_MAX;
  TimeNs linger_deadline_ = INT64_MAX;

  kj::byte input_[16 * 1024];
  std::string output_;   // Not yet handed to the stream.
  std::string writing_;  // Being written.
  kj::Own<kj::PromiseFulfiller<void>> wake_reader_;
  kj::Own<kj::PromiseFulfiller<void>> wake_writer_;
  kj::Own<kj::PromiseFulfiller<void>> closed_;
};

}  // namespace shoal::gateway
