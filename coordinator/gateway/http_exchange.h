#pragma once

// Between a connection and whoever answers its requests.

#include <memory>
#include <string_view>

#include "coordinator/gateway/http_message.h"
#include "transport/base/clock.h"

namespace shoal::gateway {

// How one request is answered: Send, or StartStream, Stream..., EndStream. Owned by the event loop.
class HttpReply {
 public:
  virtual ~HttpReply() = default;
  virtual void Send(HttpResponse response) = 0;
  // Sends the head; its body is not used.
  virtual void StartStream(HttpResponse head) = 0;
  // Nothing is sent, and the client is dropped soon after, once too much of it is unsent.
  virtual void Stream(std::string_view bytes) = 0;
  virtual void EndStream() = 0;
};

// An answer that is still being made. Destroying it stops the work: that is how a hang-up arrives.
class PendingAnswer {
 public:
  virtual ~PendingAnswer() = default;
  // Called a few times a second.
  virtual void Tick(TimeNs now) = 0;
};

class HttpService {
 public:
  virtual ~HttpService() = default;
  // Answers at once and returns null, or keeps `reply` (which outlives the returned object) and
  // answers later, never from inside this call.
  virtual std::unique_ptr<PendingAnswer> Answer(const HttpRequest& request, HttpReply& reply) = 0;
  // For the Date of an answer: seconds since 1970.
  virtual int64_t UnixSeconds() = 0;
  // A request that could not even be read; for counting.
  virtual HttpResponse Refuse(int status, const std::string& message) = 0;
};

}  // namespace shoal::gateway
