#include "transport/link/tcp/tcp_exchange.h"

#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <vector>

// One loop moves all connections as far as they go, then spins, yields or polls.

namespace shoal::link {
namespace {

constexpr size_t kHeaderBytes = sizeof(MessageHeader);
// A look at a socket costs about as much as 20 pauses.
constexpr int32_t kPausesPerLook = 20;
constexpr uint32_t kTurnsPerDeadlineCheck = 256;

enum class Progress : uint8_t { kNone, kSome, kLost, kMismatch };

bool MustSend(const PeerTransfer& t) { return t.send && t.sent < kHeaderBytes + t.send->size(); }
bool MustReceive(const PeerTransfer& t) {
  return t.receive && t.received < kHeaderBytes + t.receive->size();
}

// The header's and the body's remaining parts after `done` bytes.
int Remaining(std::byte* header, std::byte* body, size_t body_bytes, size_t done,
              iovec (&parts)[2]) {
  int count = 0;
  if (done < kHeaderBytes) parts[count++] = {header + done, kHeaderBytes - done};
  const size_t body_done = done > kHeaderBytes ? done - kHeaderBytes : 0;
  if (body_done < body_bytes) parts[count++] = {body + body_done, body_bytes - body_done};
  return count;
}

Progress Ended() {
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? Progress::kNone
                                                                   : Progress::kLost;
}

Progress MoveOut(PeerTransfer& t) {
  iovec parts[2];
  msghdr message{};
  message.msg_iov = parts;
  // sendmsg takes its parts by non-const pointers and does not write to them.
  message.msg_iovlen = static_cast<size_t>(Remaining(reinterpret_cast<std::byte*>(&t.send_header),
                                                     const_cast<std::byte*>(t.send->data()),
                                                     t.send->size(), t.sent, parts));
  const ssize_t count = sendmsg(t.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (count < 0) return Ended();
  t.sent += static_cast<size_t>(count);
  return Progress::kSome;
}

Progress MoveIn(PeerTransfer& t) {
  iovec parts[2];
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen =
      static_cast<size_t>(Remaining(reinterpret_cast<std::byte*>(&t.receive_header),
                                    t.receive->data(), t.receive->size(), t.received, parts));
  const ssize_t count = recvmsg(t.fd, &message, MSG_DONTWAIT);
  if (count < 0) return Ended();
  if (count == 0) return Progress::kLost;
  t.received += static_cast<size_t>(count);
  return Progress::kSome;
}

bool HeaderFits(const PeerTransfer& t, uint32_t tag) {
  if (t.received < kHeaderBytes) return true;
  MessageHeader expected;
  expected.tag = tag;
  expected.bytes = t.receive->size();
  return t.receive_header == expected;
}

// Moves one peer as far as it goes without waiting.
Progress Move(PeerTransfer& t, uint32_t tag) {
  Progress result = Progress::kNone;
  if (MustSend(t)) result = MoveOut(t);
  if (MustReceive(t)) {
    const Progress in = MoveIn(t);
    if (!HeaderFits(t, tag)) return Progress::kMismatch;
    if (result != Progress::kLost && in != Progress::kNone) result = in;
  }
  return result;
}

// Sleeps until a connection can move or somebody wakes us. False if somebody did.
bool Sleep(std::span<PeerTransfer> transfers, const ExchangeOptions& options, int64_t timeout_ms) {
  std::vector<pollfd> polls{{options.wake_fd, POLLIN, 0}};
  for (const PeerTransfer& t : transfers) {
    const int events = (MustSend(t) ? POLLOUT : 0) | (MustReceive(t) ? POLLIN : 0);
    if (events != 0) polls.push_back({t.fd, static_cast<int16_t>(events), 0});
  }
  poll(polls.data(), polls.size(), static_cast<int>(std::min<int64_t>(timeout_ms + 1, 1000)));
  return (polls[0].revents & POLLIN) == 0;
}

}  // namespace

ExchangeOutcome Exchange(std::span<PeerTransfer> transfers, const ExchangeOptions& options) {
  for (PeerTransfer& t : transfers) {
    t.sent = t.received = 0;
    t.send_header = t.receive_header = MessageHeader{};
    t.send_header.tag = options.tag;
    t.send_header.bytes = t.send ? t.send->size() : 0;
  }
  const SteadyClock clock;
  const int32_t looks = options.policy.spins / kPausesPerLook;
  int32_t idle = 0;
  uint32_t turns = 0;
  while (true) {
    bool moved = false;
    bool done = true;
    for (PeerTransfer& t : transfers) {
      switch (Move(t, options.tag)) {
        case Progress::kLost:
          return {ExchangeEnd::kPeerLost, t.peer};
        case Progress::kMismatch:
          return {ExchangeEnd::kMismatch, t.peer};
        case Progress::kSome:
          moved = true;
          break;
        case Progress::kNone:
          break;
      }
      done = done && !MustSend(t) && !MustReceive(t);
    }
    if (done) return {};
    // Also while bytes arrive: a slow peer does not extend the deadline.
    if (++turns % kTurnsPerDeadlineCheck == 0 && options.deadline.Passed(clock)) {
      return {ExchangeEnd::kDeadlineExceeded};
    }
    if (moved) {
      idle = 0;
    } else if (++idle > looks + options.policy.yields) {
      if (options.deadline.Passed(clock)) return {ExchangeEnd::kDeadlineExceeded};
      if (!Sleep(transfers, options, options.deadline.RemainingMs(clock))) {
        return {ExchangeEnd::kWoken};
      }
    } else if (idle > looks) {
      sched_yield();
    }
  }
}

}  // namespace shoal::link
