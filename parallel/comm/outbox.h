#pragma once

// Messages to a rank that may be busy, and must not make their sender wait until it receives.

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "parallel/comm/communicator.h"
#include "transport/base/clock.h"

namespace shoal::comm {

// Messages may have any size. What the link has room for goes at once. The rest waits here, and a
// thread that sleeps until there is such a message sends it while the owner computes.
// Order:     that of Post.
// Bound:     the owner's protocol: it never posts while `messages_max` wait.
// Threading: one thread posts. The communicator is this object's alone on this rank.
// Errors:    those of the communicator, from Post or Flush if the thread met them. A message may
//            take `timeout_ms` from the moment it is its turn.
class Outbox {
 public:
  Outbox(Communicator& communicator, int32_t to, size_t messages_max, const Clock& clock,
         int64_t timeout_ms);
  // Aborts the group if messages are left: see Flush.
  ~Outbox();
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;

  // The other side calls ReceiveMessage.
  void Post(std::vector<std::byte> message);
  // Returns when all have left this rank.
  void Flush();

 private:
  void Run();
  void Send(const std::vector<std::byte>& message);

  Communicator& communicator_;
  const int32_t to_;
  const size_t messages_max_;
  const Clock& clock_;
  const int64_t timeout_ms_;
  std::mutex mutex_;  // Guards what follows up to thread_, and Post's use of the communicator.
  std::condition_variable changed_;
  // The thread is sending the first one, which stays where it is meanwhile.
  std::deque<std::vector<std::byte>> waiting_;
  std::exception_ptr failure_;  // What ended the thread.
  bool closing_ = false;
  std::thread thread_;  // From the first message on that has to wait.
};

// A message whose size the receiver does not know, and its counterpart. Errors: those of the
// communicator.
void SendMessage(Communicator& communicator, std::span<const std::byte> bytes, int32_t to);
std::vector<std::byte> ReceiveMessage(Communicator& communicator, int32_t from);

}  // namespace shoal::comm
