#include "worker/rank/verify.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/math/scalar.h"
#include "transport/base/check.h"
#include "worker/rank/trial.h"

namespace shoal::rank {
namespace {

constexpr int64_t kPromptLengths[] = {1, 7, 33, 290};
constexpr int64_t kSampledTokens = 64;
constexpr size_t kSampledPrompt = 1;

std::string Hex(XXH128_hash_t hash) {
  char text[33];
  std::snprintf(text, sizeof(text), "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text;
}

std::vector<int32_t> Prompt(uint32_t index, int64_t length, int64_t vocab_size) {
  std::vector<int32_t> ids(length);
  for (int64_t i = 0; i < length; ++i) {
    const std::array<uint32_t, 4> words =
        math::Philox4x32({static_cast<uint32_t>(i), index, 0, 0}, {0x73686f61u, 0x6c});
    ids[i] = static_cast<int32_t>(words[0] % static_cast<uint64_t>(vocab_size));
  }
  return ids;
}

// The logits of every prompt position and nothing else, then the sampled continuation.
std::vector<TrialRequest> Requests(int64_t vocab_size, int64_t context_tokens) {
  std::vector<TrialRequest> requests;
  for (size_t p = 0; p < std::size(kPromptLengths); ++p) {
    const int64_t length = std::min(kPromptLengths[p], context_tokens - 1);
    TrialRequest& request = requests.emplace_back();
    request.prompt = Prompt(p, length, vocab_size);
    request.params.sampling.temperature = 0;
    request.params.tokens_max = 1;
    request.params.prompt_logprobs = true;
    request.arrival_step = INT64_MAX;  // When the one before it has ended.
  }
  TrialRequest& sampled = requests.emplace_back(requests[kSampledPrompt]);
  sampled.params.sampling = {.temperature = 0.8, .seed = 1};
  sampled.params.tokens_max =
      std::min<int64_t>(kSampledTokens, context_tokens - sampled.prompt.size());
  sampled.params.prompt_logprobs = false;
  return requests;
}

}  // namespace

VerifyDigests ComputeDigests(const model::Model& model, const GroupMemberOptions& options,
                             const cpu::KernelTable& kernels, device::ThreadTeam& team,
                             const Clock& clock, comm::Communicator& group) {
  const std::vector<TrialRequest> requests =
      Requests(model.config().vocab_size, options.model.context_tokens);
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(),
                                                                              XXH3_freeState);
  XXH3_128bits_reset(state.get());
  GroupMemberOptions member_options = options;
  member_options.model.on_logits = [&](uint64_t id, int64_t, std::span<const float> logits) {
    if (id + 1 == requests.size()) return;  // The sampled continuation is digested as tokens.
    XXH3_128bits_update(state.get(), logits.data(), logits.size_bytes());
  };
  GroupMember member(model, member_options, kernels, team, clock, group);
  const plan::Cut cut = options.model.cut;
  const std::vector<TrialAnswer> answers =
      RunTrial(member,
               {.sequences_max = options.model.sequences_max,
                .prefill_chunk_tokens = options.model.prefill_chunk_tokens,
                .kv_block_count = options.model.kv_block_count,
                .context_tokens = options.model.context_tokens,
                .steps_in_flight_max = cut.pipeline_parallel},
               requests);
  // The rank that saw the logits tells the leader.
  std::string logits = Hex(XXH3_128bits_digest(state.get()));
  const int32_t reporter = (cut.pipeline_parallel - 1) * cut.tensor_parallel;
  if (reporter != 0) {
    if (group.rank() == reporter) group.Send(std::as_bytes(std::span(logits)), 0);
    if (group.rank() == 0) group.Receive(std::as_writable_bytes(std::span(logits)), reporter);
  }
  if (group.rank() != 0) return {};
  const std::vector<int32_t>& tokens = answers.back().tokens;
  return {.logits = logits,
          .sampled = Hex(XXH3_128bits(tokens.data(), tokens.size() * sizeof(int32_t))),
          .numerics_id = member.model().numerics_id()};
}

}  // namespace shoal::rank
