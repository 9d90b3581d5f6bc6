#include "coordinator/core/queue/fair_queue.h"

#include <algorithm>
#include <cmath>

#include "transport/base/check.h"

namespace shoal::core {
namespace {

// What a weight of 1 gets in each round. Small, so that turns are short; what nobody can use of a
// round costs nothing.
constexpr int64_t kQuantumTokens = 64;
// Deficits are in thousandths of a token, so that small weights differ, too.
constexpr int64_t kThousandth = 1'000;

}  // namespace

struct FairQueue::Entry {
  WaitingStream stream;
  Lane* lane = nullptr;
};

struct FairQueue::Lane {
  Tenant* tenant = nullptr;
  size_t service_class = 0;
  uint64_t place = 0;  // Unique; the order in which lanes began to wait.
  double weight = 1;
  int64_t deficit = 0;  // What it has saved up by `round`.
  int64_t round = 0;
  ClassQueue<const Entry*> fresh{};  // Those that had no group yet.
  std::optional<Turn> passed{};      // Those up to it are set aside.
  std::set<Turn> parked{};           // The others that are not set aside.
  size_t count = 0;                  // Of all.
  // Where it stands while it is entered.
  std::optional<int64_t> ring_round{};
  std::optional<double> length{};

  int64_t quantum() const {
    return std::max<int64_t>(1, std::llround(weight * kQuantumTokens * kThousandth));
  }
  const Entry* fresh_head() const {
    const std::set<Turn>& turns = fresh.turns();
    const auto turn = passed ? turns.upper_bound(*passed) : turns.begin();
    return turn == turns.end() ? nullptr : fresh.at(*turn);
  }
  // The round in which it has saved up for so many tokens.
  int64_t DueRound(int64_t tokens) const {
    const int64_t lacking = tokens * kThousandth - deficit;
    return lacking <= 0 ? round : round + (lacking + quantum() - 1) / quantum();
  }
};

struct FairQueue::Tenant {
  std::string name{};
  Floor floor{};
  uint64_t place = 0;
  std::array<std::unique_ptr<Lane>, kServiceClasses> lanes{};
  // Where it stands among those that are due.
  std::optional<std::pair<size_t, int64_t>> due{};
};

FairQueue::FairQueue() = default;
FairQueue::~FairQueue() = default;
FairQueue::FairQueue(FairQueue&&) noexcept = default;

void FairQueue::Configure(const FairRules& rules) {
  rules_ = rules;
  for (size_t i = 0; i < classes_.size(); ++i) classes_[i].floor.SetShare(rules.floor_shares[i]);
}

FairQueue::ClassState& FairQueue::StateOf(const Lane& lane) { return classes_[lane.service_class]; }

// ---- Who is next ----

const WaitingStream* FairQueue::HeadOf(const Lane& lane) const {
  ++looks_;
  if (!lane.parked.empty()) return &at(lane.parked.begin()->arrival);
  const Entry* fresh = lane.fresh_head();
  return fresh == nullptr ? nullptr : &fresh->stream;
}

const WaitingStream* FairQueue::HeadOf(const ClassState& state) const {
  ++looks_;
  if (!state.parked.empty()) return &at(state.parked.begin()->arrival);
  if (state.ring.empty()) return nullptr;
  return &std::get<Lane*>(*state.ring.begin())->fresh_head()->stream;
}

const WaitingStream* FairQueue::HeadOf(const Tenant& tenant) const {
  for (const auto& lane : tenant.lanes) {
    const WaitingStream* head = lane ? HeadOf(*lane) : nullptr;
    if (head != nullptr) return head;
  }
  return nullptr;
}

const WaitingStream* FairQueue::FindDue(size_t classes) const {
  for (size_t i = 0; i < classes; ++i) {
    const ClassState& state = classes_[i];
    if (!state.due.empty() && std::get<int64_t>(*state.due.begin()) <= served_) {
      return HeadOf(*std::get<Tenant*>(*state.due.begin()));
    }
    if (!state.floor.exists()) continue;
    const WaitingStream* head = HeadOf(state);
    if (head != nullptr && state.floor.DueAt(head->tokens) <= served_) return head;
  }
  return nullptr;
}

const WaitingStream* FairQueue::Next(ServiceClass worst) const {
  const size_t classes = static_cast<size_t>(worst) + 1;
  if (const WaitingStream* due = FindDue(classes)) return due;
  for (size_t i = 0; i < classes; ++i) {
    if (const WaitingStream* head = HeadOf(classes_[i])) return head;
  }
  return nullptr;
}

void FairQueue::SetAside(uint64_t arrival) {
  const Entry& entry = *entries_.at(arrival);
  Lane& lane = *entry.lane;
  Leave(lane);
  if (entry.stream.parked) {
    const Turn turn{entry.stream.priority, arrival};
    lane.parked.erase(turn);
    StateOf(lane).parked.erase(turn);
    aside_.insert(arrival);
  } else {
    SHOAL_CHECK(lane.fresh_head() == &entry, "arrival ", arrival, " is not its tenant's next");
    const std::set<Turn>& turns = lane.fresh.turns();
    lane.passed = lane.passed ? *turns.upper_bound(*lane.passed) : *turns.begin();
    passed_.insert(&lane);
  }
  Enter(lane);
}

void FairQueue::Restore() {
  for (const uint64_t arrival : std::exchange(aside_, {})) {
    const Entry& entry = *entries_.at(arrival);
    Leave(*entry.lane);
    entry.lane->parked.insert({entry.stream.priority, arrival});
    StateOf(*entry.lane).parked.insert({entry.stream.priority, arrival});
    Enter(*entry.lane);
  }
  for (Lane* lane : std::exchange(passed_, {})) {
    Leave(*lane);
    lane->passed.reset();
    Enter(*lane);
  }
}

// ---- Who waits ----

void FairQueue::Leave(Lane& lane) {
  ClassState& state = StateOf(lane);
  if (lane.ring_round) state.ring.erase({*lane.ring_round, lane.place, &lane});
  if (lane.length) state.longest.erase({*lane.length, lane.place, &lane});
  lane.ring_round.reset();
  lane.length.reset();
  Tenant& tenant = *lane.tenant;
  if (tenant.due)
    classes_[tenant.due->first].due.erase({tenant.due->second, tenant.place, &tenant});
  tenant.due.reset();
}

void FairQueue::Enter(Lane& lane) {
  ClassState& state = StateOf(lane);
  if (const Entry* head = lane.fresh_head()) {
    lane.ring_round = lane.DueRound(head->stream.tokens);
    state.ring.insert({*lane.ring_round, lane.place, &lane});
  }
  if (!lane.fresh.empty()) {
    lane.length = static_cast<double>(lane.fresh.size()) / lane.weight;
    state.longest.insert({*lane.length, lane.place, &lane});
  }
  Tenant& tenant = *lane.tenant;
  const WaitingStream* head = tenant.floor.exists() ? HeadOf(tenant) : nullptr;
  if (head == nullptr) return;
  tenant.due = {static_cast<size_t>(head->service_class), tenant.floor.DueAt(head->tokens)};
  classes_[tenant.due->first].due.insert({tenant.due->second, tenant.place, &tenant});
}

FairQueue::Lane& FairQueue::LaneOf(const WaitingStream& stream) {
  std::unique_ptr<Tenant>& tenant = tenants_[stream.tenant];
  if (!tenant) {
    tenant = std::make_unique<Tenant>();
    tenant->name = stream.tenant;
    tenant->place = ++last_place_;
    tenant->floor.Begin(served_);
  }
  const auto service_class = static_cast<size_t>(stream.service_class);
  std::unique_ptr<Lane>& lane = tenant->lanes[service_class];
  if (!lane) {
    lane = std::make_unique<Lane>();
    lane->tenant = tenant.get();
    lane->service_class = service_class;
    lane->place = ++last_place_;
    lane->round = classes_[service_class].round;
  }
  return *lane;
}

void FairQueue::Add(WaitingStream stream) {
  if (!rules_.fair) {
    stream = {.stream = stream.stream,
              .arrival = stream.arrival,
              .tokens = stream.tokens,
              .parked = stream.parked};
  }
  Lane& lane = LaneOf(stream);
  ClassState& state = StateOf(lane);
  Leave(lane);
  lane.weight = stream.weight;
  lane.tenant->floor.SetShare(stream.floor_share);
  if (state.count++ == 0) state.floor.Begin(served_);
  ++lane.count;
  by_size_.insert({stream.tokens, stream.arrival});
  const auto [place, is_new] = entries_.emplace(stream.arrival, std::make_unique<Entry>());
  SHOAL_CHECK(is_new, "arrival ", stream.arrival, " waits already");
  Entry& entry = *place->second;
  entry = {std::move(stream), &lane};
  const Turn turn{entry.stream.priority, entry.stream.arrival};
  if (entry.stream.parked) {
    lane.parked.insert(turn);
    state.parked.insert(turn);
  } else {
    lane.fresh.Add(turn, &entry);
    state.fresh.insert({entry.stream.retry, entry.stream.arrival});
  }
  Enter(lane);
}

void FairQueue::Charge(Lane& lane, const Entry& entry, bool in_turn) {
  ClassState& state = StateOf(lane);
  const int64_t tokens = entry.stream.tokens;
  served_ += tokens;
  if (state.floor.exists()) state.floor.Serve(tokens, served_);
  if (lane.tenant->floor.exists()) lane.tenant->floor.Serve(tokens, served_);
  if (entry.stream.parked) return;  // It was charged before.
  // In its turn the round is that in which it has saved up for it. Out of turn it borrows, and
  // waits the longer afterwards.
  const int64_t due = lane.DueRound(tokens);
  const int64_t round = in_turn ? due : std::min(due, state.round);
  lane.deficit += lane.quantum() * std::max<int64_t>(0, round - lane.round) - tokens * kThousandth;
  state.round = std::max(state.round, round);
  lane.round = state.round;
}

void FairQueue::Serve(uint64_t arrival) {
  const Entry& entry = *entries_.at(arrival);
  Lane& lane = *entry.lane;
  const ClassState& state = StateOf(lane);
  const bool in_turn = !state.ring.empty() && std::get<Lane*>(*state.ring.begin()) == &lane &&
                       lane.fresh_head() == &entry;
  Leave(lane);
  Charge(lane, entry, in_turn);
  if (!entry.stream.parked) {
    lane.fresh.Serve({entry.stream.priority, arrival});
    // Another one may have come before those that were set aside.
    lane.passed.reset();
  }
  Forget(arrival);
}

bool FairQueue::Remove(uint64_t arrival) {
  const auto entry = entries_.find(arrival);
  if (entry == entries_.end()) return false;
  Leave(*entry->second->lane);
  Forget(arrival);
  return true;
}

void FairQueue::Forget(uint64_t arrival) {
  const auto node = entries_.extract(arrival);
  const WaitingStream& stream = node.mapped()->stream;
  Lane& lane = *node.mapped()->lane;
  ClassState& state = StateOf(lane);
  lane.fresh.Remove(arrival);
  lane.parked.erase({stream.priority, arrival});
  state.parked.erase({stream.priority, arrival});
  state.fresh.erase({stream.retry, arrival});
  aside_.erase(arrival);
  by_size_.erase({stream.tokens, arrival});
  --state.count;
  Tenant& tenant = *lane.tenant;
  if (--lane.count > 0) return Enter(lane);
  passed_.erase(&lane);
  const size_t service_class = lane.service_class;
  tenant.lanes[service_class].reset();
  const auto other = std::ranges::find_if(tenant.lanes, [](const auto& each) { return !!each; });
  if (other == tenant.lanes.end()) {
    tenants_.erase(std::string(tenant.name));
    return;
  }
  Leave(**other);  // So that the tenant is due for what it still has.
  Enter(**other);
}

void FairQueue::GiveBack(const std::string& tenant, ServiceClass service_class, int64_t tokens) {
  const auto found = tenants_.find(tenant);
  Lane* lane = found == tenants_.end()
                   ? nullptr
                   : found->second->lanes[static_cast<size_t>(service_class)].get();
  if (lane == nullptr || tokens <= 0) return;
  Leave(*lane);
  lane->deficit += tokens * kThousandth;
  Enter(*lane);
}

// ---- Who goes ----

std::optional<StreamId> FairQueue::FindVictim(
    const Newcomer& newcomer, const std::array<size_t, kServiceClasses>& kept) const {
  if (!rules_.fair) return std::nullopt;
  const auto own_class = static_cast<size_t>(newcomer.service_class);
  for (size_t i = classes_.size() - 1; i > own_class; --i) {
    const auto& fresh = classes_[i].fresh;
    if (fresh.size() > kept[i]) return at(fresh.rbegin()->second).stream;
  }
  const ClassState& state = classes_[own_class];
  if (newcomer.retry || state.fresh.empty()) return std::nullopt;
  const auto& [is_retry, arrival] = *state.fresh.rbegin();
  if (is_retry) return at(arrival).stream;
  const auto tenant = tenants_.find(newcomer.tenant);
  const Lane* own = tenant == tenants_.end() ? nullptr : tenant->second->lanes[own_class].get();
  const double waiting = own == nullptr ? 0 : static_cast<double>(own->fresh.size());
  const auto& [length, place, longest] = *state.longest.rbegin();
  if (length <= (waiting + 1) / newcomer.weight) return std::nullopt;
  return at(longest->fresh.newest()).stream;
}

// ---- How many ----

size_t FairQueue::fresh(ServiceClass service_class) const {
  return classes_[static_cast<size_t>(service_class)].fresh.size();
}

size_t FairQueue::fresh() const {
  size_t count = 0;
  for (const ClassState& state : classes_) count += state.fresh.size();
  return count;
}

const WaitingStream& FairQueue::at(uint64_t arrival) const {
  ++looks_;
  return entries_.at(arrival)->stream;
}

}  // namespace shoal::core
