#include "tests/coordinator/core/net_sim/world/clients.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <variant>

#include "transport/base/check.h"

namespace shoal::core::net_sim {

namespace {

// A client that is refused so often gives up.
constexpr int64_t kReturnsMax = 60;
// Requests of each key that many ask.
constexpr int64_t kAlike = 3;
// One whose deadline was out of reach so often sees that it always will be.
constexpr int64_t kReturnsInVain = 5;
// So many honest clients wait to come again; others give up at once.
constexpr int64_t kWaitingMax = 6;
// Nobody waits for longer than that.
constexpr int64_t kPatienceMs = 60'000;

// It is more than its tenant may use at once, and not only for now.
bool IsOfQuota(const StreamError& error) {
  return error.message.find("burst_tokens") != std::string::npos;
}

}  // namespace

Clients::Clients(Context& context, ClientDoor& door, std::vector<RankRegistration> shapes,
                 OverloadChecker& overload, Justify justify)
    : context_(context),
      door_(door),
      shapes_(std::move(shapes)),
      overload_(overload),
      justify_(std::move(justify)) {}

const ClientStream* Clients::Find(StreamId id) const {
  const auto stream = streams_.find(id);
  return stream == streams_.end() ? nullptr : &stream->second;
}

bool Clients::HasReader(StreamId id) const {
  if (attached_.contains(id)) return true;
  const ClientStream* stream = Find(id);
  return stream != nullptr && std::ranges::any_of(attached_, [&](StreamId reader) {
           return streams_.at(reader).AsksAs(*stream);
         });
}

std::string Clients::FindOpen() const {
  if (open_.empty() && waiting_ > 0) return Str(waiting_, " honest clients still come again");
  if (open_.empty() && probes_ > 0) return Str(probes_, " requests have no answer");
  if (open_.empty()) return probed_ ? "" : "nobody has probed";
  const ClientStream& stream = streams_.at(*open_.begin());
  return Str("stream ", stream.id, " has ", stream.tokens, " of ", stream.twin.tokens.size(),
             " tokens", stream.attached ? "" : " and no listener");
}

void Clients::Start() {
  for (int64_t i = 0; i < context_.swarm.overload.angry; ++i) {
    context_.loop.After(context_.swarm.overload.storm_from_ms + i, [this] { Rage(); });
  }
  ScheduleArrival();
}

void Clients::ScheduleArrival() {
  context_.loop.After(context_.chance.Draw(1, 2 * context_.swarm.request_every_ms), [this] {
    if (context_.healing) return;
    Arrive();
    ScheduleArrival();
  });
}

void Clients::AskPoison() { Ask(0, MakeRequest(0, /*poison=*/true), {}); }

Request Clients::MakeRequest(size_t key, bool poison) {
  Chance& chance = context_.chance;
  Request request;
  request.prompt.resize(static_cast<size_t>(chance.Draw(1, chance.OneIn(4) ? 30 : 6)));
  for (int32_t& token : request.prompt) token = static_cast<int32_t>(chance.Draw(0, kPoison - 1));
  if (poison) request.prompt.front() = kPoison;
  GenerationParams& params = request.params;
  params.sampling.seed = chance.Next();
  params.tokens_max = chance.Draw(1, context_.swarm.tokens_max);
  params.top_logprobs = static_cast<int32_t>(chance.OneIn(3) ? chance.Draw(0, 2) : -1);
  params.prompt_logprobs = chance.OneIn(4);
  if (params.prompt_logprobs && chance.OneIn(8)) params.tokens_max = 0;
  params.priority = static_cast<int32_t>(chance.OneIn(4) ? chance.Draw(-2, 2) : 0);
  request.model = shapes_[key].model_name;
  request.numerics_id = shapes_[key].numerics_id;
  request.resumable = chance.Roll(context_.swarm.resumable);
  if (request.resumable || chance.OneIn(2)) request.stream = StreamId{chance.Next(), chance.Next()};
  request.terms = context_.swarm.overload.DrawTerms(chance);
  if (!poison && chance.Roll(context_.swarm.overload.alike)) MakeAlike(key, request);
  return request;
}

// One of a few that many ask.
void Clients::MakeAlike(size_t key, Request& request) const {
  Chance alike(key * kAlike + static_cast<size_t>(context_.chance.Draw(0, kAlike - 1)));
  request.prompt.assign(static_cast<size_t>(alike.Draw(1, 6)), 0);
  for (int32_t& token : request.prompt) token = static_cast<int32_t>(alike.Draw(0, kPoison - 1));
  request.params = {};
  request.params.sampling.seed = alike.Next();
  request.params.tokens_max = alike.Draw(1, context_.swarm.tokens_max);
  request.params.top_logprobs = static_cast<int32_t>(alike.Draw(-1, 1));
  request.params.prompt_logprobs = alike.OneIn(3);
  request.shares = true;
  request.resumable = false;
}

void Clients::Arrive() {
  const auto key = static_cast<size_t>(context_.chance.Draw(0, std::ssize(shapes_) - 1));
  Ask(key, MakeRequest(key, /*poison=*/false), {.honest = context_.chance.OneIn(2)});
}

// As a stream that it may become.
ClientStream Clients::MakeStream(size_t key, const Request& request) const {
  ClientStream stream{.shape = key, .request = request, .key = KeyOf(shapes_[key])};
  stream.service_class = ClassOf(overload_.policy(), request.terms);
  GenerationParams params = request.params;
  params.tokens_max =
      std::min(params.tokens_max, shapes_[key].context_tokens - std::ssize(request.prompt));
  stream.tokens_needed = std::ssize(request.prompt) + params.tokens_max;
  stream.granted = {.prompt = request.prompt, .params = params, .resumable = request.resumable};
  return stream;
}

bool Clients::IsStorm() const {
  const Overload& overload = context_.swarm.overload;
  const int64_t now_ms = context_.loop.now_ms() - 1'000;
  return !context_.healing && now_ms >= overload.storm_from_ms && now_ms < overload.storm_until_ms;
}

// One angry client, who asks for one thing after the other.
void Clients::Rage() {
  if (!IsStorm()) return;
  const auto key = static_cast<size_t>(context_.chance.Draw(0, std::ssize(shapes_) - 1));
  Ask(key, MakeRequest(key, /*poison=*/false), {.angry = true});
}

void Clients::Probe() {
  probed_ = true;
  std::vector<std::string> tenants = {""};
  for (const TenantPolicy& tenant : overload_.policy().tenants) tenants.push_back(tenant.name);
  for (size_t key = 0; key < shapes_.size(); ++key) {
    for (const std::string& tenant : tenants) {
      for (const int64_t deadline_ms : {0, 20'000}) {
        Request request;
        request.prompt = {1, 2, 3};
        request.params.tokens_max = 5;
        request.params.sampling.seed = context_.chance.Next();
        request.model = shapes_[key].model_name;
        request.numerics_id = shapes_[key].numerics_id;
        request.terms.tenant = tenant;
        request.terms.deadline_ms = deadline_ms;
        ++probes_;
        Ask(key, std::move(request), {.honest = true, .probes = true});
      }
    }
  }
}

void Clients::AskAgain(size_t key, Request request, Manner manner, const StreamError* error) {
  int64_t after_ms = 300;
  if (manner.angry) {
    if (!IsStorm()) return;
    after_ms = context_.chance.Draw(10, 100);
    ++context_.counters.angry;
  } else if (!manner.honest || (waiting_ >= kWaitingMax && !manner.probes)) {
    return;
  } else if (error != nullptr) {
    const bool was_late = manner.probes && error->reason == BusyReason::kDeadlineExceeded;
    const int64_t returns_max =
        error->reason == BusyReason::kDeadlineUnreachable ? kReturnsInVain : kReturnsMax;
    const bool is_hopeless = (error->retry_after_ms == 0 && !was_late) ||
                             error->retry_after_ms > kPatienceMs ||
                             (!manner.probes && ++manner.returns > returns_max);
    if (is_hopeless && manner.probes) {
      context_.Violation(Str("a request like any other is refused for good: ", error->message));
    }
    if (is_hopeless) return;
    context_.Log("attempt ", request.terms.attempt, " of tenant '", request.terms.tenant,
                 "' is refused: ", ToString(error->reason), ": ", error->message);
    after_ms = error->retry_after_ms + context_.chance.Draw(0, 200);
  }
  if (error != nullptr) request.terms.attempt = std::min(request.terms.attempt + 1, kAttemptMax);
  if (manner.honest) ++waiting_;
  context_.loop.After(after_ms, [this, key, request, manner] {
    if (manner.honest) --waiting_;
    Ask(key, request, manner);
  });
}

void Clients::Ask(size_t key, Request request, Manner manner) {
  std::optional<StreamError> refusal;
  const bool done = door_.Call([&](Region& region) {
    ClientStream stream = MakeStream(key, request);
    stream.manner = manner;
    if (context_.chance.OneIn(2)) refusal = PreCheck(region, stream);
    if (refusal) return;
    const auto outcome = Submit(region, stream);
    if (const auto* error = std::get_if<StreamError>(&outcome)) {
      refusal = *error;
      return;
    }
    if (manner.honest && request.terms.attempt > 1) ++context_.counters.honest;
    ++context_.counters.streams;
    const StreamId id = stream.id;
    if (request.stream && id != *request.stream) {
      context_.Violation(Str("stream ", *request.stream, " was taken as ", id));
    }
    stream.request.stream = id;
    stream.granted.stream = id;
    stream.twin = MakeTwin(stream.key.numerics_id, request.prompt, stream.granted.params);
    context_.Log("stream ", id, " is taken: ", stream.twin.tokens.size(), " tokens to come",
                 request.resumable ? ", resumable" : "");
    if (!streams_.emplace(id, std::move(stream)).second) {
      context_.Violation(Str("stream ", id, " was given out twice"));
      return;
    }
    open_.insert(id);
    Attach(streams_.at(id));
    if (!manner.probes) Plan(id);
  });
  if (!done || refusal) AskAgain(key, std::move(request), manner, refusal ? &*refusal : nullptr);
}

std::optional<StreamError> Clients::PreCheck(Region& region, const ClientStream& asked) {
  overload_.Asks(asked, /*before_its_size=*/true, region);
  std::optional<StreamError> error = region.PreCheck(asked.request.terms);
  if (!error) {
    overload_.Passed(asked);
    return std::nullopt;
  }
  const std::string fault = overload_.FindNoReason(asked, *error);
  if (!fault.empty()) {
    context_.Violation(
        Str("a request is refused at once: ", ToString(error->reason), ", but ", fault));
  }
  ++context_.counters.refusals[static_cast<int>(error->reason)];
  overload_.Refused(asked, /*before_its_size=*/true, *error);
  return error;
}

std::variant<StreamId, StreamError> Clients::Submit(Region& region, ClientStream& asked) {
  if (context_.bug == PlantedBug::kCountsParked) {
    const auto waiting = std::ranges::count_if(region.streams(), [&](const auto& entry) {
      return !entry.second.group && entry.second.key == asked.key;
    });
    if (waiting > 0 && waiting >= context_.swarm.queue_requests_max) {
      overload_.Asks(asked, /*before_its_size=*/false, region);
      const StreamError error = MakeStreamError(BusyReason::kQueueFull, "by mistake");
      NoteOutcome(region, asked, error);
      return error;
    }
  }
  overload_.Asks(asked, /*before_its_size=*/false, region);
  Request heard = asked.request;
  if (context_.bug == PlantedBug::kTakesRetriesForFirst) heard.terms.attempt = 1;
  auto outcome = region.Submit(std::move(heard));
  NoteOutcome(region, asked, outcome);
  return outcome;
}

void Clients::NoteOutcome(Region& region, ClientStream& asked,
                          const std::variant<StreamId, StreamError>& outcome) {
  if (const auto* error = std::get_if<StreamError>(&outcome)) {
    const std::string fault = overload_.FindNoReason(asked, *error);
    if (!fault.empty()) {
      context_.Violation(Str("a request is refused: ", ToString(error->reason), ", but ", fault));
    }
    ++context_.counters.refusals[static_cast<int>(error->reason)];
    return overload_.Refused(asked, /*before_its_size=*/false, *error);
  }
  asked.id = std::get<StreamId>(outcome);
  const bool joins = !region.streams().contains(asked.id);
  if (joins && !asked.request.shares) {
    context_.Violation(Str("stream ", asked.id, " was taken, and is not there"));
  }
  if (joins) ++context_.counters.joined;
  overload_.Taken(asked.id, asked, joins);
}

void Clients::Attach(ClientStream& stream) {
  stream.attached = true;
  stream.tokens = stream.prompt_logprobs = 0;
  attached_.insert(stream.id);
}

void Clients::Unattach(ClientStream& stream) {
  stream.attached = false;
  stream.away_since = context_.loop.now();
  attached_.erase(stream.id);
}

void Clients::Finish(ClientStream& stream) {
  stream.over = true;
  Unattach(stream);
  open_.erase(stream.id);
  // What goes on for others goes on under its name.
  if (!HasReader(stream.id)) overload_.Over(stream.id);
}

// What its client will do, unless the stream ends before.
void Clients::Plan(StreamId id) {
  Chance& chance = context_.chance;
  if (chance.Roll(context_.swarm.impatient)) {
    context_.loop.After(chance.Draw(1, 4'000), [this, id] { GiveUp(id); });
  } else if (chance.Roll(context_.swarm.restless)) {
    // Some come on another connection before the first one is known to be broken.
    if (streams_.at(id).request.resumable && chance.OneIn(5)) {
      return context_.loop.After(chance.Draw(1, 1'000), [this, id] { ComeBack(id); });
    }
    context_.loop.After(chance.Draw(1, 3'000), [this, id] { GoAway(id); });
  }
}

void Clients::GiveUp(StreamId id) {
  ClientStream& stream = streams_.at(id);
  if (stream.over) return;
  const bool done = door_.Call([&](Region& region) {
    context_.Log("stream ", id, " is cancelled");
    Finish(stream);
    ++context_.counters.cancelled;
    region.Cancel(id);
    if (region.streams().contains(id) && !HasReader(id)) {
      context_.Violation(Str("cancelled stream ", id, " lives"));
    }
  });
  if (!done) context_.loop.After(300, [this, id] { GiveUp(id); });
}

void Clients::GoAway(StreamId id) {
  ClientStream& stream = streams_.at(id);
  if (!stream.attached) return;
  const bool done = door_.Call([&](Region& region) {
    context_.Log("the client of stream ", id, " goes");
    ++context_.counters.detached;
    // What was under way to it is lost.
    stream.seen = std::max(stream.seen, stream.tokens - std::min<size_t>(stream.tokens, 2));
    Unattach(stream);
    region.Detach(id);
    stream.wanted = stream.request.resumable && !context_.chance.OneIn(8);
    if (!stream.wanted) Finish(stream);
    if (!stream.request.resumable && region.streams().contains(id) && !HasReader(id)) {
      context_.Violation(Str("stream ", id, " lives, and its client is gone for good"));
    }
  });
  const int64_t away_ms =
      context_.chance.Draw(10, context_.swarm.orphan_grace_ms * (context_.chance.OneIn(5) ? 2 : 1));
  if (!done) return context_.loop.After(300, [this, id] { GoAway(id); });
  if (stream.wanted) context_.loop.After(away_ms, [this, id] { ComeBack(id); });
}

// Of somebody who has the id and another request, or asks for an id that is taken.
void Clients::Intrude(Region& region, const ClientStream& stream) {
  Request other = stream.request;
  other.prompt.push_back(1);
  const auto resumed = region.Resume(other);
  const auto* refusal = std::get_if<StreamError>(&resumed);
  if (refusal == nullptr || refusal->reason != BusyReason::kInvalid) {
    context_.Violation(Str("stream ", stream.id, " was given to another request"));
  }
  const auto taken = region.Submit(stream.request);
  if (!std::holds_alternative<StreamError>(taken)) {
    context_.Violation(Str("stream ", stream.id, " was taken twice"));
  }
}

void Clients::Retry(StreamId id, const StreamError& error) {
  ClientStream& stream = streams_.at(id);
  const bool in_vain = error.reason == BusyReason::kDeadlineUnreachable;
  // In the end somebody serves it.
  if (++stream.returns > kReturnsMax && (in_vain || !context_.healing)) {
    context_.Log("the client of stream ", id, " gives up");
    return Finish(stream);
  }
  // As it was told; one who was told nothing, or to wait for long, tries all the same.
  const int64_t after_ms = error.retry_after_ms > kPatienceMs ? 0 : error.retry_after_ms;
  context_.loop.After(after_ms + context_.chance.Draw(200, 800), [this, id] { ComeBack(id); });
}

void Clients::ComeBack(StreamId id) {
  ClientStream& stream = streams_.at(id);
  if (stream.over) return;
  const bool done = door_.Call([&](Region& region) {
    const bool known = region.streams().contains(id) || region.ended().contains(id);
    if (known && context_.chance.OneIn(4)) Intrude(region, stream);
    if (!known) overload_.Asks(stream, /*before_its_size=*/false, region);
    if (!known) stream.service_class = ClassOf(overload_.policy(), stream.request.terms);
    const auto outcome = region.Resume(stream.request);
    const auto* refusal = std::get_if<StreamError>(&outcome);
    if (!known && refusal != nullptr) NoteOutcome(region, stream, *refusal);
    if (!known && refusal == nullptr) NoteOutcome(region, stream, id);
    if (const auto* error = std::get_if<StreamError>(&outcome)) {
      context_.Log("stream ", id, " is not resumed: ", error->message);
      if (error->reason == BusyReason::kInvalid) {
        context_.Violation(Str("stream ", id, " is not resumed: ", error->message));
      } else if (error->reason == BusyReason::kRequestSuspect) {
        ++context_.counters.failed;
        return Finish(stream);
      } else if (error->reason == BusyReason::kTooLarge && IsOfQuota(*error)) {
        return Finish(stream);
      }
      return Retry(id, *error);
    }
    const bool recomputing = std::get<0>(outcome).recomputing;
    context_.Log("the client of stream ", id, " is back", recomputing ? ", recomputing" : "");
    if (recomputing == known) {
      context_.Violation(Str("stream ", id, known ? " was known" : " was not known",
                             ", and recomputing is ", recomputing));
    }
    ++context_.counters.resumed;
    stream.replays = region.ended().contains(id);
    if (recomputing) ++context_.counters.recomputed;
    Attach(stream);
    Plan(id);
  });
  if (!done) Retry(id, {});
}

void Clients::OnCoordinatorLost() {
  for (const StreamId id : std::set<StreamId>(attached_)) {
    ClientStream& stream = streams_.at(id);
    stream.seen = std::max(stream.seen, stream.tokens - std::min<size_t>(stream.tokens, 2));
    Unattach(stream);
    if (stream.request.resumable) {
      context_.loop.After(context_.chance.Draw(0, 2'000), [this, id] { ComeBack(id); });
    } else {
      Finish(stream);
    }
  }
}

void Clients::OnDeliver(StreamId id, const SequenceUpdate& update) {
  const auto found = streams_.find(id);
  if (found == streams_.end() || !found->second.attached) {
    return context_.Violation(Str("tokens of stream ", id, " for nobody"));
  }
  ClientStream& stream = found->second;
  if (update.tokens_before != static_cast<int64_t>(stream.tokens) ||
      update.prompt_logprobs_before != static_cast<int64_t>(stream.prompt_logprobs)) {
    context_.Violation(Str("stream ", id, " goes on after ", update.tokens_before, " tokens and ",
                           update.prompt_logprobs_before, " positions, its listener has ",
                           stream.tokens, " and ", stream.prompt_logprobs));
  }
  overload_.Delivered(id, stream.replays);
  const std::string difference =
      FindDifference(stream.twin, stream.tokens, stream.prompt_logprobs, update);
  if (!difference.empty()) return context_.Violation(Str("stream ", id, ": ", difference));
  stream.tokens += update.tokens.size();
  stream.prompt_logprobs += update.prompt_logprobs.size();
  stream.seen = std::max(stream.seen, stream.tokens);
  if (update.finish == FinishReason::kNone) return;
  stream.replays = false;
  context_.Log("stream ", id, " has ended");
  // The end too may be lost on its way.
  if (stream.request.resumable && !context_.healing &&
      context_.chance.Roll(context_.swarm.restless / 4)) {
    Unattach(stream);
    context_.loop.After(context_.chance.Draw(0, 1'000), [this, id] { ComeBack(id); });
    return;
  }
  ++context_.counters.ended;
  Finish(stream);
  if (stream.manner.probes) --probes_;
  // An angry client goes on with the next one.
  if (stream.manner.angry) context_.loop.After(context_.chance.Draw(10, 100), [this] { Rage(); });
}

void Clients::OnFail(StreamId id, const StreamError& error) {
  const auto found = streams_.find(id);
  if (found == streams_.end() || !found->second.attached) {
    return context_.Violation(Str("an error of stream ", id, " for nobody: ", error.message));
  }
  context_.Log("stream ", id, " fails: ", ToString(error.reason), ": ", error.message);
  const std::string fault = justify_(found->second, error);
  if (!fault.empty()) {
    return context_.Violation(Str("stream ", id, " fails (", ToString(error.reason), ": ",
                                  error.message, "), but ", fault));
  }
  ++context_.counters.failed;
  if (error.reason == BusyReason::kRequestSuspect) ++context_.counters.suspects;
  if (error.reason == BusyReason::kDeadlineExceeded) ++context_.counters.expired;
  if (error.reason == BusyReason::kQueueFull) overload_.Displaced(found->second, /*sure=*/true);
  ClientStream& stream = found->second;
  Finish(stream);
  if (!stream.manner.honest && !stream.manner.angry) return;
  Request again = stream.request;
  again.stream.reset();
  if (again.resumable) again.stream = StreamId{context_.chance.Next(), context_.chance.Next()};
  AskAgain(stream.shape, std::move(again), stream.manner, &error);
}

}  // namespace shoal::core::net_sim
