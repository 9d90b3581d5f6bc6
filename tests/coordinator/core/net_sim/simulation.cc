#include "tests/coordinator/core/net_sim/simulation.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core::net_sim {

namespace {

// After all is healed, what is left must have ended so soon.
constexpr int64_t kHealedWithinMs = 60'000;
// When it must be as good as if nothing had been.
constexpr int64_t kProbedAfterMs = 5'000;

constexpr int64_t kKvCacheTokens = 200;
constexpr int64_t kKvCacheTokensSmall = 40;

}  // namespace

Simulation::Simulation(uint64_t seed, PlantedBug bug)
    : context_(seed, bug),
      shapes_(MakeShapes(context_.swarm)),
      host_(context_, MakeOptions()),
      overload_(context_),
      clients_(context_, host_, shapes_, overload_,
               [this](const ClientStream& stream, const StreamError& error) {
                 return checker_.FindNoReason(stream, error);
               }),
      checker_(context_, clients_, overload_) {
  host_.Connect(clients_, checker_, overload_);
  const auto count = shapes_.size() * static_cast<size_t>(context_.swarm.groups_per_key);
  slots_.resize(count);
  for (size_t i = 0; i < count; ++i) {
    slots_[i].number = i;
    slots_[i].shape = shapes_[i % shapes_.size()];
  }
}

Simulation::~Simulation() = default;

std::vector<RankRegistration> Simulation::MakeShapes(const Swarm& swarm) {
  std::vector<RankRegistration> shapes;
  for (size_t key = 0; key < swarm.keys; ++key) {
    RankRegistration& shape = shapes.emplace_back();
    shape.host = "node7";
    shape.isa = "scalar";
    shape.thread_count = 1;
    // Two versions of a model, and another model.
    shape.model_name = key == 2 ? "giraffe" : "toy";
    shape.numerics_id = std::string(32, static_cast<char>('1' + key));
    shape.context_tokens = kContextTokens;
    shape.vocab_size = kVocabSize;
    shape.kv_cache_tokens = kKvCacheTokens;
  }
  return shapes;
}

RegionOptions Simulation::MakeOptions() const {
  const Swarm& swarm = context_.swarm;
  RegionOptions options;
  options.heartbeat_ms = swarm.heartbeat_ms;
  options.heartbeats_missed_max = swarm.heartbeats_missed_max;
  options.progress_timeout_ms = swarm.progress_timeout_ms;
  options.join_timeout_ms = swarm.join_timeout_ms;
  options.canary_interval_ms = swarm.canary_interval_ms;
  options.resume_timeout_ms = swarm.resume_timeout_ms;
  options.rejoin_grace_ms = swarm.rejoin_grace_ms;
  options.orphan_grace_ms = swarm.orphan_grace_ms;
  options.drain_timeout_ms = swarm.drain_timeout_ms;
  options.queue_requests_max = swarm.queue_requests_max;
  options.tenants = std::make_shared<const TenantsPolicy>(swarm.overload.policy);
  options.guard = swarm.overload.guard;
  options.routing_policy = swarm.overload.routing;
  if (swarm.managed) {
    options.managed_groups = shapes_.size() * static_cast<size_t>(swarm.groups_per_key);
  }
  // Where all groups are sound the first one's may count, too.
  if (!swarm.digests_known) return options;
  for (const RankRegistration& shape : shapes_) {
    options.canary_digests[shape.numerics_id] = CanaryDigestOf(shape, options.canary_prompt);
  }
  return options;
}

bool Simulation::RunWhile(int64_t milliseconds, const std::function<bool()>& what) {
  const TimeNs end = context_.loop.now() + milliseconds * kMillisecondNs;
  while (context_.violation.empty() && what() && context_.loop.RunNext(end)) {
  }
  return context_.violation.empty();
}

bool Simulation::RunUntil(int64_t milliseconds) {
  return RunWhile(milliseconds, [] { return true; });
}

std::string Simulation::Run() {
  host_.Start();
  for (Slot& slot : slots_) LaunchAfter(slot, context_.chance.Draw(0, 1'000));
  clients_.Start();
  ScheduleFault();
  ScheduleReload();
  if (!RunUntil(context_.swarm.chaos_ms)) return context_.violation;
  Heal();
  if (!RunWhile(kHealedWithinMs, [this] { return !FindUnfinished().empty(); })) {
    return context_.violation;
  }
  if (!FindUnfinished().empty()) {
    context_.Violation(Str(FindUnfinished(), ", long after all was healed"));
  } else {
    // What was kept for clients that did not come is forgotten, here and by the leaders.
    const auto held = [this] { return !FindHeld().empty(); };
    // One that ends at the end of its grace has another one.
    RunWhile(2 * context_.swarm.orphan_grace_ms + 3'000, held);
    if (held()) context_.Violation(FindHeld());
    if (context_.violation.empty()) StopRegion();
  }
  return context_.violation;
}

// All groups are dismissed, and end.
void Simulation::StopRegion() {
  RunWhile(kHealedWithinMs, [this] { return !host_.up(); });
  host_.Call([](Region& region) { region.Stop(); });
  RunWhile(context_.swarm.join_timeout_ms + 2'000,
           [this] { return !host_.region()->groups().empty(); });
  for (const auto& [number, group] : host_.region()->groups()) {
    context_.Violation(Str(group.Name(), " was not dismissed"));
  }
}

std::string Simulation::FindUnfinished() {
  const std::string open = clients_.FindOpen();
  if (!open.empty() || !host_.up()) return open;
  for (const BreakerStatus& breaker : host_.region()->status().breakers) {
    if (breaker.open) return Str("the breaker ", breaker.rule, " is open");
  }
  return "";
}

std::string Simulation::FindHeld() {
  for (const Slot& slot : slots_) {
    // One that is stopped for a minute will end when it runs again.
    if (slot.group && slot.group->at_work() && slot.group->leader().held() > 0) {
      return Str(slot.group->Name(), " still holds ", slot.group->leader().held(),
                 " streams that have ended");
    }
  }
  if (host_.up() && !(host_.region()->ended().empty() && host_.region()->streams().empty())) {
    return "streams are kept for clients that are gone";
  }
  return "";
}

// ---- Groups ----

void Simulation::LaunchAfter(Slot& slot, int64_t milliseconds) {
  if (slot.launching) return;
  slot.launching = true;
  context_.loop.After(milliseconds, [this, &slot] {
    slot.launching = false;
    Launch(slot);
  });
}

void Simulation::Launch(Slot& slot) {
  Chance& chance = context_.chance;
  RankRegistration shape = slot.shape;
  shape.group_id = next_group_id_++;
  shape.tensor_parallel = static_cast<int32_t>(chance.Draw(1, context_.swarm.ranks_max));
  shape.size = shape.tensor_parallel;
  shape.sequences_max = static_cast<int32_t>(chance.Draw(1, 4));
  shape.queue_requests_max = static_cast<int32_t>(chance.Draw(0, 2));
  // Some are small; the first of each key is not, once all is to end well.
  const bool small = chance.OneIn(4) && !context_.healing;
  shape.kv_cache_tokens = small ? kKvCacheTokensSmall : kKvCacheTokens;
  if (context_.swarm.managed) shape.group_number = slot.number;
  slot.group = std::make_shared<FakeGroup>(context_, host_, shape, [this, &slot] {
    context_.Log(slot.group->Name(), " is gone");
    if (context_.swarm.managed) {
      // It is started anew after that.
      context_.loop.After(context_.chance.Draw(0, 90),
                          [this, number = slot.number] { host_.GroupEnded(number); });
    }
    const int64_t latest_ms = context_.healing ? 1'000 : context_.swarm.relaunch_ms_max;
    LaunchAfter(slot, context_.chance.Draw(100, latest_ms));
  });
  const bool unsound =
      !context_.healing && context_.swarm.rate(Fault::kUnsound) > 0 && chance.OneIn(5);
  if (unsound) {
    ++context_.counters.faults[static_cast<int>(Fault::kUnsound)];
    slot.group->leader().unsound = true;
    slot.group->Blame();
  }
  if (!context_.healing && context_.swarm.rate(Fault::kRefuse) > 0) {
    slot.group->leader().refuse_one_in = 20;
  }
  context_.Log(slot.group->Name(), " is started: ", shape.size, " ranks",
               unsound ? ", unsound" : "");
  slot.group->Start();
}

void Simulation::ScheduleReload() {
  if (context_.swarm.overload.reload_every_ms == 0) return;
  context_.loop.After(context_.swarm.overload.reload_every_ms, [this] {
    if (context_.healing) return;
    host_.Reload();
    ScheduleReload();
  });
}

// ---- Faults ----

void Simulation::ScheduleFault() {
  context_.loop.After(context_.chance.Draw(1, 2 * context_.swarm.fault_every_ms), [this] {
    if (context_.healing) return;
    InjectFault();
    ScheduleFault();
  });
}

void Simulation::InjectFault() {
  int64_t total = 0;
  for (const int64_t rate : context_.swarm.rates) total += rate;
  if (total == 0) return;
  int64_t ticket = context_.chance.Draw(0, total - 1);
  int chosen = 0;
  while (ticket >= context_.swarm.rates[chosen]) ticket -= context_.swarm.rates[chosen++];
  std::vector<FakeGroup*> alive;
  for (const Slot& slot : slots_) {
    if (slot.group && slot.group->alive()) alive.push_back(slot.group.get());
  }
  if (alive.empty()) return;
  ++context_.counters.faults[chosen];
  Inject(static_cast<Fault>(chosen), *context_.chance.Pick(alive));
}

void Simulation::Inject(Fault fault, FakeGroup& group) {
  Chance& chance = context_.chance;
  const auto rank = static_cast<int32_t>(chance.Draw(0, group.size() - 1));
  const auto some_ms = [&] { return chance.Draw(50, chance.OneIn(3) ? 6'000 : 800); };
  constexpr int64_t kStops[] = {1'000, 8'000, 60'000};
  switch (fault) {
    case Fault::kKill:
      return group.Kill(rank);
    case Fault::kStop: {
      const bool all = chance.OneIn(2);
      return group.StopRanks(all ? 0 : rank, all ? group.size() - 1 : rank, chance.Pick(kStops));
    }
    case Fault::kHang:
      return group.Hang(chance.OneIn(2) ? 1'000 : 30'000);
    case Fault::kConfess:
      return group.Confess(chance.OneIn(2) ? LossCause::kWrongAnswer : LossCause::kOutOfMemory);
    case Fault::kLie:
      return group.Lie();
    case Fault::kReset:
      return group.Reset(rank);
    case Fault::kHalfOpen:
      return group.HalfOpen(rank, chance.OneIn(2) ? Side::kRank : Side::kCoordinator);
    case Fault::kStall:
      return CutOff(group, /*whole=*/false);
    case Fault::kPartition:
      return CutOff(group, /*whole=*/true);
    case Fault::kSlow:
      return group.Slow(chance.OneIn(4) ? some_ms() : 12'000);
    case Fault::kFail:
      return group.Fail(some_ms());
    case Fault::kCrash:
      host_.Crash();
      ++context_.counters.restarts;
      return context_.loop.After(1 + chance.Draw(0, chance.OneIn(3) ? 8'000 : 500),
                                 [this] { host_.Start(); });
    case Fault::kPause:
      return host_.Pause(some_ms());
    case Fault::kJump:
      context_.Log("time jumps");
      context_.loop.Skip(some_ms());
      context_.woke = context_.loop.now();
      return;
    case Fault::kDrain:
      return host_.Drain();
    case Fault::kTerm:
      return group.Term();
    case Fault::kPoison:
      return clients_.AskPoison();
    case Fault::kUnsound:
    case Fault::kRefuse:
      return;
  }
}

void Simulation::CutOff(FakeGroup& group, bool whole) {
  Chance& chance = context_.chance;
  const bool up = chance.Draw(0, 2) > 0;
  const bool down = !up || chance.OneIn(2);
  const int64_t milliseconds = chance.Draw(50, chance.OneIn(3) ? 8'000 : 800);
  const auto one = static_cast<int32_t>(chance.Draw(0, group.size() - 1));
  for (int32_t rank = whole ? 0 : one; rank <= (whole ? group.size() - 1 : one); ++rank) {
    group.Stall(rank, up, down, milliseconds);
  }
}

void Simulation::Heal() {
  context_.Log("all is healed");
  context_.healing = true;
  host_.Start();
  context_.loop.After(kProbedAfterMs, [this] { clients_.Probe(); });
  for (Slot& slot : slots_) {
    if (!slot.group || !slot.group->alive()) continue;
    slot.group->Heal();
    slot.group->leader().refuse_one_in = 0;
  }
  // A sound group of each key that is large enough, whatever the others are.
  for (const RankRegistration& shape : shapes_) {
    for (Slot& slot : slots_) {
      if (slot.shape.numerics_id != shape.numerics_id) continue;
      if (slot.group && slot.group->alive()) {
        slot.group->Blame();
        slot.group->EndAll();
      } else {
        LaunchAfter(slot, 100);
      }
      break;
    }
  }
}

}  // namespace shoal::core::net_sim
