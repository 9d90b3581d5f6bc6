#include "tests/coordinator/core/net_sim/net/link.h"

#include <algorithm>
#include <utility>

namespace shoal::core::net_sim {

void Link::Send(Side from, Message message) {
  if (!end(from).open) return;
  Enqueue(Other(from), std::move(message));
}

bool Link::SendRough(Side from, const Message& message) {
  if (!end(from).open) return true;
  if (options_.misdeliver == 0 || !chance_.Roll(options_.misdeliver)) {
    Enqueue(Other(from), message);
    return true;
  }
  switch (chance_.Draw(0, 2)) {
    case 0:
      return false;
    case 1:
      Enqueue(Other(from), message);
      Enqueue(Other(from), message);
      return true;
    default:
      loop_.After(chance_.Draw(1, 300), [self = shared_from_this(), to = Other(from), message] {
        if (self->end(to).open && !self->end(to).stalled) message();
      });
      return true;
  }
}

void Link::Enqueue(Side to, Message message) {
  End& receiver = end(to);
  const int64_t delay_ms = chance_.Draw(options_.delay_ms_min, options_.delay_ms_max);
  receiver.last_arrival = std::max(receiver.last_arrival, loop_.now() + delay_ms * kMillisecondNs);
  receiver.inbox.push_back({receiver.last_arrival, std::move(message)});
  const int64_t wait_ms = (receiver.last_arrival - loop_.now()) / kMillisecondNs;
  loop_.After(wait_ms, [self = shared_from_this(), to] { self->Pump(to); });
  if (receiver.stalled && receiver.inbox.size() == 1) WatchStall(to);
}

void Link::Pump(Side side) {
  End& receiver = end(side);
  while (!receiver.stalled && !receiver.inbox.empty() && receiver.inbox.front().at <= loop_.now()) {
    const Message message = std::move(receiver.inbox.front().message);
    receiver.inbox.pop_front();
    if (receiver.open) message();
  }
}

void Link::Lose(Side side) {
  if (!end(side).open) return;
  end(side).open = false;
  const Message what = end(side).on_lost;
  if (what) what();
}

void Link::Close(Side side) {
  if (!end(side).open) return;
  end(side).open = false;
  Enqueue(Other(side), [this, side] { Lose(Other(side)); });
}

void Link::Reset() {
  for (const Side side : {Side::kRank, Side::kCoordinator}) {
    end(side).inbox.clear();
    loop_.After(chance_.Draw(0, 50), [self = shared_from_this(), side] { self->Lose(side); });
  }
}

void Link::ResetFor(Side side) {
  for (End& each : ends_) each.inbox.clear();
  Lose(side);
  // What the other end sends goes nowhere, and it gives up in time.
  Stall(side, true);
  Stall(Other(side), true);
}

void Link::Stall(Side receiver, bool on) {
  End& to = end(receiver);
  if (to.stalled == on) return;
  to.stalled = on;
  ++to.stalls;
  if (on) {
    if (!to.inbox.empty()) WatchStall(receiver);
    return;
  }
  // Whoever sends on what the other end has given up is told so.
  if (to.open && !end(Other(receiver)).open) {
    loop_.After(chance_.Draw(0, 50), [self = shared_from_this(), receiver] {
      self->Pump(receiver);
      self->Lose(receiver);
    });
  }
  loop_.After(0, [self = shared_from_this(), receiver] { self->Pump(receiver); });
}

void Link::Sever() {
  for (End& each : ends_) {
    each.open = false;
    each.inbox.clear();
    each.on_lost = nullptr;
  }
}

void Link::WatchStall(Side receiver) {
  loop_.After(options_.user_timeout_ms,
              [self = shared_from_this(), receiver, stalls = end(receiver).stalls] {
                if (self->end(receiver).stalls == stalls) self->Lose(Other(receiver));
              });
}

}  // namespace shoal::core::net_sim
