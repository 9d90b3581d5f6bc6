#include <poll.h>

#include <bit>
#include <nlohmann/json.hpp>

#include "tests/e2e/failover/asks.h"
#include "tests/e2e/failover/http_answer.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"

namespace shoal::test {
namespace {

using nlohmann::json;

// Logprobs as bits.
json Bits(const std::vector<TokenLogprobs>& list) {
  json out = json::array();
  for (const TokenLogprobs& entry : list) {
    json top = json::array();
    for (const auto& [token, value] : entry.top) {
      top.push_back({token, std::bit_cast<uint32_t>(value)});
    }
    out.push_back({std::bit_cast<uint32_t>(entry.logprob), std::move(top)});
  }
  return out;
}

Answer GetOverRpc(const Door& door, const Ask& ask) {
  Answer answer;
  SequenceUpdate all;
  std::string text;
  answer.begun = false;
  const auto take = [&](const rpc::GenerateChunk& chunk) {
    answer.begun = true;
    const SequenceUpdate& update = chunk.update;
    all.tokens.insert(all.tokens.end(), update.tokens.begin(), update.tokens.end());
    all.logprobs.insert(all.logprobs.end(), update.logprobs.begin(), update.logprobs.end());
    all.prompt_logprobs.insert(all.prompt_logprobs.end(), update.prompt_logprobs.begin(),
                               update.prompt_logprobs.end());
    answer.resumes += update.resumes;
    text += chunk.text;
    return true;
  };
  try {
    // Get asks again, sooner.
    rpc::Client client(
        {.address = door.rpc_address, .retry = {.profile = client::RetryProfile::kNone}});
    const rpc::GenerateResult result = client.Generate(ask.request, take, kSilenceMs);
    answer.bytes = json{{"tokens", all.tokens},
                        {"logprobs", Bits(all.logprobs)},
                        {"prompt_logprobs", Bits(all.prompt_logprobs)},
                        {"text", text},
                        {"finish", ToString(result.finish)},
                        {"detail", result.detail},
                        {"prompt_tokens", result.prompt_tokens},
                        {"completion_tokens", result.completion_tokens}}
                       .dump();
  } catch (const Error& error) {  // What the test counts.
    answer.error = error.what();
  }
  return answer;
}

}  // namespace

Answer Get(const Door& door, const Ask& ask) {
  const SteadyClock clock;
  const Deadline deadline = Deadline::After(clock, kSilenceMs);
  while (true) {
    Answer answer = ask.path.empty() ? GetOverRpc(door, ask) : GetOverHttp(door.port, ask);
    // The client is told to come again, or the coordinator died before it had said anything.
    const bool again = answer.error.find("no_group") != std::string::npos ||
                       (ask.request.resumable && !answer.begun && !answer.error.empty());
    if (!again || deadline.Passed(clock)) return answer;
    poll(nullptr, 0, kRetryMs);
  }
}

}  // namespace shoal::test
