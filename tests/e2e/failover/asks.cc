#include "tests/e2e/failover/asks.h"

#include <nlohmann/json.hpp>

#include "tests/support/model/random_weights.h"

namespace shoal::test {
namespace {

using nlohmann::json;

constexpr char kSchema[] =
    R"({"type":"object","properties":{"name":{"type":"string","maxLength":8},"ok":{"type":)"
    R"("boolean"},"size":{"type":"integer","minimum":-5,"maximum":40},"tags":{"type":"array",)"
    R"("items":{"enum":["ab","cd"]},"maxItems":2}},"required":["name","ok","size"]})";
constexpr char kRegex[] = "[a-z]{3,9}( [0-9]{1,4}){2,6}";
constexpr char kChoices[] = R"(["yes","no","perhaps"])";

class Maker {
 public:
  explicit Maker(const AskOptions& options) : options_(options), bits_(options.seed) {}

  Ask Make() { return Draw(2) == 0 ? OverRpc() : OverHttp(); }

 private:
  int64_t Draw(int64_t end) {
    return static_cast<int64_t>(bits_.Below(static_cast<uint64_t>(end)));
  }
  bool OneIn(int64_t count) { return Draw(count) == 0; }
  int32_t Token() { return static_cast<int32_t>(Draw(options_.vocab_size)); }

  int64_t AnswerTokens() { return 1 + Draw(options_.tokens_max); }

  // Some begin alike, as conversations do.
  std::vector<int32_t> Prompt() {
    std::vector<int32_t> ids;
    const int64_t shared = Draw(2) * Draw(70);
    for (int64_t i = 0; i < shared; ++i) ids.push_back(static_cast<int32_t>(i * 7 % 256));
    for (int64_t i = 1 + Draw(50); i > 0; --i) ids.push_back(Token());
    return ids;
  }

  std::string Text(int64_t most) {
    std::string text;
    for (int64_t i = 1 + Draw(most); i > 0; --i) {
      text += static_cast<char>(OneIn(6) ? ' ' : 'a' + Draw(26));
    }
    return text;
  }

  SamplingParams Sampling(int64_t tokens_max) {
    SamplingParams sampling;
    sampling.temperature = 0;
    switch (Draw(4)) {
      case 0:
        break;
      case 1:
        sampling = {.temperature = 0.7, .top_k = 20, .top_p = 0.9, .seed = bits_.Next() >> 1};
        break;
      case 2:
        sampling = {.temperature = 1, .min_p = 0.02, .seed = bits_.Next() >> 1};
        break;
      default:
        sampling = {.temperature = 0.3, .seed = bits_.Next() >> 1};
    }
    if (OneIn(4)) sampling.repetition_penalty = 1.2;
    if (OneIn(4)) sampling.frequency_penalty = 0.4;
    if (OneIn(4)) sampling.presence_penalty = -0.3;
    if (OneIn(4)) sampling.logit_bias = {{static_cast<int32_t>(Draw(60)), 4}, {70, -100}};
    if (OneIn(3)) sampling.min_tokens = Draw(tokens_max + 1);
    return sampling;
  }

  Ask OverRpc() {
    Ask ask;
    rpc::GenerateRequest& request = ask.request;
    GenerationParams& params = request.params;
    params.tokens_max = AnswerTokens();
    params.sampling = Sampling(params.tokens_max);
    request.seed_given = true;
    request.resumable = options_.resumable;
    if (OneIn(3)) {
      request.prompt = Text(60);
      if (OneIn(2)) DrawGrammar(params);
    } else {
      request.prompt = Prompt();
      if (OneIn(3)) params.stop_ids = {Token(), Token(), Token(), Token()};
    }
    params.top_logprobs = static_cast<int32_t>(Draw(2) * (1 + Draw(5))) - 1;
    params.prompt_logprobs = params.top_logprobs >= 0 && OneIn(3);
    params.priority = static_cast<int32_t>(Draw(3));
    if (OneIn(6)) params.cache_salt = "other";
    return ask;
  }

  void DrawGrammar(GenerationParams& params) {
    constexpr std::pair<GrammarKind, const char*> kKinds[] = {{GrammarKind::kJsonSchema, kSchema},
                                                              {GrammarKind::kRegex, kRegex},
                                                              {GrammarKind::kChoice, kChoices},
                                                              {GrammarKind::kJsonObject, ""}};
    const auto& [kind, text] = kKinds[Draw(4)];
    params.grammar = {kind, text};
    params.sampling.min_tokens = 0;
  }

  Ask OverHttp() {
    const bool chat = OneIn(3);
    Ask ask;
    ask.path = chat ? "/v1/chat/completions" : "/v1/completions";
    ask.streamed = OneIn(2) || options_.resumable;
    ask.resumable = options_.resumable;
    json body = {{"max_tokens", AnswerTokens()}, {"return_token_ids", true}};
    AddSampling(body);
    if (ask.streamed)
      body.update({{"stream", true}, {"stream_options", {{"include_usage", true}}}});
    if (chat) {
      body["messages"] = {{{"role", "user"}, {"content", Text(40)}}};
      if (OneIn(2)) body.update({{"logprobs", true}, {"top_logprobs", Draw(4)}});
    } else {
      body["prompt"] = OneIn(2) ? json(Text(60)) : json(Prompt());
      if (OneIn(4)) body["prompt"] = json::array({Text(20), Text(20)});
      if (OneIn(3)) body["logprobs"] = Draw(4);
      if (OneIn(3)) body["echo"] = true;
    }
    if (OneIn(3)) body["n"] = 1 + Draw(3);
    AddEnds(body, chat);
    body["priority"] = Draw(3);
    ask.body = body.dump();
    return ask;
  }

  void AddSampling(json& body) {
    const SamplingParams sampling = Sampling(body["max_tokens"].get<int64_t>());
    body.update({{"temperature", sampling.temperature},
                 {"top_k", sampling.top_k},
                 {"top_p", sampling.top_p},
                 {"min_p", sampling.min_p},
                 {"seed", sampling.seed},
                 {"repetition_penalty", sampling.repetition_penalty},
                 {"frequency_penalty", sampling.frequency_penalty},
                 {"presence_penalty", sampling.presence_penalty},
                 {"min_tokens", sampling.min_tokens}});
    for (const LogitBias& bias : sampling.logit_bias) {
      body["logit_bias"][std::to_string(bias.token)] = bias.bias;
    }
  }

  // Stop strings of one and two letters: they often straddle tokens, and a cut.
  void AddEnds(json& body, bool chat) {
    if (OneIn(4) && !body.contains("echo")) {
      body.erase("min_tokens");
      switch (Draw(chat ? 1 : 3)) {
        case 0:
          body["response_format"] = {
              {"type", "json_schema"},
              {"json_schema", {{"name", "it"}, {"schema", json::parse(kSchema)}}}};
          break;
        case 1:
          body["regex"] = kRegex;
          break;
        default:
          body["guided_choice"] = json::parse(kChoices);
      }
      return;
    }
    if (OneIn(3)) body["stop"] = {std::string(1, static_cast<char>('a' + Draw(26))), Text(2)};
    if (OneIn(3)) body["include_stop_str_in_output"] = true;
    if (OneIn(2)) body["ignore_eos"] = true;
  }

  const AskOptions options_;
  RandomBits bits_;
};

}  // namespace

std::vector<Ask> MakeAsks(const AskOptions& options) {
  Maker maker(options);
  std::vector<Ask> asks;
  for (size_t i = 0; i < options.count; ++i) asks.push_back(maker.Make());
  return asks;
}

}  // namespace shoal::test
