#include "coordinator/cli/bench/router/core_cost.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "coordinator/cli/bench/load/latency.h"
#include "coordinator/core/region.h"
#include "coordinator/core/routing/router.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"

namespace shoal::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr int32_t kVocabSize = 32'000;
constexpr int64_t kContextTokens = 4'096;
constexpr uint64_t kFamilies = 64;  // Of prompts that begin alike.
constexpr core::RoutingPolicy kPolicies[] = {
    core::RoutingPolicy::kPrefixAware, core::RoutingPolicy::kP2cLeastTokens,
    core::RoutingPolicy::kLeastConn, core::RoutingPolicy::kWlcSeed,
    core::RoutingPolicy::kMinresSeed};

// Stands still: nothing is to become overdue while it is measured.
class HeldClock : public Clock {
 public:
  TimeNs now() const override { return kSecondNs; }
};

Json Describe(std::vector<double> microseconds) {
  std::ranges::sort(microseconds);
  return {{"count", microseconds.size()},
          {"p50_us", Percentile(microseconds, 50)},
          {"p99_us", Percentile(microseconds, 99)},
          {"max_us", microseconds.back()}};
}

// Its first half is that of its family, the rest its own.
std::vector<int32_t> MakePrompt(uint64_t index, int64_t tokens) {
  std::mt19937_64 family(index % kFamilies);
  std::mt19937_64 own(kFamilies + index);
  std::vector<int32_t> prompt;
  for (int64_t i = 0; i < tokens; ++i) {
    prompt.push_back(static_cast<int32_t>((i < tokens / 2 ? family : own)() % kVocabSize));
  }
  return prompt;
}

class FilledRegion {
 public:
  explicit FilledRegion(const CoreCostOptions& options)
      : options_(options), region_(MakeOptions(), clock_, std::mt19937_64(1)) {
    for (uint64_t number = 0; number < options.groups; ++number) Join(number + 1);
    if (region_.groups_ready() != options.groups) {
      Throw(ErrorCode::kFailed, "expected ", options.groups, " groups that are ready, found ",
            region_.groups_ready());
    }
    for (int64_t i = 0; i < options.streams; ++i) Admit(MakeRequest());
  }

  core::Request MakeRequest() {
    core::Request request{.prompt = MakePrompt(made_++, options_.prompt_tokens), .params = {}};
    request.params.tokens_max = 1;
    return request;
  }

  // Result: microseconds until the action was there by which a group is given it.
  double Admit(core::Request request) {
    const TimeNs begin = timer_.now();
    const auto outcome = region_.Submit(std::move(request));
    const std::vector<core::Action> actions = region_.TakeActions();
    const TimeNs end = timer_.now();
    if (const auto* refusal = std::get_if<StreamError>(&outcome)) {
      Throw(ErrorCode::kFailed, "a request was refused: ", refusal->message);
    }
    const auto* given = FindSubmit(actions);
    if (given == nullptr) Throw(ErrorCode::kFailed, "a request was given to no group");
    running_.push_back(*given);
    return static_cast<double>(end - begin) / 1'000;
  }

  // The one that has run the longest.
  void EndOne() {
    const core::SubmitAction given = std::move(running_.front());
    running_.pop_front();
    Update(given.leader, given.epoch, {AnswerAtOnce(given.request)});
    region_.TakeActions();
  }

  std::vector<double> Decide(core::RoutingPolicy policy, int64_t count) {
    const core::Router router(policy, /*active=*/true);
    const core::Guard guard({}, /*active=*/true);
    const std::string salt = PrefixSalt("", "");
    const std::string session;
    std::mt19937_64 random(2);
    std::vector<double> microseconds;
    for (int64_t i = 0; i < count; ++i) {
      const auto prompt = MakePrompt(made_++, options_.prompt_tokens);
      const core::RouteQuestion question{.key = region_.groups().begin()->second.key,
                                         .tokens = options_.prompt_tokens + 100,
                                         .stream = {random(), random()},
                                         .session = session,
                                         .prompt = prompt,
                                         .salt = salt};
      const TimeNs begin = timer_.now();
      const auto chosen = router.Choose(question, region_.groups(), guard, clock_.now());
      const TimeNs end = timer_.now();
      if (!chosen) Throw(ErrorCode::kFailed, "no group was chosen");
      microseconds.push_back(static_cast<double>(end - begin) / 1'000);
    }
    return microseconds;
  }

 private:
  static core::RegionOptions MakeOptions() {
    core::RegionOptions options;
    options.model_name = "bench";
    return options;
  }

  static const core::SubmitAction* FindSubmit(const std::vector<core::Action>& actions) {
    for (const core::Action& action : actions) {
      if (const auto* submit = std::get_if<core::SubmitAction>(&action)) return submit;
    }
    return nullptr;
  }

  void Update(uint64_t connection, uint64_t epoch, std::vector<SequenceUpdate> updates,
              const PrefixReport& prefixes = {}) {
    SchedulerStats stats;
    stats.kv_blocks_total = 1 << 20;
    if (!region_.Update(connection, epoch, std::move(updates), stats, prefixes)) {
      Throw(ErrorCode::kFailed, "the region refused an update of connection ", connection);
    }
  }

  // It answers its canary and says which prefixes it has: those of every fourth family.
  void Join(uint64_t connection) {
    const auto outcome =
        region_.Register(connection, LoneRank(connection, "bench", kVocabSize, kContextTokens));
    const std::vector<core::Action> actions = region_.TakeActions();
    const auto* canary = FindSubmit(actions);
    if (canary == nullptr) Throw(ErrorCode::kFailed, "no canary came: ", outcome.message);
    PrefixReport prefixes{.full = true};
    for (uint64_t family = connection % 4; family < kFamilies; family += 4) {
      const auto prompt = MakePrompt(family, options_.prompt_tokens);
      const std::span<const int32_t> shared(prompt.data(), prompt.size() / 2);
      std::ranges::copy(PrefixHashes(PrefixSalt("", ""), shared),
                        std::back_inserter(prefixes.added));
    }
    Update(connection, outcome.epoch, {AnswerAtOnce(canary->request)}, prefixes);
    region_.TakeActions();
  }

  const CoreCostOptions& options_;
  HeldClock clock_;
  SteadyClock timer_;
  core::Region region_;
  uint64_t made_ = 0;
  std::deque<core::SubmitAction> running_;
};

}  // namespace

RankRegistration LoneRank(uint64_t group_id, const std::string& model_name, int32_t vocab_size,
                          int64_t context_tokens) {
  RankRegistration rank;
  rank.group_id = group_id;
  rank.host = "localhost";
  rank.pid = 1;
  rank.isa = "none";
  rank.thread_count = 1;
  rank.model_name = model_name;
  rank.numerics_id = std::string(32, '0');
  rank.context_tokens = context_tokens;
  rank.kv_cache_tokens = 1'000 * context_tokens;
  rank.sequences_max = 1'024;
  rank.queue_requests_max = 1'024;
  rank.vocab_size = vocab_size;
  return rank;
}

SequenceUpdate AnswerAtOnce(const SequenceRequest& request) {
  constexpr int32_t kToken = 101;
  const GenerationParams& params = request.params;
  TokenLogprobs logprobs{-1, {}};
  for (int32_t i = 0; i < params.top_logprobs; ++i) logprobs.top.emplace_back(kToken + i, -1.0F);
  const auto tokens = static_cast<size_t>(params.tokens_max);
  SequenceUpdate update;
  update.id = request.id;
  update.tokens.assign(tokens, kToken);
  if (params.top_logprobs >= 0) update.logprobs.assign(tokens, logprobs);
  if (params.prompt_logprobs) update.prompt_logprobs.assign(request.prompt.size() - 1, logprobs);
  update.finish = FinishReason::kLength;
  return update;
}

Json MeasureCore(const CoreCostOptions& options) {
  FilledRegion region(options);
  Json result = {{"groups", options.groups},
                 {"streams", options.streams},
                 {"prompt_tokens", options.prompt_tokens},
                 {"decisions", Json::array()}};
  for (const core::RoutingPolicy policy : kPolicies) {
    Json one = {{"policy", core::ToString(policy)}};
    one.update(Describe(region.Decide(policy, options.count)));
    result["decisions"].push_back(std::move(one));
  }
  // Made before: a request's tokens are the door's to make.
  std::vector<core::Request> requests;
  for (int64_t i = 0; i < options.count; ++i) requests.push_back(region.MakeRequest());
  std::vector<double> microseconds;
  const SteadyClock clock;
  const TimeNs begin = clock.now();
  for (core::Request& request : requests) {
    region.EndOne();
    microseconds.push_back(region.Admit(std::move(request)));
  }
  const double all_us = static_cast<double>(clock.now() - begin) / 1'000;
  double admitting_us = 0;
  for (const double one : microseconds) admitting_us += one;
  const auto count = static_cast<double>(options.count);
  result["admissions"] = Describe(std::move(microseconds));
  result["admissions"]["per_second"] = 1e6 * count / admitting_us;
  result["admissions"]["with_ends_per_second"] = 1e6 * count / all_us;
  return result;
}

}  // namespace shoal::cli
