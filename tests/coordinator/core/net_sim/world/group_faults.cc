// What goes wrong with a group of ranks.

#include <algorithm>
#include <utility>

#include "tests/coordinator/core/net_sim/world/group.h"
#include "transport/base/check.h"

namespace shoal::core::net_sim {

void FakeGroup::Kill(int32_t rank) {
  context_.Log(Name(), " rank ", rank, " is killed");
  Blame();
  EndRank(rank);
  // The others notice in time, or are told by the coordinator.
  if (context_.chance.OneIn(4)) return;
  for (int32_t other = 0; other < size(); ++other) {
    if (!at(other).alive) continue;
    After(other, context_.chance.Draw(0, 1'500), [this, other] {
      if (context_.chance.OneIn(2) && at(other).registered) {
        at(other).link->Send(Side::kRank, [this, self = shared_from_this(), link = at(other).link,
                                           epoch = at(other).epoch] {
          door_.OnFault(*link, epoch, LossCause::kRankDied);
        });
      }
      EndRank(other);
    });
  }
}

void FakeGroup::StopRanks(int32_t first, int32_t last, int64_t milliseconds) {
  context_.Log(Name(), " ranks ", first, " to ", last, " are stopped for ", milliseconds, " ms");
  Blame();
  for (int32_t rank = first; rank <= last; ++rank) {
    ++at(rank).stopped;
    context_.loop.After(milliseconds, [this, self = shared_from_this(), rank] {
      if (!at(rank).alive || --at(rank).stopped > 0) return;
      context_.Log(Name(), " rank ", rank, " runs again");
      while (at(rank).alive && at(rank).stopped == 0 && !at(rank).inbox.empty()) {
        const std::function<void()> next = std::move(at(rank).inbox.front());
        at(rank).inbox.pop_front();
        next();
      }
    });
  }
}

void FakeGroup::Hang(int64_t milliseconds) {
  context_.Log(Name(), " hangs for ", milliseconds, " ms");
  Blame();
  ++hangs_;
  context_.loop.After(milliseconds, [self = shared_from_this()] {
    if (self->hangs_ > 0) --self->hangs_;
  });
}

void FakeGroup::Slow(int64_t milliseconds) {
  context_.Log(Name(), " is slow for ", milliseconds, " ms");
  ++slows_;
  impaired_ = true;
  context_.loop.After(milliseconds, [self = shared_from_this()] {
    if (self->slows_ > 0) --self->slows_;
  });
}

void FakeGroup::Fail(int64_t milliseconds) {
  context_.Log(Name(), " gives up what it has, for ", milliseconds, " ms");
  ++fails_;
  context_.loop.After(milliseconds, [self = shared_from_this()] {
    if (self->fails_ > 0) --self->fails_;
  });
}

void FakeGroup::Confess(LossCause cause) {
  context_.Log(Name(), " ends itself: ", ToString(cause));
  Blame();
  for (int32_t rank = 0; rank < size(); ++rank) {
    Rank& teller = at(rank);
    if (!teller.alive || !teller.registered || teller.stopped > 0) continue;
    teller.link->Send(Side::kRank,
                      [this, self = shared_from_this(), link = teller.link, epoch = teller.epoch,
                       cause] { door_.OnFault(*link, epoch, cause); });
    break;
  }
  EndAll();
}

std::string FakeGroup::PickLie(SequenceUpdate& update) {
  const auto& live = leader_.live();
  if (live.empty() || context_.chance.OneIn(4)) {
    update.id = context_.chance.Next();
    return "of a sequence of nobody";
  }
  const auto& [id, sequence] =
      *std::next(live.begin(), context_.chance.Draw(0, std::ssize(live) - 1));
  update.id = id;
  update.tokens_before = sequence.tokens;
  update.prompt_logprobs_before = sequence.prompt_logprobs;
  switch (context_.chance.Draw(0, 2)) {
    case 0:
      update.tokens = {kVocabSize};
      return "beyond the vocabulary";
    case 1:
      update.tokens = {1};
      update.tokens_before += 1 + context_.chance.Draw(0, 2);
      return "after a gap";
    default:
      update.tokens.assign(static_cast<size_t>(kContextTokens) + 1, 1);
      return "beyond its end";
  }
}

void FakeGroup::Lie() {
  if (!at(0).registered) return;
  SequenceUpdate update;
  const std::string kind = PickLie(update);
  context_.Log(Name(), " lies: tokens ", kind);
  Blame();
  at(0).link->Send(Side::kRank,
                   [this, self = shared_from_this(), link = at(0).link, epoch = epoch(), update] {
                     door_.OnUpdate(*link, epoch, {update}, /*is_lie=*/true);
                   });
}

void FakeGroup::Term() {
  if (!at(0).registered || terminating_) return;
  context_.Log(Name(), " is told to end");
  Blame();
  terminating_ = true;
  at(0).link->Send(Side::kRank, [this, self = shared_from_this(), link = at(0).link,
                                 epoch = epoch()] { door_.OnDrain(*link, epoch); });
  After(0, drain_timeout_ms_ + 1'000, [this] { EndAll(); });
}

void FakeGroup::Stall(int32_t rank, bool up, bool down, int64_t milliseconds) {
  const std::shared_ptr<Link> link = at(rank).link;
  if (!link) return;
  context_.Log(Name(), " rank ", rank, " is cut off for ", milliseconds, " ms",
               up && down ? "" : " one way");
  Blame();
  if (up) link->Stall(Side::kCoordinator, true);
  if (down) link->Stall(Side::kRank, true);
  context_.loop.After(milliseconds, [link] {
    link->Stall(Side::kCoordinator, false);
    link->Stall(Side::kRank, false);
  });
}

void FakeGroup::Reset(int32_t rank) {
  if (!at(rank).link) return;
  context_.Log(Name(), " rank ", rank, ": its connection breaks");
  Blame();
  at(rank).link->Reset();
}

void FakeGroup::HalfOpen(int32_t rank, Side knows) {
  if (!at(rank).link) return;
  context_.Log(Name(), " rank ", rank, ": its connection breaks, heard by one end");
  Blame();
  const std::shared_ptr<Link> link = at(rank).link;
  link->ResetFor(knows);
}

void FakeGroup::Heal() {
  hangs_ = slows_ = fails_ = 0;
  for (Rank& rank : ranks_) {
    if (!rank.link) continue;
    rank.link->Stall(Side::kCoordinator, false);
    rank.link->Stall(Side::kRank, false);
  }
}

}  // namespace shoal::core::net_sim
