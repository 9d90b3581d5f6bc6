#pragma once

// Between a connection and whoever answers its requests.

#include <memory>
#include <optional>
#include <string_view>

#include "coordinator/gateway/http/http_message.h"
#include "transport/base/clock.h"

namespace shoal::gateway {

// How one request is answered: Send, or StartStream, Stream..., EndStream. Owned by the event loop.
class HttpReply {
 public:
  virtual ~HttpReply() = default;
  virtual void Send(HttpResponse response) = 0;
  // Sends the head; its body is not used.
  virtual void StartStream(HttpResponse head) = 0;
  // Takes any amount; whoever has much to say asks HasRoom() before each piece.
  virtual void Stream(std::string_view bytes) = 0;
  virtual void EndStream() = 0;
  // Whether little enough is unsent. Where it was not, PendingAnswer::OnRoom() tells when it is. A
  // client that takes nothing for too long is dropped.
  virtual bool HasRoom() const = 0;
  // Breaks a stream off, so that the client cannot take what it has for the whole.
  virtual void Abort() = 0;
};

// An answer that is still being made. Destroying it stops the work: that is how a hang-up arrives.
class PendingAnswer {
 public:
  virtual ~PendingAnswer() = default;
  // Called a few times a second.
  virtual void Tick(TimeNs now) = 0;
  // The client has taken something, and the reply has room.
  virtual void OnRoom() = 0;
};

class HttpService {
 public:
  virtual ~HttpService() = default;
  // Answers at once and returns null, or keeps `reply` (which outlives the returned object) and
  // answers later; inside this call it may begin a stream, but not end it.
  virtual std::unique_ptr<PendingAnswer> Answer(const HttpRequest& request, HttpReply& reply) = 0;
  // Why a request of that head (its body is to come) is not even read. None: it is.
  virtual std::optional<HttpResponse> CheckHead(const HttpRequest& head) = 0;
  // For the Date of an answer: seconds since 1970.
  virtual int64_t UnixSeconds() = 0;
  // A request that could not even be read; for counting.
  virtual HttpResponse Refuse(int status, const std::string& message) = 0;
};

}  // namespace shoal::gateway
