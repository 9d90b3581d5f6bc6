#include "tests/support/trial/trial_group.h"

#include <xxhash.h>

#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "kernels/cpu/table.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"

namespace shoal::test {
namespace {

using nlohmann::json;

std::string Hash(std::span<const float> logits) {
  const XXH128_hash_t hash = XXH3_128bits(logits.data(), logits.size_bytes());
  char text[33];
  std::snprintf(text, sizeof(text), "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text;
}

json ToJson(const TokenLogprobs& logprobs) {
  json top = json::array();
  for (const auto& [token, value] : logprobs.top) {
    top.push_back({token, std::bit_cast<uint32_t>(value)});
  }
  return {std::bit_cast<uint32_t>(logprobs.logprob), top};
}

TokenLogprobs LogprobsFrom(const json& value) {
  TokenLogprobs logprobs;
  logprobs.logprob = std::bit_cast<float>(value[0].get<uint32_t>());
  for (const json& entry : value[1]) {
    logprobs.top.emplace_back(entry[0].get<int32_t>(),
                              std::bit_cast<float>(entry[1].get<uint32_t>()));
  }
  return logprobs;
}

template <typename List>
json ListToJson(const List& list) {
  json values = json::array();
  for (const TokenLogprobs& logprobs : list) values.push_back(ToJson(logprobs));
  return values;
}

std::vector<TokenLogprobs> ListFrom(const json& values) {
  std::vector<TokenLogprobs> list;
  for (const json& value : values) list.push_back(LogprobsFrom(value));
  return list;
}

json ToJson(const rank::TrialAnswer& answer) {
  return {{"tokens", answer.tokens},
          {"logprobs", ListToJson(answer.logprobs)},
          {"prompt_logprobs", ListToJson(answer.prompt_logprobs)},
          {"finish", static_cast<int>(answer.finish)},
          {"detail", answer.detail}};
}

rank::TrialAnswer AnswerFrom(const json& value) {
  return {.tokens = value["tokens"].get<std::vector<int32_t>>(),
          .logprobs = ListFrom(value["logprobs"]),
          .prompt_logprobs = ListFrom(value["prompt_logprobs"]),
          .finish = static_cast<FinishReason>(value["finish"].get<int>()),
          .detail = value["detail"].get<std::string>()};
}

// What one rank saw of the logits; only the first rank of the last stage sees any.
class LogitsRecord {
 public:
  explicit LogitsRecord(bool keep) : keep_(keep) {}

  void Note(uint64_t id, int64_t position, std::span<const float> logits) {
    const std::string hash = Hash(logits);
    const auto [entry, is_new] = digests_.emplace(LogitsKey(id, position), hash);
    if (!is_new && entry->second != hash) {
      Throw(ErrorCode::kFailed, "request ", id, ", position ", position,
            ": recomputed logits differ: ", entry->second, " and ", hash);
    }
    if (is_new && keep_) {
      const auto* bytes = reinterpret_cast<const uint8_t*>(logits.data());
      logits_.push_back({id, position, json::binary({bytes, bytes + logits.size_bytes()})});
    }
  }

  json Take() {
    json digests = json::array();
    for (const auto& [key, hash] : digests_) digests.push_back({key.first, key.second, hash});
    return {{"digests", std::move(digests)}, {"logits", std::move(logits_)}};
  }

 private:
  const bool keep_;
  std::map<LogitsKey, std::string> digests_;
  json logits_ = json::array();
};

std::string RunOneRank(const model::Model& model, std::span<const rank::TrialRequest> requests,
                       const TrialGroupOptions& options, comm::Communicator& group) {
  const SteadyClock clock;
  LogitsRecord record(options.keep_logits);
  const std::string& isa = options.isa[options.isa.size() > 1 ? group.rank() : 0];
  const cpu::KernelTable& kernels = cpu::SelectKernelTable(cpu::DetectCpuFeatures(), isa);
  device::ThreadTeam team(options.threads);
  rank::GroupMemberOptions member_options;
  member_options.model = {.cut = options.cut,
                          .rank = group.rank(),
                          .kv_dtype = options.kv_dtype,
                          .numerics = options.numerics,
                          .kv_block_count = options.kv_block_count,
                          .context_tokens = model.config().context_tokens,
                          .sequences_max = options.sequences_max,
                          .prefill_chunk_tokens = options.prefill_chunk_tokens,
                          .sequence_parallel_rows_min = options.sequence_parallel_rows_min,
                          .on_logits = nullptr,
                          .on_input = nullptr,
                          .planted_fault = options.planted_fault};
  if (options.record_logits) {
    member_options.model.on_logits = [&](uint64_t id, int64_t position,
                                         std::span<const float> logits) {
      if (position >= options.digest_positions_from) record.Note(id, position, logits);
    };
  }
  member_options.step_timeout_ms = options.timeout_ms;
  rank::GroupMember member(model, member_options, kernels, team, clock, group);
  const std::vector<rank::TrialAnswer> answers =
      rank::RunTrial(member,
                     {.sequences_max = options.sequences_max,
                      .prefill_chunk_tokens = options.prefill_chunk_tokens,
                      .kv_block_count = options.kv_block_count,
                      .context_tokens = model.config().context_tokens,
                      .steps_in_flight_max = options.cut.pipeline_parallel,
                      .speculation_tokens_max = options.speculation_tokens_max,
                      .prefix_cache = options.prefix_cache},
                     requests);
  json result = record.Take();
  result["answers"] = json::array();
  for (const rank::TrialAnswer& answer : answers) result["answers"].push_back(ToJson(answer));
  result["numerics_id"] = member.model().numerics_id();
  const std::vector<uint8_t> bytes = json::to_cbor(result);
  return {bytes.begin(), bytes.end()};
}

void Add(const std::string& bytes, Observation& observation) {
  const json result = json::from_cbor(bytes);
  for (const json& answer : result["answers"]) observation.answers.push_back(AnswerFrom(answer));
  for (const json& entry : result["digests"]) {
    observation.digests[{entry[0], entry[1]}] = entry[2].get<std::string>();
  }
  for (const json& entry : result["logits"]) {
    const json::binary_t& data = entry[2].get_binary();
    std::vector<float>& logits = observation.logits[{entry[0], entry[1]}];
    logits.resize(data.size() / sizeof(float));
    std::memcpy(logits.data(), data.data(), data.size());
  }
  const std::string id = result["numerics_id"].get<std::string>();
  if (!observation.numerics_id.empty() && observation.numerics_id != id) {
    Throw(ErrorCode::kFailed, "ranks disagree on the numerics id: ", observation.numerics_id,
          " and ", id);
  }
  observation.numerics_id = id;
}

}  // namespace

Observation RunTrialGroup(const model::Model& model, std::span<const rank::TrialRequest> requests,
                          const TrialGroupOptions& options) {
  const std::vector<RankResult> results = RunRanks(
      options.cut.rank_count(), options.kind,
      [&](comm::Communicator& group) { return RunOneRank(model, requests, options, group); },
      {.timeout_ms = options.timeout_ms});
  const std::string problems = Describe(results);
  if (!problems.empty()) Throw(ErrorCode::kFailed, problems);
  Observation observation;
  for (const RankResult& result : results) Add(result.bytes, observation);
  return observation;
}

}  // namespace shoal::test
