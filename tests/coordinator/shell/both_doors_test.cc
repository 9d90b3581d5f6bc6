// One request through both doors, HTTP and RPC: the same tokens and parameters reach the group, and
// what one refuses the other refuses too.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "coordinator/shell/rpc_gateway.h"
#include "tests/coordinator/gateway/fakes.h"
#include "transport/base/check.h"

namespace shoal::gateway {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

struct SilentSink : rpc::GenerationSink {
  void Tokens(const SequenceUpdate&, const std::string&) override {}
  void Finish(const SequenceUpdate&, const std::string&) override {}
  void Fail(const StreamError&) override {}
};

class BothDoors {
 public:
  explicit BothDoors(bool adds_bos = false) : http(HttpGatewayOptions(), adds_bos) { Reopen(); }

  // After a change of `http.text`.
  void Reopen() {
    http.gateway = std::make_unique<HttpGateway>(HttpGatewayOptions(), http.generation, http.text,
                                                 http.timer, http.port);
    rpc_ = std::make_unique<RpcGateway>(
        http.generation, http.text, [] { return uint64_t{7}; }, http.port);
  }

  FakeGeneration::Sequence OverHttp(json body) {
    body["seed"] = 7;
    auto client = http.Connect();
    const char* path = body.contains("messages") ? "/v1/chat/completions" : "/v1/completions";
    client->Request("POST", path, body.dump());
    return TakeSequence(client->received());
  }

  // `reading_ms`: how long it takes until its prompt is read.
  FakeGeneration::Sequence OverRpc(const rpc::GenerateRequest& request, int64_t reading_ms = 0) {
    const rpc::GenerateReply reply = Ask(request, reading_ms);
    return TakeSequence(reply.refusal.message);
  }

  Reply RefusedByHttp(const json& body) {
    const char* path = body.contains("messages") ? "/v1/chat/completions" : "/v1/completions";
    return http.Post(path, body.dump());
  }

  StreamError RefusedByRpc(const rpc::GenerateRequest& request, int64_t reading_ms = 0) {
    const rpc::GenerateReply reply = Ask(request, reading_ms);
    EXPECT_EQ(reply.generation, 0U) << "taken";
    return reply.refusal;
  }

  GatewayFixture http;

 private:
  rpc::GenerateReply Ask(const rpc::GenerateRequest& request, int64_t reading_ms) {
    const rpc::Caller caller{.tenant = "upstream"};
    auto prompt = rpc_->OnPrompt(request, caller).wait(http.wait_scope);
    if (reading_ms > 0) {
      http.port.getTimer().afterDelay(reading_ms * kj::MILLISECONDS).wait(http.wait_scope);
    }
    return rpc_->OnGenerate(request, std::move(*prompt), caller, sink_);
  }

  FakeGeneration::Sequence TakeSequence(const std::string& said) {
    if (http.generation.sequences.size() == taken_) {
      ADD_FAILURE() << "refused: " << said;
      return {};
    }
    return http.generation.sequences.at(taken_++);
  }

  SilentSink sink_;
  std::unique_ptr<RpcGateway> rpc_;
  size_t taken_ = 0;
};

// max_tokens as completions have it.
rpc::GenerateRequest Request(PromptInput prompt) {
  rpc::GenerateRequest request;
  request.prompt = std::move(prompt);
  request.params.tokens_max = 16;
  return request;
}

TEST(BothDoors, MakeTheSameTokensOfTheSamePrompt) {
  const std::vector<std::pair<json, PromptInput>> cases = {
      {{{"prompt", "abc"}}, "abc"},
      {{{"prompt", "a<eos>b"}}, "a<eos>b"},
      {{{"prompt", ""}}, ""},
      {{{"messages", {{{"role", "user"}, {"content", "a<eos>"}, {"name", "Ada"}}}},
        {"max_tokens", 16}},
       Conversation{{"user", "a<eos>", "Ada"}}}};
  BothDoors doors(/*adds_bos=*/true);
  for (const auto& [body, prompt] : cases) {
    const FakeGeneration::Sequence http = doors.OverHttp(body);
    const FakeGeneration::Sequence rpc = doors.OverRpc(Request(prompt));
    EXPECT_EQ(http.prompt, rpc.prompt) << body;
    EXPECT_EQ(http.params, rpc.params) << body;
    EXPECT_FALSE(http.prompt.empty());
  }
  EXPECT_EQ(doors.OverRpc(Request("")).prompt, std::vector<int32_t>{kBos});
}

TEST(BothDoors, TellTheTemplateTheSame) {
  BothDoors doors;
  doors.http.generation.served.context_tokens = 10'000;
  doors.http.text.encode_chat = [&](const nlohmann::ordered_json& variables) {
    return doors.http.tokenizer.Encode(variables.dump(), text::SpecialTokens::kPlainText);
  };
  doors.Reopen();
  const json tools = {{{"type", "function"}, {"function", {{"name", "look"}}}}};
  const json call = {
      {"id", "c"}, {"type", "function"}, {"function", {{"name", "look"}, {"arguments", "{}"}}}};
  const json calls = json::array({call});
  const auto http =
      doors.OverHttp({{"messages",
                       {{{"role", "assistant"}, {"tool_calls", calls}, {"reasoning_content", "r"}},
                        {{"role", "tool"}, {"tool_call_id", "c"}, {"content", "blue"}},
                        {{"role", "assistant"}, {"content", "It is"}}}},
                      {"tools", tools},
                      {"chat_template_kwargs", {{"style", 1}}},
                      {"continue_final_message", true},
                      {"max_tokens", 16}});
  Conversation chat = {{"assistant", ""}, {"tool", "blue"}, {"assistant", "It is"}};
  chat[0].tool_calls =
      R"([{"id":"c","type":"function","function":{"name":"look","arguments":"{}"}}])";
  chat[0].reasoning = "r";
  chat[1].tool_call_id = "c";
  rpc::GenerateRequest request = Request(chat);
  request.chat = {.tools = tools.dump(), .variables = R"({"style":1})", .continues_last = true};
  const auto rpc = doors.OverRpc(request);
  EXPECT_EQ(std::string(http.prompt.begin(), http.prompt.end()),
            std::string(rpc.prompt.begin(), rpc.prompt.end()));
  const std::pair<ChatForm, std::string> bad[] = {
      {{.tools = "[1]"}, "tools must be a JSON array of objects"},
      {{.tools = "["}, "tools is "},
      {{.variables = R"({"messages":[]})"}, "found messages"},
      {{.variables = "[]"}, "template_variables must be a JSON object"}};
  for (const auto& [form, message] : bad) {
    request.chat = form;
    EXPECT_THAT(doors.RefusedByRpc(request).message, HasSubstr(message));
  }
  chat[0].tool_calls = R"([{"function":{"name":"look"}}])";
  EXPECT_THAT(doors.RefusedByRpc(Request(chat)).message, HasSubstr("tool_calls[0] must be {"));
}

// To ids given as such, RPC adds no stop ids.
TEST(BothDoors, TakeTokenIdsAsTheyAre) {
  BothDoors doors(/*adds_bos=*/true);
  const auto http = doors.OverHttp({{"prompt", {1, 2}}, {"ignore_eos", true}});
  const auto rpc = doors.OverRpc(Request(std::vector<int32_t>{1, 2}));
  EXPECT_EQ(http.prompt, (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(http.prompt, rpc.prompt);
  EXPECT_EQ(http.params, rpc.params);
}

TEST(BothDoors, CutTheAnswerToTheContext) {
  BothDoors doors;
  const auto http = doors.OverHttp({{"prompt", "abcd"}, {"max_tokens", 1000}, {"min_tokens", 500}});
  rpc::GenerateRequest request = Request("abcd");
  request.params.tokens_max = 1000;
  request.params.sampling.min_tokens = 500;
  const auto rpc = doors.OverRpc(request);
  EXPECT_EQ(http.params.tokens_max, 96);
  EXPECT_EQ(http.params.sampling.min_tokens, 96);
  EXPECT_EQ(http.params, rpc.params);
}

TEST(BothDoors, CompileTheGrammarBeforeTheRequestIsTaken) {
  BothDoors doors;
  const auto http = doors.OverHttp({{"prompt", "a"}, {"regex", "b+"}});
  rpc::GenerateRequest request = Request("a");
  request.params.grammar = {GrammarKind::kRegex, "b+"};
  EXPECT_EQ(http.params, doors.OverRpc(request).params);
}

struct Refusal {
  json body;
  std::string param;
  std::string code;
  rpc::GenerateRequest request;
  BusyReason reason;
  std::string message;  // Part of what both say.
};

void ExpectRefused(BothDoors& doors, const Refusal& bad) {
  const Reply reply = doors.RefusedByHttp(bad.body);
  ASSERT_EQ(reply.status, 400) << bad.body;
  const json error = reply.json()["error"];
  EXPECT_EQ(error["param"], bad.param) << bad.body;
  EXPECT_EQ(error["code"], bad.code) << bad.body;
  EXPECT_THAT(error["message"].get<std::string>(), HasSubstr(bad.message)) << bad.body;
  const StreamError refusal = doors.RefusedByRpc(bad.request);
  EXPECT_EQ(refusal.reason, bad.reason) << bad.body;
  EXPECT_THAT(refusal.message, HasSubstr(bad.message)) << bad.body;
  EXPECT_TRUE(doors.http.generation.sequences.empty());
}

template <typename Change>
rpc::GenerateRequest With(PromptInput prompt, Change change) {
  rpc::GenerateRequest request = Request(std::move(prompt));
  change(request.params);
  return request;
}

json Chat(const std::string& role, const std::string& content) {
  return {{"messages", {{{"role", role}, {"content", content}}}}};
}

TEST(BothDoors, RefuseTheSamePrompts) {
  BothDoors doors;
  const auto invalid = BusyReason::kInvalid;
  using Ids = std::vector<int32_t>;
  ExpectRefused(doors, {{{"prompt", {1, 258}}},
                        "prompt[1]",
                        "invalid_value",
                        Request(Ids{1, 258}),
                        invalid,
                        "prompt[1] is 258: expected a token id from 0 to 257"});
  ExpectRefused(doors, {{{"prompt", ""}},
                        "prompt",
                        "invalid_value",
                        Request(""),
                        invalid,
                        "prompt must have at least one token: the model has no BOS token"});
  ExpectRefused(doors, {Chat("user", "forbidden"), "messages", "invalid_value",
                        Request(Conversation{{"user", "forbidden"}}), invalid,
                        "the model's chat template refuses this: roles must alternate"});
  ExpectRefused(doors, {Chat("robot", "x"), "messages[0].role", "invalid_value",
                        Request(Conversation{{"robot", "x"}}), invalid,
                        "[0].role must be system, developer, user, assistant, tool or function"});
  ExpectRefused(doors, {{{"messages", json::array()}},
                        "messages",
                        "invalid_value",
                        Request(Conversation{}),
                        invalid,
                        "must not be empty"});
  ExpectRefused(doors, {{{"prompt", std::string(100, 'a')}},
                        "prompt",
                        "context_length_exceeded",
                        Request(std::string(100, 'a')),
                        BusyReason::kTooLarge,
                        "This model's maximum context length is 100 tokens"});
  doors.http.generation.served.kv_cache_tokens = 50;
  ExpectRefused(doors, {{{"prompt", "abcd"}, {"max_tokens", 47}},
                        "prompt",
                        "kv_cache_exceeded",
                        With("abcd", [](auto& params) { params.tokens_max = 47; }),
                        BusyReason::kTooLarge,
                        "the prompt has 4 tokens and may grow by 47, but the KV cache holds 50"});
}

TEST(BothDoors, RefuseTheSameParameters) {
  BothDoors doors;
  const auto invalid = BusyReason::kInvalid;
  ExpectRefused(doors, {{{"prompt", "a"}, {"logit_bias", {{"258", 1}}}},
                        "logit_bias",
                        "invalid_value",
                        With("a",
                             [](auto& params) {
                               params.sampling.logit_bias = {{258, 1.0F}};
                             }),
                        invalid,
                        "logit_bias names token 258: expected an id from 0 to 257"});
  ExpectRefused(doors, {{{"prompt", "a"}, {"stop_token_ids", {258}}},
                        "stop_token_ids",
                        "invalid_value",
                        With("a", [](auto& params) { params.stop_ids = {258}; }),
                        invalid,
                        "ids names token 258: expected an id from 0 to 257"});
  ExpectRefused(doors, {{{"prompt", "a"}, {"regex", "(b"}},
                        "regex",
                        "invalid_grammar",
                        With("a",
                             [](auto& params) {
                               params.grammar = {GrammarKind::kRegex, "(b"};
                             }),
                        invalid,
                        ": "});
  ExpectRefused(doors, {{{"prompt", {1}}, {"regex", "b"}, {"ignore_eos", true}},
                        "ignore_eos",
                        "invalid_value",
                        With(std::vector<int32_t>{1},
                             [](auto& params) {
                               params.grammar = {GrammarKind::kRegex, "b"};
                             }),
                        invalid,
                        "the answer would go on after its end"});
  ExpectRefused(doors, {{{"prompt", "a"}, {"min_tokens", 17}},
                        "min_tokens",
                        "invalid_value",
                        With("a", [](auto& params) { params.sampling.min_tokens = 17; }),
                        invalid,
                        "min_tokens"});
  ExpectRefused(doors, {{{"prompt", "a"}, {"typical_p", 0}},
                        "typical_p",
                        "invalid_value",
                        With("a", [](auto& params) { params.sampling.typical_p = 0; }),
                        invalid,
                        "above 0 and at most 1"});
}

TEST(BothDoors, NameATokenThatTheModelHasNoRowFor) {
  BothDoors doors;
  doors.http.generation.served.vocab_size = kEos;
  ExpectRefused(doors, {{{"prompt", "b<eos>"}},
                        "prompt",
                        "invalid_value",
                        Request("b<eos>"),
                        BusyReason::kInvalid,
                        R"(prompt has the token "<eos>", which the tokenizer knows as 256, but )"
                        "the model has only 256 tokens"});
}

TEST(BothDoors, SayWhatToSendWhereTheModelHasNoText) {
  BothDoors doors;
  doors.http.text.encode_chat = nullptr;
  doors.http.text.chat_refusal = "the filter 'urlize'";
  doors.Reopen();
  const Refusal chat = {
      Chat("user", "x"),    "messages",
      "no_chat_template",   Request(Conversation{{"user", "x"}}),
      BusyReason::kInvalid, "the model's chat template cannot be used (the filter 'urlize'): "};
  ExpectRefused(doors, chat);
  EXPECT_THAT(doors.RefusedByRpc(chat.request).message, HasSubstr("send text"));
  EXPECT_THAT(doors.RefusedByHttp(chat.body).body, HasSubstr("use /v1/completions"));
  doors.http.text.tokenizer = nullptr;
  doors.Reopen();
  ExpectRefused(doors, {{{"prompt", "a"}},
                        "prompt",
                        "no_tokenizer",
                        Request("a"),
                        BusyReason::kInvalid,
                        "the model has no tokenizer: send "});
}

rpc::GenerateRequest ForModel(const std::string& name, PromptInput prompt) {
  rpc::GenerateRequest request = Request(std::move(prompt));
  request.model = name;
  return request;
}

TEST(BothDoors, PinARequestToTheVersionOfTheModelThatItWasCheckedFor) {
  BothDoors doors;
  doors.http.generation.others = {
      {"other", "22222222222222222222222222222222", 50, 0, 500, 0, "other"}};
  const auto http = doors.OverHttp({{"prompt", {1, 2}}, {"model", "other"}, {"max_tokens", 60}});
  rpc::GenerateRequest request = ForModel("other", std::vector<int32_t>{1, 2});
  request.params.tokens_max = 60;
  const auto rpc = doors.OverRpc(request);
  for (const auto& sequence : {http, rpc}) {
    EXPECT_EQ(sequence.model, "other");
    EXPECT_EQ(sequence.numerics_id, "22222222222222222222222222222222");
  }
  EXPECT_EQ(http.prompt, rpc.prompt);
  EXPECT_EQ(http.params, rpc.params);
  EXPECT_EQ(rpc.params.tokens_max, 48);
  EXPECT_EQ(doors.OverRpc(Request("a")).numerics_id, doors.http.generation.served.numerics_id);
}

TEST(BothDoors, RefuseTextForAModelWhoseTokenizerIsNotReadHere) {
  BothDoors doors;
  doors.http.generation.others = {{"other", "22", 50, 0, 500, 0, "other"}};
  ExpectRefused(doors, {{{"prompt", "a"}, {"model", "other"}},
                        "prompt",
                        "no_tokenizer",
                        ForModel("other", "a"),
                        BusyReason::kInvalid,
                        "(this coordinator reads the tokenizer of bytes only): send "});
  ExpectRefused(doors, {{{"prompt", {500}}, {"model", "other"}},
                        "prompt[0]",
                        "invalid_value",
                        ForModel("other", std::vector<int32_t>{500}),
                        BusyReason::kInvalid,
                        "prompt[0] is 500: expected a token id from 0 to 499"});
}

TEST(BothDoors, NameTheModelsThatAreServedToWhoAsksForAnother) {
  BothDoors doors;
  doors.http.generation.others = {{"other", "22", 50}};
  const char* const said = R"(the model "third" is not served here; served: bytes, other)";
  const Reply reply = doors.RefusedByHttp({{"prompt", "a"}, {"model", "third"}});
  EXPECT_EQ(reply.status, 404);
  EXPECT_EQ(reply.json()["error"]["message"], said);
  const StreamError refusal = doors.RefusedByRpc(ForModel("third", "a"));
  EXPECT_EQ(refusal.reason, BusyReason::kInvalid);
  EXPECT_EQ(refusal.message, said);
  EXPECT_THAT(doors.RefusedByRpc(ForModel("\xff", "a")).message, HasSubstr("is not served here"));
}

// JSON cannot hold it; Cap'n Proto does not look.
TEST(BothDoors, RefuseTextThatIsNotUtf8) {
  BothDoors doors;
  EXPECT_EQ(doors.RefusedByRpc(Request("a\xff")).message, "prompt must be UTF-8, and is not");
  EXPECT_EQ(doors.RefusedByRpc(Request(Conversation{{"user", "\xc3"}})).message,
            "prompt[0].content must be UTF-8, and is not");
}

TEST(BothDoors, LeaveItToTheRegionToSayThatNobodyCanAnswer) {
  BothDoors doors;
  doors.http.generation.served.context_tokens = 0;
  doors.http.generation.refusal = MakeStreamError(BusyReason::kNoGroup, "no group has joined yet");
  EXPECT_EQ(doors.RefusedByHttp({{"prompt", "a"}}).json()["error"]["code"], "no_group");
  EXPECT_EQ(doors.RefusedByRpc(Request("a")).reason, BusyReason::kNoGroup);
}

TEST(BothDoors, TellWhoseARequestIsAndItsTerms) {
  BothDoors doors;
  rpc::GenerateRequest request = Request("a");
  request.terms = {.name = "mine",
                   .tenant = "somebody else",
                   .service_class = ServiceClass::kSheddable,
                   .deadline_ms = 900,
                   .attempt = 3,
                   .session = "s"};
  RequestTerms expected = request.terms;
  expected.tenant = "upstream";  // As its key says.
  EXPECT_EQ(doors.OverRpc(request).terms, expected);
  EXPECT_EQ(doors.http.generation.checked.back(), expected);
  EXPECT_THAT(doors.OverRpc(Request("a")).terms.name, HasSubstr("rpc-"));
}

// Its reading may wait for that of others.
TEST(BothDoors, CountADeadlineFromWhenTheRequestCame) {
  BothDoors doors;
  doors.http.generation.records.clear();
  rpc::GenerateRequest request = Request("a");
  request.terms.deadline_ms = 100'000;
  EXPECT_LE(doors.OverRpc(request, 30).terms.deadline_ms, 99'970);
  request.terms.deadline_ms = 20;
  request.terms.name = "late";
  const StreamError refusal = doors.RefusedByRpc(request, 30);
  EXPECT_EQ(refusal.reason, BusyReason::kDeadlineUnreachable);
  EXPECT_THAT(refusal.message, HasSubstr("20 ms was over when it had been read"));
  ASSERT_EQ(doors.http.generation.records.size(), 1U);
  EXPECT_EQ(doors.http.generation.records[0].request, "late");
}

TEST(BothDoors, OfferToShareWhatHasOneAnswer) {
  BothDoors doors;
  rpc::GenerateRequest request = Request("a");
  EXPECT_FALSE(doors.OverRpc(request).shares);
  request.seed_given = true;
  EXPECT_TRUE(doors.OverRpc(request).shares);
  request.seed_given = false;
  request.params.sampling.temperature = 0;
  EXPECT_TRUE(doors.OverRpc(request).shares);
}

TEST(BothDoors, RefuseBeforeTheyReadWhatTheTermsAloneDecide) {
  BothDoors doors;
  doors.http.generation.early_refusal =
      StreamError{BusyReason::kQuotaExceeded, "the tenant's bound", 700, 50};
  doors.http.tokenizer.on_encode = [] { ADD_FAILURE() << "it was read"; };
  EXPECT_EQ(doors.RefusedByHttp({{"prompt", "a"}}).status, 429);
  EXPECT_EQ(doors.RefusedByRpc(Request("a")), doors.http.generation.early_refusal);
}

}  // namespace
}  // namespace shoal::gateway
