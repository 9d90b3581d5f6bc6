#pragma once

// Messages to and from several peers at once, over one connection each.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "transport/base/clock.h"
#include "transport/link/wait_policy.h"

namespace shoal::link {

// Precedes every message, in the machine's byte order: ranks run one build on one kind of
// machine.
struct MessageHeader {
  uint32_t magic = 0x4d434853;  // "SHCM"
  uint32_t tag = 0;             // What operation the sender believes to be in.
  uint64_t bytes = 0;

  bool operator==(const MessageHeader&) const = default;
};

// What goes to and comes from one peer in an exchange.
struct PeerTransfer {
  int32_t peer = 0;
  int fd = -1;
  std::optional<std::span<const std::byte>> send = {};
  std::optional<std::span<std::byte>> receive = {};

  // Progress, headers included; Exchange() sets all of it.
  size_t sent = 0;
  size_t received = 0;
  MessageHeader send_header = {};
  MessageHeader receive_header = {};
};

enum class ExchangeEnd : uint8_t {
  kDone,
  kWoken,     // wake_fd became readable.
  kPeerLost,  // The connection ended.
  kMismatch,  // The peer sent another tag or size.
  kDeadlineExceeded,
};

struct ExchangeOutcome {
  ExchangeEnd end = ExchangeEnd::kDone;
  int32_t peer = 0;  // With kPeerLost and kMismatch.
};

struct ExchangeOptions {
  uint32_t tag = 0;
  Deadline deadline;
  int wake_fd = -1;
  WaitPolicy policy;
};

// Sends and receives all of it, in whatever order the connections allow: no order among ranks can
// deadlock as long as every message has its counterpart. After any other end than kDone the
// connections are of no use.
ExchangeOutcome Exchange(std::span<PeerTransfer> transfers, const ExchangeOptions& options);

}  // namespace shoal::link
