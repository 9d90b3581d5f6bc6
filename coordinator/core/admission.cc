#include "coordinator/core/admission.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "coordinator/core/catalog.h"
#include "coordinator/core/groups/versions.h"
#include "transport/base/check.h"

namespace shoal::core {
namespace {

// When whoever is refused for lack of room is asked to come again.
constexpr int64_t kRetryAfterMinMs = 10;
constexpr int64_t kRetryAfterMaxMs = 60'000;

// How long it may become.
struct Size {
  int64_t tokens_max = 0;  // Cut to what the context leaves room for.
  int64_t needed = 0;      // Prompt and answer.
};

StreamError NoGroupError(const Request& request, const RegionOptions& options,
                         const Groups& groups) {
  std::string message = Str("no group of workers is ready",
                            request.model.empty() ? "" : " that serves ", request.model);
  const std::optional<std::string> name = ModelName(request.model, options, groups);
  const auto full = std::ranges::find_if(groups.all(), [&](const auto& entry) {
    const Group& group = entry.second;
    return group.state == GroupState::kCanary && group.CanaryWaits() && group.key.name == name;
  });
  if (full != groups.all().end()) {
    message += Str(": ", full->second.Name(), " goes on with as many streams of before as its ",
                   "steps hold, and takes new requests soon after one of them has ended");
  }
  return MakeStreamError(BusyReason::kNoGroup, std::move(message));
}

std::optional<StreamError> FindSuspicion(const Request& request, const ModelKey& key,
                                         const AdmissionView& view) {
  const TimeNs refused_ns = view.suspects.RefusedFor(key, request.prompt, view.now);
  if (refused_ns <= 0) return std::nullopt;
  return StreamError{BusyReason::kRequestSuspect,
                     Str(view.options.groups_per_stream_max,
                         " groups were lost that had this prompt: it is "
                         "not taken again for a while"),
                     (refused_ns + kMillisecondNs - 1) / kMillisecondNs};
}

std::variant<Size, StreamError> Measure(const Request& request, const ModelKey& key,
                                        const AdmissionView& view) {
  const int64_t context_tokens = ContextTokens(view.options, view.groups.models().at(key));
  const auto prompt_tokens = static_cast<int64_t>(request.prompt.size());
  const GenerationParams& params = request.params;
  // Subtracted rather than added: tokens_max is the user's.
  const int64_t room = context_tokens - prompt_tokens;
  if (room < std::min<int64_t>(params.tokens_max, 1)) {
    return MakeStreamError(
        BusyReason::kTooLarge,
        Str("the prompt has ", prompt_tokens, " tokens, the context ", context_tokens,
            params.tokens_max > 0 ? " with at least one for the answer" : "",
            ": shorten the prompt"));
  }
  const Size size{std::min(params.tokens_max, room),
                  prompt_tokens + std::min(params.tokens_max, room)};
  const int64_t largest = LargestKvCacheTokens(view.groups.all(), key);
  if (size.needed <= largest) return size;
  return MakeStreamError(
      BusyReason::kTooLarge,
      Str("prompt and answer may need ", size.needed, " tokens of KV cache, the largest group has ",
          largest, ": ask for fewer tokens, or raise --kv-cache-tokens or --kv-cache-bytes-max"));
}

// What a request that asks so will wait for; without admission nobody asks.
std::optional<WaitAnswer> Predict(const WaitQuestion& question, const AdmissionView& view) {
  if (!view.options.protections.admission) return std::nullopt;
  return view.waits.Predict(question, view.groups.all(), view.streams);
}

// Whether the groups that could hold so many tokens all lack memory rather than slots.
bool IsKvCacheFull(const ModelKey& key, int64_t needed, const AdmissionView& view) {
  bool some = false;
  for (const auto& [number, group] : view.groups.all()) {
    if (group.key != key || group.state != GroupState::kReady ||
        group.shape().kv_cache_tokens < needed) {
      continue;
    }
    if (!group.LacksKvCache()) return false;
    some = true;
  }
  return some;
}

// That there is no place for it, not even that of somebody worse. None: there is one.
std::optional<StreamError> FindQueueFull(const ModelKey& key, int64_t needed,
                                         const RequestTerms& terms, const AdmissionView& view) {
  const ServiceClass service_class = view.tenants.ClassOf(terms);
  const FairQueue& queue = view.streams.waiting(key);
  const auto kept = KeptPlaces(view.tenants.policy(), view.options);
  const auto better = view.refusals.FindBetter(key, service_class, view.now);
  if (better && view.options.protections.admission &&
      queue.fresh(service_class) >= kept[static_cast<size_t>(service_class)]) {
    return MakeStreamError(BusyReason::kQueueFull,
                           Str("there was no room for requests of class ", ToString(*better),
                               " a moment ago: until they come again, none of class ",
                               ToString(service_class), " is taken"));
  }
  const size_t waiting = queue.fresh();
  if (waiting < static_cast<size_t>(view.options.queue_requests_max) ||
      HasRoom(view.groups.all(), key, needed, service_class)) {
    return std::nullopt;
  }
  const TenantPolicy& tenant = view.tenants.PolicyOf(terms.tenant);
  if (queue.FindVictim({.tenant = tenant.name,
                        .service_class = service_class,
                        .weight = tenant.weight,
                        .retry = terms.attempt > 1},
                       kept)) {
    return std::nullopt;
  }
  if (IsKvCacheFull(key, needed, view)) {
    return MakeStreamError(BusyReason::kKvFull, Str("the KV cache of every group that could hold ",
                                                    needed, " tokens is promised to others, and ",
                                                    waiting, " requests wait already"));
  }
  return MakeStreamError(BusyReason::kQueueFull,
                         Str("all groups are full and ", waiting, " requests wait already"));
}

// Whether its first token can be there by its deadline, by what is predicted. How long its answer
// will be nobody knows: if it is not complete by then, it is cut off.
std::optional<StreamError> FindLate(const std::optional<WaitAnswer>& predicted,
                                    const Request& request) {
  const int64_t deadline_ms = request.terms.deadline_ms;
  if (deadline_ms == 0 || !predicted || predicted->first_token_ms() <= deadline_ms) {
    return std::nullopt;
  }
  StreamError error =
      MakeStreamError(BusyReason::kDeadlineUnreachable,
                      Str("its first token is expected in ", predicted->first_token_ms(),
                          " ms, its deadline is in ", deadline_ms, " ms"));
  error.predicted_wait_ms = predicted->first_token_ms();
  error.retry_after_ms = predicted->first_token_ms() - deadline_ms;
  return error;
}

}  // namespace

StreamError TellWait(StreamError full, const std::optional<WaitAnswer>& predicted) {
  if (!predicted) return full;
  full.predicted_wait_ms = predicted->first_token_ms();
  full.retry_after_ms = std::clamp(full.predicted_wait_ms / 2, kRetryAfterMinMs, kRetryAfterMaxMs);
  return full;
}

std::array<size_t, kServiceClasses> KeptPlaces(const TenantsPolicy& policy,
                                               const RegionOptions& options) {
  std::array<size_t, kServiceClasses> kept{};
  for (size_t i = 0; i < kept.size(); ++i) {
    kept[i] = static_cast<size_t>(policy.classes[i].floor_share * options.queue_requests_max);
  }
  return kept;
}

// In this order: what is wrong with the request, then what stands against it now, and its quota
// last, so that it is charged if and only if it is taken.
std::variant<Stream, StreamError> Admit(Request request, const AdmissionView& view) {
  SHOAL_CHECK(!request.prompt.empty());
  std::optional<ModelKey> key = FindKey(request, view.options, view.groups);
  if (!key) return NoGroupError(request, view.options, view.groups);
  if (auto error = FindSuspicion(request, *key, view)) return *std::move(error);
  auto measured = Measure(request, *key, view);
  if (auto* error = std::get_if<StreamError>(&measured)) return std::move(*error);
  const Size size = std::get<Size>(measured);
  const ServiceClass service_class = view.tenants.ClassOf(request.terms);
  if (auto error = view.guard.FindRefusal(service_class, view.now)) return *std::move(error);
  const WaitQuestion question{.key = *key,
                              .service_class = service_class,
                              .prompt_tokens = std::ssize(request.prompt),
                              .tokens_max = size.tokens_max,
                              .now = view.now};
  const std::optional<WaitAnswer> predicted = Predict(question, view);
  if (auto error = FindQueueFull(*key, size.needed, request.terms, view)) {
    view.refusals.Note(*key, service_class, view.now);
    return TellWait(*std::move(error), predicted);
  }
  if (auto error = FindLate(predicted, request)) return *std::move(error);
  auto charged = view.tenants.Charge(request.terms, size.needed, view.now);
  if (auto* error = std::get_if<StreamError>(&charged)) return std::move(*error);

  // A group may have a longer context than this region grants.
  const int64_t tokens_asked = std::exchange(request.params.tokens_max, size.tokens_max);
  request.params.sampling.min_tokens =
      std::min(request.params.sampling.min_tokens, size.tokens_max);
  Stream stream(std::move(request));
  stream.key = *std::move(key);
  stream.tokens_needed = size.needed;
  stream.tokens_asked = tokens_asked;
  stream.grant = std::get<Grant>(std::move(charged));
  stream.predicted = predicted;
  if (predicted) view.waits.NoteTaken(question);
  if (view.options.protections.admission && stream.request.terms.deadline_ms > 0) {
    stream.deadline = view.now + stream.request.terms.deadline_ms * kMillisecondNs;
  }
  return stream;
}

std::optional<StreamError> FindAllFull(const RequestTerms& terms, const AdmissionView& view) {
  const ServiceClass service_class = view.tenants.ClassOf(terms);
  std::optional<StreamError> soonest;  // While no group is ready, what is asked for decides.
  for (const auto& [key, model] : view.groups.models()) {
    if (model.ready_since == 0) continue;
    auto full = FindQueueFull(key, 1, terms, view);
    if (!full) return std::nullopt;
    // How long its prompt is nobody knows yet: it waits for at least so long.
    full = TellWait(*std::move(full), Predict({.key = key,
                                               .service_class = service_class,
                                               .prompt_tokens = 1,
                                               .tokens_max = 1,
                                               .now = view.now},
                                              view));
    if (!soonest || full->retry_after_ms < soonest->retry_after_ms) soonest = std::move(full);
  }
  for (const auto& [key, model] : view.groups.models()) {
    if (soonest && model.ready_since != 0) view.refusals.Note(key, service_class, view.now);
  }
  return soonest;
}

}  // namespace shoal::core
