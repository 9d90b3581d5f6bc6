#pragma once

// A TCP connection between a rank and a coordinator as the simulated network carries it: in order,
// late, stalled, broken, and heard to be broken by one end before the other, or never.

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>

#include "tests/coordinator/core/net_sim/net/chance.h"
#include "tests/coordinator/core/net_sim/net/virtual_loop.h"

namespace shoal::core::net_sim {

enum class Side : uint8_t { kRank, kCoordinator };
constexpr Side Other(Side side) { return side == Side::kRank ? Side::kCoordinator : Side::kRank; }

struct LinkOptions {
  int64_t delay_ms_min = 0;
  int64_t delay_ms_max = 5;
  int64_t user_timeout_ms = 2'000;  // An end whose message stays without an answer gives up.
  // What TCP does not do: single messages that are dropped, doubled or overtaken.
  double misdeliver = 0;
};

// Owned by both ends, which hear through it of each other.
class Link : public std::enable_shared_from_this<Link> {
 public:
  using Message = std::function<void()>;

  Link(VirtualLoop& loop, Chance& chance, const LinkOptions& options)
      : loop_(loop), chance_(chance), options_(options) {}

  // What an end does when it hears that the connection is gone; not after its own Close.
  void OnLost(Side side, Message what) { end(side).on_lost = std::move(what); }

  // Whether that end still believes in it.
  bool open(Side side) const { return ends_[static_cast<size_t>(side)].open; }

  // `message` runs at the other end, if it gets there.
  void Send(Side from, Message message);
  // As Send, where the swarm wants single messages misdelivered. Result: false if it was dropped.
  bool SendRough(Side from, const Message& message);

  // What was sent before arrives, then the other end hears of it.
  void Close(Side side);
  // What is under way is lost; both ends hear of it, each in its own time.
  void Reset();
  // What is under way is lost; only that end hears of it at once.
  void ResetFor(Side side);
  // While it is on, nothing arrives at that end, and nothing is lost but time.
  void Stall(Side receiver, bool on);
  // At the very end: nothing arrives any more, and nobody is kept by what is under way.
  void Sever();

 private:
  struct Arrival {
    TimeNs at;
    Message message;
  };
  struct End {
    bool open = true;
    bool stalled = false;
    uint64_t stalls = 0;
    TimeNs last_arrival = 0;
    std::deque<Arrival> inbox;  // Under way to this end.
    Message on_lost;
  };

  End& end(Side side) { return ends_[static_cast<size_t>(side)]; }
  void Enqueue(Side to, Message message);
  void Pump(Side side);
  void Lose(Side side);
  // The sender to a stalled end gives up in time.
  void WatchStall(Side receiver);

  VirtualLoop& loop_;
  Chance& chance_;
  const LinkOptions options_;
  End ends_[2];
};

}  // namespace shoal::core::net_sim
