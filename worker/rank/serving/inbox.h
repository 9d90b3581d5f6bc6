#pragma once

// The queue of what the coordinator asks of the leader, from the link's thread to the step loop.

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "transport/base/generation/sequence_request.h"
#include "worker/rank/serving/coordinator_session.h"

namespace shoal::rank {

struct InboxEvent {
  enum class Kind : uint8_t {
    kSubmit,
    kRefused,  // A submit that found the inbox full: it must be answered, but its prompt is
               // dropped.
    kCancel,
    kRelease,
    kJoined,  // A coordinator took the group; what it asks comes after this.
    kLost,    // That coordinator is gone.
    kStop,    // The coordinator dismisses the group.
  };
  Kind kind = Kind::kStop;
  uint64_t id = 0;            // Of a sequence.
  SequenceRequest request{};  // Of a submit.
  Membership membership{};    // Of kJoined.
};

// Order:     events come out as they went in.
// Threading: thread-safe. mutex_ guards the rest.
// Errors:    kFailed from Take if the other side went on although submits were refused, and even
//            the refusals no longer fit: it does not keep to the protocol.
class Inbox {
 public:
  // Holds this many submits, and several times as many of the small events.
  explicit Inbox(size_t submits_max) : submits_max_(submits_max) {}

  // Never waits.
  void Push(InboxEvent event);
  std::vector<InboxEvent> Take();
  // Returns when there is an event, or after that time.
  void WaitFor(int64_t milliseconds);

 private:
  static constexpr size_t kSmallEventsPerSubmit = 8;
  // A coordinator that is back cancels and releases what it heard of, all at once.
  static constexpr size_t kSmallEventsLeast = 1'024;

  const size_t submits_max_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<InboxEvent> events_;
  size_t submits_ = 0;
  bool overflowed_ = false;
};

// A session's callbacks that put what it hears into the inbox, which must outlive it.
SessionCallbacks InboxCallbacks(Inbox& inbox);

}  // namespace shoal::rank
