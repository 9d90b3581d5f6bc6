#include "tests/coordinator/core/net_sim/promise/overload_checker.h"

#include <algorithm>

#include "tests/coordinator/core/net_sim/world/clients.h"
#include "transport/base/check.h"

namespace shoal::core::net_sim {

namespace {

// Nothing is told to anybody so long after its deadline.
constexpr TimeNs kLateNs = 100 * kMillisecondNs;
// So long after a request was refused for want of room no worse one is taken.
constexpr TimeNs kRefusalWindowNs = kSecondNs;

bool IsFull(const StreamError& error) {
  return error.reason == BusyReason::kQueueFull || error.reason == BusyReason::kKvFull;
}

}  // namespace

void OverloadChecker::NewRegion() {
  ledger_.NewRegion(policy_, context_.loop.now());
  breaker_.NewRegion();
  deadlines_.clear();
  adopted_.clear();
  fresh_.clear();
  refusals_.clear();
  in_flight_.clear();
}

void OverloadChecker::Reloaded(const TenantsPolicy& policy) {
  policy_ = policy;
  ledger_.Reload(policy, context_.loop.now());
}

// ---- Requests ----

void OverloadChecker::Asks(const ClientStream& asked, bool before_its_size, const Region& region) {
  fresh_.clear();
  fresh_[asked.key] = {};
  for (const auto& [number, group] : region.groups()) {
    if (before_its_size && group.state == GroupState::kReady) fresh_[group.key] = {};
  }
  for (const auto& [id, stream] : region.streams()) {
    const auto fresh = fresh_.find(stream.key);
    if (fresh != fresh_.end() && !stream.group && !stream.parked) {
      ++fresh->second[static_cast<size_t>(stream.grant.service_class)];
    }
  }
}

size_t OverloadChecker::KeptFor(ServiceClass service_class) const {
  return static_cast<size_t>(policy_.classes[static_cast<size_t>(service_class)].floor_share *
                             context_.swarm.queue_requests_max);
}

void OverloadChecker::NoteFull(const ModelKey& key, ServiceClass service_class, bool sure) {
  auto& of_key = refusals_.try_emplace(key).first->second;
  Refusal& refusal = of_key[static_cast<size_t>(service_class)];
  refusal.of_any = context_.loop.now();
  if (sure) refusal.of_key = context_.loop.now();
}

bool OverloadChecker::WasBetterRefused(const ModelKey& key, ServiceClass service_class,
                                       bool sure) const {
  const auto found = refusals_.find(key);
  if (found == refusals_.end()) return false;
  for (size_t better = 0; better < static_cast<size_t>(service_class); ++better) {
    const Refusal& refusal = found->second[better];
    const TimeNs last = sure ? refusal.of_key : refusal.of_any;
    if (context_.loop.now() - last < kRefusalWindowNs) return true;
  }
  return false;
}

void OverloadChecker::Refused(const ClientStream& asked, bool before_its_size,
                              const StreamError& error) {
  const RequestTerms& terms = asked.request.terms;
  if (IsFull(error)) {
    for (const auto& [key, fresh] : fresh_) {
      NoteFull(key, asked.service_class, !before_its_size);
    }
  }
  // Breakers are asked before these, and after all others.
  const bool is_late = error.reason == BusyReason::kDeadlineUnreachable;
  if (error.reason == BusyReason::kBreakerOpen || IsFull(error) || is_late) {
    breaker_.Asked(asked.service_class, error.reason == BusyReason::kBreakerOpen);
  }
  // Of these nothing is counted.
  if (error.reason == BusyReason::kInvalid || error.reason == BusyReason::kDraining) return;
  const auto cost = before_its_size ? std::nullopt : std::optional(asked.tokens_needed);
  const std::string fault =
      ledger_.NoteRefused(terms, cost, in_flight_[terms.tenant], error, context_.loop.now());
  if (fault.empty()) return;
  context_.Violation(
      Str("a request is refused (", ToString(error.reason), ": ", error.message, "), but ", fault));
}

void OverloadChecker::Passed(const ClientStream& asked) {
  const std::string fault = ledger_.NotePassed(asked.request.terms, context_.loop.now());
  if (!fault.empty()) context_.Violation(fault);
  breaker_.Asked(asked.service_class, /*refused=*/false);
}

void OverloadChecker::Taken(StreamId id, const ClientStream& asked, bool joins) {
  const TimeNs now = context_.loop.now();
  const RequestTerms& terms = asked.request.terms;
  const std::string fault =
      ledger_.NoteTaken(id, joins, terms, asked.tokens_needed, in_flight_[terms.tenant], now);
  if (!fault.empty()) context_.Violation(fault);
  if (!joins) breaker_.Asked(asked.service_class, /*refused=*/false);
  deadlines_.erase(id);
  adopted_.erase(id);
  if (terms.deadline_ms > 0) {
    first_deadlines_[id] = deadlines_[id] = now + terms.deadline_ms * kMillisecondNs;
  }
  // Who joins takes nobody's place.
  if (joins || !WasBetterRefused(asked.key, asked.service_class, /*sure=*/true)) return;
  const size_t waiting = fresh_[asked.key][static_cast<size_t>(asked.service_class)];
  if (waiting < KeptFor(asked.service_class)) return;
  context_.Violation(Str("stream ", id, " of class ", ToString(asked.service_class),
                         " is taken, and a better one was refused for want of room a moment ago"));
}

void OverloadChecker::Adopted(StreamId id, const std::string& tenant, int64_t deadline_ms) {
  ledger_.NoteAdopted(tenant);
  adopted_.insert(id);
  if (deadline_ms == 0 || deadlines_.contains(id)) return;
  deadlines_[id] = context_.loop.now() + deadline_ms * kMillisecondNs;
}

void OverloadChecker::Displaced(const ClientStream& stream, bool sure) {
  context_.Log("stream ", stream.id, " has given its place to a better one",
               sure ? "" : ", perhaps");
  NoteFull(stream.key, stream.service_class, sure);
}

void OverloadChecker::Ended(StreamId id, bool has_listener, int64_t used) {
  if (!has_listener) deadlines_.erase(id);
  ledger_.End(id, used, context_.loop.now());
}

// ---- Deadlines ----

void OverloadChecker::Submitted(const SequenceRequest& request, const ClientStream& stream,
                                bool again, const Clients& clients) {
  if (request.service_class != stream.service_class ||
      request.tenant != stream.request.terms.tenant) {
    context_.Violation(Str("stream ", stream.id, " is given to a group as of class ",
                           ToString(request.service_class), " and tenant '", request.tenant, "'"));
  }
  if (again) return;
  const std::string fault = FindDeadlineFault(request, stream, clients);
  if (!fault.empty()) context_.Violation(Str("stream ", stream.id, " is given to a group", fault));
}

std::string OverloadChecker::FindDeadlineFault(const SequenceRequest& request,
                                               const ClientStream& stream,
                                               const Clients& clients) const {
  // By then nobody listens any more. None: somebody has no deadline.
  std::optional<TimeNs> latest = FindDeadline(stream.id);
  for (const StreamId reader : clients.attached()) {
    if (!latest || !clients.Find(reader)->AsksAs(stream)) continue;
    const std::optional<TimeNs> own = FindDeadline(reader);
    latest = own ? std::optional(std::max(*latest, *own)) : std::nullopt;
  }
  if (!latest) return "";
  if (*latest < context_.loop.now()) return " after its deadline";
  if (request.deadline_ms == 0) return " that is not told its deadline";
  const TimeNs left = *latest - context_.loop.now();
  const bool is_exact = !stream.request.shares && !adopted_.contains(stream.id);
  if (!is_exact || request.deadline_ms == (left + kMillisecondNs - 1) / kMillisecondNs) return "";
  return Str(" that is told ", request.deadline_ms, " ms, and it has ", left / kMillisecondNs);
}

std::optional<TimeNs> OverloadChecker::FindDeadline(StreamId id) const {
  const auto deadline = deadlines_.find(id);
  return deadline == deadlines_.end() ? std::nullopt : std::optional(deadline->second);
}

bool OverloadChecker::MayBeOverdue(StreamId id) const {
  const auto deadline = deadlines_.find(id);
  return deadline != deadlines_.end() && deadline->second <= context_.loop.now() + 2 * kLateNs;
}

void OverloadChecker::Delivered(StreamId id, bool replayed) {
  const auto deadline = deadlines_.find(id);
  if (replayed || deadline == deadlines_.end()) return;
  const TimeNs late_ns = context_.loop.now() - deadline->second;
  if (late_ns <= kLateNs) return;
  context_.Violation(
      Str("stream ", id, " is told tokens ", late_ns / kMillisecondNs, " ms after its deadline"));
}

void OverloadChecker::CheckOverdue(const Clients& clients) {
  const TimeNs now = context_.loop.now();
  for (const auto& [id, deadline] : deadlines_) {
    if (now - std::max(deadline, context_.woke) <= kLateNs || !clients.attached().contains(id)) {
      continue;
    }
    context_.Violation(Str("stream ", id, " goes on ", (now - deadline) / kMillisecondNs,
                           " ms after its deadline"));
  }
}

// ---- Quotas ----

// Of streams that are shared each reader is one in flight, and all but one are charged for joining.
void OverloadChecker::CheckHeld(const Region& region, const Clients& clients) {
  std::map<std::string, Tenants::Held> expected;
  std::map<std::string, int64_t> joined;
  for (const auto& [id, stream] : region.streams()) {
    const ClientStream* asked = clients.Find(id);
    if (asked == nullptr) continue;  // Told elsewhere.
    const std::string& tenant = asked->request.terms.tenant;
    if (stream.request.shares) {
      --joined[tenant];
    } else {
      ++expected[tenant].requests;
    }
  }
  for (const StreamId id : clients.attached()) {
    const ClientStream& reader = *clients.Find(id);
    if (!reader.request.shares) continue;
    ++joined[reader.request.terms.tenant];
    ++expected[reader.request.terms.tenant].requests;
  }
  const std::map<std::string, Tenants::Held> held = region.tenants().held();
  for (const auto& [tenant, of] : held) expected.try_emplace(tenant);
  in_flight_.clear();
  for (auto& [tenant, of] : expected) {
    of.tokens = ledger_.Held(tenant) + (ledger_.IsBounded(tenant) ? joined[tenant] : 0);
    in_flight_[tenant] = of.requests;
    const auto found = held.find(tenant);
    const Tenants::Held counted = found == held.end() ? Tenants::Held{} : found->second;
    if (of == counted) continue;
    context_.Violation(Str("tenant '", tenant, "' has ", of.requests, " requests in flight and ",
                           of.tokens, " tokens of its quota, the region counts ", counted.requests,
                           " and ", counted.tokens));
  }
}

void OverloadChecker::Check(const Region& region, const Clients& clients) {
  CheckHeld(region, clients);
  CheckOverdue(clients);
}

// ---- Reasons ----

// What room there is for it after all; empty if there is none.
std::string OverloadChecker::FindRoom(const ModelKey& key, ServiceClass service_class) const {
  const auto fresh = fresh_.find(key);
  if (fresh == fresh_.end()) return "no such model";
  if (WasBetterRefused(key, service_class, /*sure=*/false) &&
      fresh->second[static_cast<size_t>(service_class)] >= KeptFor(service_class)) {
    return "";
  }
  size_t waiting = 0;
  for (const size_t count : fresh->second) waiting += count;
  if (waiting < static_cast<size_t>(context_.swarm.queue_requests_max)) {
    return Str("only ", waiting, " new ones wait");
  }
  for (auto worse = static_cast<size_t>(service_class) + 1; worse < kServiceClasses; ++worse) {
    if (fresh->second[worse] > KeptFor(static_cast<ServiceClass>(worse))) {
      return Str(fresh->second[worse], " of class ", ToString(static_cast<ServiceClass>(worse)),
                 " wait");
    }
  }
  return "";
}

std::string OverloadChecker::FindNoReason(const ClientStream& stream,
                                          const StreamError& error) const {
  const int64_t deadline_ms = stream.request.terms.deadline_ms;
  switch (error.reason) {
    case BusyReason::kQueueFull:
    case BusyReason::kKvFull: {
      std::string room;
      for (const auto& [key, fresh] : fresh_) {
        room = FindRoom(key, stream.service_class);
        if (room.empty()) break;
      }
      return room;
    }
    case BusyReason::kDeadlineUnreachable:
      return deadline_ms > 0 && error.predicted_wait_ms > deadline_ms
                 ? ""
                 : Str("its deadline is in ", deadline_ms, " ms");
    case BusyReason::kDeadlineExceeded: {
      const auto deadline = deadlines_.find(stream.id);
      if (deadline == deadlines_.end()) return "it has no deadline";
      // What leaders were told earlier was earlier here, too.
      const TimeNs first =
          adopted_.contains(stream.id) ? first_deadlines_.at(stream.id) : INT64_MAX;
      return std::min(first, deadline->second) <= context_.loop.now() ? "" : "it has time left";
    }
    case BusyReason::kBreakerOpen:
      return context_.swarm.overload.guard.breakers.empty() ? "there is no breaker" : "";
    default:
      return "";
  }
}

}  // namespace shoal::core::net_sim
