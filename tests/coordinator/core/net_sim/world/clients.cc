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

}  // namespace

Clients::Clients(Context& context, ClientDoor& door, std::vector<RankRegistration> shapes,
                 Justify justify)
    : context_(context), door_(door), shapes_(std::move(shapes)), justify_(std::move(justify)) {}

const ClientStream* Clients::Find(StreamId id) const {
  const auto stream = streams_.find(id);
  return stream == streams_.end() ? nullptr : &stream->second;
}

std::string Clients::FindOpen() const {
  if (open_.empty()) return "";
  const ClientStream& stream = streams_.at(*open_.begin());
  return Str("stream ", stream.id, " has ", stream.tokens, " of ", stream.twin.tokens.size(),
             " tokens", stream.attached ? "" : " and no listener");
}

void Clients::Start() {
  context_.loop.After(context_.chance.Draw(1, 2 * context_.swarm.request_every_ms), [this] {
    if (context_.healing) return;
    Arrive();
    Start();
  });
}

void Clients::AskPoison() { Ask(0, MakeRequest(0, /*poison=*/true)); }

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
  return request;
}

void Clients::Arrive() {
  const auto key = static_cast<size_t>(context_.chance.Draw(0, std::ssize(shapes_) - 1));
  Ask(key, MakeRequest(key, /*poison=*/false));
}

void Clients::Ask(size_t key, Request request) {
  door_.Call([this, key, request = std::move(request)](Region& region) {
    const auto outcome = Submit(region, key, request);
    if (const auto* error = std::get_if<StreamError>(&outcome)) {
      if (error->reason != BusyReason::kQueueFull) return;
      const std::string fault = justify_({.key = KeyOf(shapes_[key])}, *error);
      if (!fault.empty()) context_.Violation(Str("a request is refused: queue_full, but ", fault));
      return;
    }
    ++context_.counters.streams;
    const StreamId id = std::get<StreamId>(outcome);
    if (request.stream && id != *request.stream) {
      context_.Violation(Str("stream ", *request.stream, " was taken as ", id));
    }
    ClientStream stream{.id = id, .request = request, .key = KeyOf(shapes_[key])};
    stream.request.stream = id;
    const int64_t room = shapes_[key].context_tokens - std::ssize(request.prompt);
    GenerationParams params = request.params;
    params.tokens_max = std::min(params.tokens_max, room);
    stream.tokens_needed = std::ssize(request.prompt) + params.tokens_max;
    stream.granted = {
        .prompt = request.prompt, .params = params, .stream = id, .resumable = request.resumable};
    stream.twin = MakeTwin(stream.key.numerics_id, request.prompt, params);
    context_.Log("stream ", id, " is taken: ", stream.twin.tokens.size(), " tokens to come",
                 request.resumable ? ", resumable" : "");
    if (!streams_.emplace(id, std::move(stream)).second) {
      context_.Violation(Str("stream ", id, " was given out twice"));
      return;
    }
    open_.insert(id);
    Attach(streams_.at(id));
    Plan(id);
  });
}

std::variant<StreamId, StreamError> Clients::Submit(Region& region, size_t key,
                                                    const Request& request) {
  if (context_.bug == PlantedBug::kCountsParked) {
    const auto waiting = std::ranges::count_if(region.streams(), [&](const auto& entry) {
      return !entry.second.group && entry.second.key == KeyOf(shapes_[key]);
    });
    if (waiting > 0 && waiting >= context_.swarm.queue_requests_max) {
      return MakeStreamError(BusyReason::kQueueFull, "by mistake");
    }
  }
  return region.Submit(request);
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
    if (region.streams().contains(id)) context_.Violation(Str("cancelled stream ", id, " lives"));
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
    if (!stream.request.resumable && region.streams().contains(id)) {
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

void Clients::Retry(StreamId id) {
  ClientStream& stream = streams_.at(id);
  // In the end somebody serves it.
  if (++stream.returns > kReturnsMax && !context_.healing) {
    context_.Log("the client of stream ", id, " gives up");
    return Finish(stream);
  }
  context_.loop.After(context_.chance.Draw(200, 800), [this, id] { ComeBack(id); });
}

void Clients::ComeBack(StreamId id) {
  ClientStream& stream = streams_.at(id);
  if (stream.over) return;
  const bool done = door_.Call([&](Region& region) {
    const bool known = region.streams().contains(id) || region.ended().contains(id);
    if (known && context_.chance.OneIn(4)) Intrude(region, stream);
    const auto outcome = region.Resume(stream.request);
    if (const auto* error = std::get_if<StreamError>(&outcome)) {
      context_.Log("stream ", id, " is not resumed: ", error->message);
      if (error->reason == BusyReason::kInvalid) {
        context_.Violation(Str("stream ", id, " is not resumed: ", error->message));
      } else if (error->reason == BusyReason::kRequestSuspect) {
        ++context_.counters.failed;
        return Finish(stream);
      }
      return Retry(id);
    }
    const bool recomputing = std::get<0>(outcome).recomputing;
    context_.Log("the client of stream ", id, " is back", recomputing ? ", recomputing" : "");
    if (recomputing == known) {
      context_.Violation(Str("stream ", id, known ? " was known" : " was not known",
                             ", and recomputing is ", recomputing));
    }
    ++context_.counters.resumed;
    if (recomputing) ++context_.counters.recomputed;
    Attach(stream);
    Plan(id);
  });
  if (!done) Retry(id);
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
  const std::string difference =
      FindDifference(stream.twin, stream.tokens, stream.prompt_logprobs, update);
  if (!difference.empty()) return context_.Violation(Str("stream ", id, ": ", difference));
  stream.tokens += update.tokens.size();
  stream.prompt_logprobs += update.prompt_logprobs.size();
  stream.seen = std::max(stream.seen, stream.tokens);
  if (update.finish == FinishReason::kNone) return;
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
  Finish(found->second);
}

}  // namespace shoal::core::net_sim
