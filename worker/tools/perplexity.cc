#include "worker/tools/perplexity.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "parallel/text/tokenizer/tokenizer.h"
#include "transport/base/error.h"
#include "worker/tools/trial.h"

namespace shoal::rank {
namespace {

// The file's bytes. Errors: kInvalidArgument.
std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  std::string content;
  std::vector<char> part(1 << 16);
  while (file.read(part.data(), static_cast<std::streamsize>(part.size())), file.gcount() > 0) {
    content.append(part.data(), static_cast<size_t>(file.gcount()));
  }
  if (!file.is_open() || file.bad()) {
    Throw(ErrorCode::kInvalidArgument, path, ": cannot be read: ", std::strerror(errno));
  }
  return content;
}

std::vector<TrialRequest> Requests(const ScoredText& text) {
  std::vector<TrialRequest> requests;
  const auto count = static_cast<int64_t>(text.ids.size());
  for (int64_t begin = 0; begin < count; begin += text.window) {
    const int64_t end = std::min(count, begin + text.window);
    TrialRequest& request = requests.emplace_back();
    request.prompt = {text.ids.begin() + begin, text.ids.begin() + end};
    request.params.sampling.temperature = 0;
    request.params.tokens_max = 0;
    request.params.prompt_logprobs = true;
    request.params.top_logprobs = 0;
  }
  return requests;
}

void Check(const ScoredText& text, const GroupSetup& setup) {
  const int64_t vocab_size = setup.model->config().vocab_size;
  for (const int32_t id : text.ids) {
    if (id >= 0 && id < vocab_size) continue;
    Throw(ErrorCode::kInvalidArgument, "the text's token id ", id,
          " is outside the model's vocabulary of ", vocab_size,
          ": tokenize the text with this model's tokenizer");
  }
  if (text.window > setup.tokens_max()) {
    Throw(ErrorCode::kInvalidArgument, "the text's windows are of ", text.window,
          " tokens, context and cache hold ", setup.tokens_max(),
          ": give shorter ones with --ids, or raise --context-tokens-max or --kv-cache-tokens");
  }
}

}  // namespace

ScoredText ReadScoredText(const std::string& path) {
  const auto content = nlohmann::json::parse(ReadAll(path), nullptr, /*allow_exceptions=*/false);
  const auto is_number = [](const nlohmann::json& id) { return id.is_number_integer(); };
  const bool has_ids = content.is_object() && content.contains("ids") &&
                       content["ids"].is_array() && content["ids"].size() > 1 &&
                       std::all_of(content["ids"].begin(), content["ids"].end(), is_number);
  ScoredText scored;
  const nlohmann::json window =
      has_ids ? content.value("window", nlohmann::json(scored.window)) : nlohmann::json();
  if (!has_ids || !window.is_number_integer() || window < 2 || window > INT32_MAX) {
    Throw(ErrorCode::kInvalidArgument, path,
          ": expected a JSON object with an array \"ids\" of two token ids or more, and, if there "
          "is one, a \"window\" of 2 or more");
  }
  scored.window = window.get<int64_t>();
  for (const nlohmann::json& id : content["ids"]) {
    // A number that is too large for an id is outside every vocabulary.
    const auto value = id.get<int64_t>();
    scored.ids.push_back(value < 0 || value > INT32_MAX ? -1 : static_cast<int32_t>(value));
  }
  return scored;
}

ScoredText TokenizeScoredText(const std::string& path, const GroupSetup& setup) {
  ScoredText scored;
  scored.ids =
      text::Tokenizer::Make(*setup.model)->Encode(ReadAll(path), text::SpecialTokens::kPlainText);
  scored.window = std::min(scored.window, setup.tokens_max());
  if (scored.ids.size() < 2) {
    Throw(ErrorCode::kInvalidArgument, path, ": has ", scored.ids.size(),
          " tokens: expected a text of two or more");
  }
  return scored;
}

Perplexity ComputePerplexity(GroupSetup& setup, const WorkerOptions& options,
                             const ScoredText& text) {
  Check(text, setup);
  const std::vector<TrialAnswer> answers =
      RunTrial(*setup.member,
               {.sequences_max = options.scheduler.sequences_max,
                .prefill_chunk_tokens = options.scheduler.prefill_chunk_tokens,
                .kv_block_count = setup.cache_blocks(),
                .context_tokens = setup.context_tokens,
                .steps_in_flight_max = setup.cut.pipeline_parallel},
               Requests(text));
  if (!setup.member->leads()) return {};
  Perplexity result;
  double sum = 0;
  for (const TrialAnswer& answer : answers) {
    if (answer.finish == FinishReason::kNumericError) Throw(ErrorCode::kFailed, answer.detail);
    for (const TokenLogprobs& logprobs : answer.prompt_logprobs) {
      sum -= logprobs.logprob;
      ++result.tokens;
    }
  }
  result.mean_nll = sum / static_cast<double>(result.tokens);
  result.perplexity = std::exp(result.mean_nll);
  return result;
}

}  // namespace shoal::rank
