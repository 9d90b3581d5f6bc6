// Answers that are gone on with: whatever an undisturbed client gets, one that is cut off after any
// event and comes back with its cursor gets too, not a byte more or less.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/coordinator/gateway/fakes.h"
#include "transport/base/check.h"

namespace shoal::gateway {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr std::string_view kCompletions = "/v1/completions";
constexpr std::string_view kChat = "/v1/chat/completions";

// What one choice's sequence says, as often as it is asked.
struct Choice {
  std::string tokens;
  FinishReason finish = FinishReason::kLength;
  bool ends_with_eos = false;
};

struct ResumeCase {
  std::string name;
  std::string_view path;
  json body;
  std::vector<Choice> choices;
  bool thinks = false;  // The model marks what it thinks.
};

void PrintTo(const ResumeCase& what, std::ostream* out) { *out << what.name; }

enum class Batch { kTokenByToken, kPairs, kWhole };

HttpGatewayOptions WithKey(size_t stream_bytes_max = HttpLimits().stream_bytes_max) {
  HttpGatewayOptions options;
  options.cursor_key = std::string(kCursorKeyBytes, 'k');
  options.limits.stream_bytes_max = stream_bytes_max;
  return options;
}

std::vector<int32_t> Tokens(const Choice& choice) {
  std::vector<int32_t> tokens;
  for (const char c : choice.tokens) tokens.push_back(static_cast<unsigned char>(c));
  if (choice.ends_with_eos) tokens.push_back(kEos);
  return tokens;
}

// Choices take turns. `base`: the stream of choice 0; those that nobody asked for are left out.
void Play(FakeGeneration& generation, core::StreamId base, const std::vector<Choice>& choices,
          Batch batch) {
  std::vector<std::vector<int32_t>> left;
  std::transform(choices.begin(), choices.end(), std::back_inserter(left), Tokens);
  for (bool more = true; more;) {
    more = false;
    for (size_t k = 0; k < choices.size(); ++k) {
      const std::optional<size_t> index = generation.Find({base.high, base.low + k});
      std::vector<int32_t>& tokens = left[k];
      if (!index || (tokens.empty() && generation.sequences[*index].listener == nullptr)) continue;
      const size_t room = batch == Batch::kTokenByToken ? 1 : batch == Batch::kPairs ? 2 : SIZE_MAX;
      const size_t count = std::min(room, tokens.size());
      const std::vector<int32_t> now(tokens.begin(),
                                     tokens.begin() + static_cast<ptrdiff_t>(count));
      tokens.erase(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(count));
      if (tokens.empty()) {
        generation.Finish(*index, choices[k].finish, now);
      } else {
        generation.Deliver(*index, now);
        more = true;
      }
    }
  }
}

// What a client makes of its events: each choice's fields joined, and what is said of the whole.
struct Joined {
  std::map<int, json> choices;
  json usage;
  json note;
  std::set<std::string> heads;  // id, object, created and model of each chunk.
  int warnings = 0;
  int recomputing = 0;
  int done = 0;
};

// Each call's id and name come once, and its arguments in pieces.
void JoinCalls(json& whole, const json& deltas) {
  if (whole.is_null()) whole = json::array();
  for (const json& delta : deltas) {
    const auto index = delta["index"].get<size_t>();
    if (index == whole.size()) {
      whole.push_back(delta);
      EXPECT_TRUE(delta.contains("id")) << delta;
      continue;
    }
    ASSERT_EQ(index + 1, whole.size()) << delta;
    EXPECT_FALSE(delta.contains("id")) << delta;
    json& arguments = whole[index]["function"]["arguments"];
    arguments = arguments.get<std::string>() + delta["function"]["arguments"].get<std::string>();
  }
}

void JoinField(json& whole, const std::string& key, const json& value) {
  if (whole.is_null()) whole = json::object();
  if (key == "tool_calls") {
    JoinCalls(whole[key], value);
  } else if (value.is_string() &&
             (key == "text" || key == "content" || key == "reasoning_content")) {
    whole[key] = whole.value(key, "") + value.get<std::string>();
  } else if (value.is_array()) {
    if (!whole.contains(key)) whole[key] = json::array();
    for (const json& entry : value) whole[key].push_back(entry);
  } else if (value.is_object()) {
    for (const auto& [name, inner] : value.items()) JoinField(whole[key], name, inner);
  } else if (!value.is_null()) {
    EXPECT_TRUE(key == "index" || !whole.contains(key)) << key << " comes twice";
    whole[key] = value;
  }
}

void Add(Joined& joined, const std::string& data) {
  EXPECT_TRUE(joined.done == 0 || data == "[DONE]") << data << " comes after the end";
  if (data == "[DONE]") return static_cast<void>(++joined.done);
  const json chunk = json::parse(data);
  ASSERT_FALSE(chunk.contains("error")) << data;
  joined.heads.insert(Str(chunk["id"].dump(), chunk["object"].dump(), chunk["created"].dump(),
                          chunk["model"].dump(), chunk["system_fingerprint"].dump()));
  if (chunk.contains("usage") && !chunk["usage"].is_null()) joined.usage = chunk["usage"];
  joined.warnings += chunk.contains("warnings") ? 1 : 0;
  if (chunk.contains("x_shoal") && !chunk["x_shoal"].contains("resumes")) {
    EXPECT_TRUE(chunk["choices"].empty());
    ++joined.recomputing;
  } else if (chunk.contains("x_shoal")) {
    joined.note = chunk["x_shoal"];
  }
  for (const json& choice : chunk["choices"]) {
    json& whole = joined.choices[choice["index"].get<int>()];
    for (const auto& [key, value] : choice.items()) JoinField(whole, key, value);
  }
}

Joined Join(const std::vector<Reply::Event>& events) {
  Joined joined;
  for (const Reply::Event& event : events) Add(joined, event.data);
  return joined;
}

void ExpectSame(const Joined& expected, const Joined& found) {
  EXPECT_EQ(expected.choices, found.choices);
  EXPECT_EQ(expected.usage, found.usage);
  EXPECT_EQ(expected.heads, found.heads);
  EXPECT_EQ(expected.warnings, found.warnings);
  EXPECT_GE(found.done, 1);
}

// The case on a gateway of its own; `slow`: the client takes nothing until all is there.
class Trial {
 public:
  explicit Trial(const ResumeCase& what, bool slow = false)
      : case_(what),
        fixture_(WithKey(slow ? 1 : HttpLimits().stream_bytes_max), true,
                 [&](TextService& text) {
                   if (!what.thinks) return;
                   text.reasoning_begin = "<think>";
                   text.reasoning_end = "</think>";
                 }),
        slow_(slow) {
    fixture_.generation.served.context_tokens = 1'000'000;
  }

  FakeGeneration& generation() { return fixture_.generation; }
  GatewayFixture& fixture() { return fixture_; }
  GatewayFixture::Client& client() { return *client_; }

  void Send(const std::string& cursor = "") {
    const std::string headers =
        "X-Shoal-Resumable: 1\r\n" + (cursor.empty() ? "" : "Last-Event-ID: " + cursor + "\r\n");
    client_ = fixture_.Connect(/*reading=*/!slow_);
    client_->Request("POST", case_.path, case_.body.dump(), headers);
  }

  Reply Finish() {
    if (slow_) client_->Read();
    Reply reply;
    EXPECT_TRUE(fixture_.PollUntil([&] {
      reply = client_->TakeReply();
      return reply.complete;
    }));
    return reply;
  }

 private:
  const ResumeCase& case_;
  GatewayFixture fixture_;
  const bool slow_;
  std::unique_ptr<GatewayFixture::Client> client_;
};

// All of the answer, undisturbed.
std::vector<Reply::Event> Undisturbed(const ResumeCase& what, core::StreamId& base, bool slow,
                                      Batch batch) {
  Trial run(what, slow);
  run.Send();
  if (run.generation().sequences.empty()) {
    base = {};
  } else {
    base = run.generation().sequences[0].stream;
  }
  Play(run.generation(), base, what.choices, batch);
  return run.Finish().all_events();
}

// The last character is cut off.
const std::string kWide = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z\xE2\x82";

std::vector<ResumeCase> TextCases() {
  const json chat = {{{"role", "user"}, {"content", "hi"}}};
  return {
      {"text", kCompletions, {{"prompt", "hi"}}, {{"hello world", FinishReason::kStop, true}}},
      {"chat", kChat, {{"messages", chat}}, {{"hello", FinishReason::kStop, true}}},
      {"stop strings",
       kCompletions,
       {{"prompt", "hi"}, {"stop", {"wor", "xyz"}}},
       {{"hello xy wxyw wozld worn out"}}},
      {"stop strings of a chat",
       kChat,
       {{"messages", chat}, {"stop", "END"}},
       {{"an EN and ENEND and more"}}},
      {"a stop string that is shown",
       kCompletions,
       {{"prompt", "hi"}, {"stop", "lo w"}, {"include_stop_str_in_output", true}},
       {{"hello world"}}},
      {"a stop string that begins and does not end",
       kChat,
       {{"messages", chat}, {"stop", "ldx"}},
       {{"hello world", FinishReason::kStop, true}}},
      {"min_tokens",
       kCompletions,
       {{"prompt", "hi"}, {"stop", "o"}, {"min_tokens", 6}},
       {{"hello world"}}},
      {"special tokens",
       kCompletions,
       {{"prompt", "hi"}, {"skip_special_tokens", false}},
       {{"hello", FinishReason::kStop, true}}},
      {"wide characters", kCompletions, {{"prompt", "hi"}}, {{kWide}}},
      {"wide characters of a chat", kChat, {{"messages", chat}}, {{kWide}}},
      {"echo", kCompletions, {{"prompt", "h\xC3\xA9!"}, {"echo", true}}, {{"hello"}}},
      {"echo alone",
       kCompletions,
       {{"prompt", "hi"}, {"echo", true}, {"max_tokens", 0}, {"n", 2}},
       {}},
      {"echo with log-probabilities",
       kCompletions,
       {{"prompt", "h\xC3\xA9!"}, {"echo", true}, {"logprobs", 2}},
       {{kWide}}},
      {"echo with log-probabilities and ids",
       kCompletions,
       {{"prompt", "why"}, {"echo", true}, {"logprobs", 0}, {"return_token_ids", true}},
       {{"hello"}}},
  };
}

// Several choices, and what is told beside the text.
std::vector<ResumeCase> FormCases() {
  const json chat = {{{"role", "user"}, {"content", "hi"}}};
  return {
      {"n", kCompletions, {{"prompt", "hi"}, {"n", 3}}, {{"a long answer"}, {"b"}, {"another"}}},
      {"n of a chat",
       kChat,
       {{"messages", chat}, {"n", 3}, {"stop", "er"}},
       {{"a long answer"}, {"b"}, {"another"}}},
      {"several prompts",
       kCompletions,
       {{"prompt", {"a", "bc"}}, {"n", 2}, {"echo", true}},
       {{"one"}, {"two"}, {"three"}, {"four"}}},
      {"log-probabilities", kCompletions, {{"prompt", "hi"}, {"logprobs", 3}}, {{kWide}}},
      {"log-probabilities of a chat",
       kChat,
       {{"messages", chat}, {"logprobs", true}, {"top_logprobs", 2}},
       {{kWide}}},
      {"ids",
       kCompletions,
       {{"prompt", "hi"}, {"return_token_ids", true}},
       {{"hel", FinishReason::kStop, true}}},
      {"ids of a chat",
       kChat,
       {{"messages", chat}, {"return_token_ids", true}, {"n", 2}},
       {{"hel", FinishReason::kStop, true}, {"x"}}},
      {"usage",
       kCompletions,
       {{"prompt", "hi"}, {"n", 2}, {"stream_options", {{"include_usage", true}}}},
       {{"hello"}, {"you"}}},
      {"continuous usage",
       kChat,
       {{"messages", chat},
        {"n", 2},
        {"stream_options", {{"include_usage", true}, {"continuous_usage_stats", true}}}},
       {{"hello"}, {"you"}}},
      {"warnings", kCompletions, {{"prompt", "hi"}, {"temprature", 1}, {"seed", 7}}, {{"hello"}}},
  };
}

// Calls and thoughts, told apart from the text.
std::vector<ResumeCase> PartCases() {
  const json chat = {{{"role", "user"}, {"content", "hi"}}};
  const json tools = {{{"type", "function"}, {"function", {{"name", "f"}}}}};
  const std::string call =
      "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"\xC3\xA9\"}}"
      "</tool_call>";
  return {
      {"a call",
       kChat,
       {{"messages", chat}, {"tools", tools}},
       {{call, FinishReason::kStop, true}}},
      {"text and calls",
       kChat,
       {{"messages", chat}, {"tools", tools}, {"n", 2}},
       {{"Well. " + call + "\n" + call + " Done.", FinishReason::kStop, true}, {"No <tool_ca"}}},
      {"a call beside a stop string",
       kChat,
       {{"messages", chat}, {"tools", tools}, {"stop", {"}</tool_", "<"}}, {"min_tokens", 12}},
       {{call}}},
      {"thoughts",
       kChat,
       {{"messages", chat}},
       {{"<think> Well. \n</think>\n\nSo.", FinishReason::kStop, true}},
       true},
      {"thoughts and a call",
       kChat,
       {{"messages", chat}, {"tools", tools}, {"logprobs", true}},
       {{"<think>Well.</think>" + call, FinishReason::kStop, true}},
       true},
  };
}

std::vector<ResumeCase> Cases() {
  std::vector<ResumeCase> cases = TextCases();
  for (ResumeCase& more : PartCases()) cases.push_back(std::move(more));
  for (ResumeCase& more : FormCases()) cases.push_back(std::move(more));
  return cases;
}

class Resume : public ::testing::TestWithParam<ResumeCase> {
 protected:
  Resume() : case_(GetParam()) { case_.body["stream"] = true; }

  // Cut off after each event, and gone on with on a gateway that knows nothing but the key.
  void CutEverywhere(bool slow, Batch batch, Batch batch_after) {
    core::StreamId base;
    const std::vector<Reply::Event> events = Undisturbed(case_, base, slow, batch);
    const Joined expected = Join(events);
    ASSERT_EQ(expected.done, 1);
    for (size_t i = 0; i < events.size(); ++i) {
      SCOPED_TRACE(Str("cut after event ", i, ": ", events[i].data));
      ASSERT_FALSE(events[i].id.empty());
      Trial run(case_, slow);
      run.Send(events[i].id);
      const bool recomputes = !run.generation().sequences.empty();
      Play(run.generation(), base, case_.choices, batch_after);
      std::vector<Reply::Event> all(events.begin(), events.begin() + static_cast<ptrdiff_t>(i) + 1);
      for (Reply::Event& event : run.Finish().all_events()) all.push_back(std::move(event));
      const Joined found = Join(all);
      ExpectSame(expected, found);
      EXPECT_EQ(found.recomputing, recomputes ? 1 : 0);
      const bool says_so = !found.note.is_null();
      EXPECT_EQ(says_so, recomputes);
      if (!says_so) continue;
      EXPECT_EQ(found.note, json({{"resumes", 0}, {"recomputing", true}}));
    }
  }

  ResumeCase case_;
};

TEST_P(Resume, GoesOnAfterEveryEvent) {
  CutEverywhere(false, Batch::kTokenByToken, Batch::kWhole);
  CutEverywhere(false, Batch::kPairs, Batch::kTokenByToken);
}

TEST_P(Resume, GoesOnForASlowReader) {
  CutEverywhere(true, Batch::kPairs, Batch::kPairs);
  CutEverywhere(true, Batch::kTokenByToken, Batch::kTokenByToken);
}

// Tokens [begin, end) of each choice, and its end once they are all.
void PlayRange(FakeGeneration& generation, core::StreamId base, const std::vector<Choice>& choices,
               size_t begin, size_t end) {
  for (size_t k = 0; k < choices.size(); ++k) {
    const std::optional<size_t> index = generation.Find({base.high, base.low + k});
    const std::vector<int32_t> tokens = Tokens(choices[k]);
    if (!index || begin >= tokens.size()) continue;
    const std::vector<int32_t> now(
        tokens.begin() + static_cast<ptrdiff_t>(begin),
        tokens.begin() + static_cast<ptrdiff_t>(std::min(end, tokens.size())));
    if (end >= tokens.size()) {
      generation.Finish(*index, choices[k].finish, now);
    } else {
      generation.Deliver(*index, now);
    }
  }
}

// The same gateway: the streams went on while nobody listened. One that a stop string had ended is
// not there any more.
TEST_P(Resume, GoesOnWithStreamsThatAreKnown) {
  core::StreamId base;
  const Joined expected = Join(Undisturbed(case_, base, false, Batch::kTokenByToken));
  for (size_t cut = 1; cut < 12; ++cut) {
    SCOPED_TRACE(Str("cut after ", cut, " tokens"));
    Trial run(case_);
    run.Send();
    PlayRange(run.generation(), base, case_.choices, 0, cut);
    std::vector<Reply::Event> all = run.client().TakeReply().all_events();
    if (all.empty()) continue;
    run.client().HangUp();
    PlayRange(run.generation(), base, case_.choices, cut, SIZE_MAX);
    const size_t known_count = run.generation().sequences.size();
    run.Send(all.back().id);
    for (size_t i = 0; i < known_count; ++i) run.generation().Replay(i);
    if (run.generation().sequences.size() > known_count) {
      Play(run.generation(), base, case_.choices, Batch::kPairs);
    }
    for (Reply::Event& event : run.Finish().all_events()) all.push_back(std::move(event));
    ExpectSame(expected, Join(all));
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Resume, ::testing::ValuesIn(Cases()), [](const auto& info) {
  std::string name = info.param.name;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return name;
});

// Longer than one event, read beside the loop, and formatted there too.
TEST(Resumable, GoesOnInTheMiddleOfALongEcho) {
  for (const bool has_logprobs : {false, true}) {
    ResumeCase what = {"long", kCompletions, {{"echo", true}, {"stream", true}}, {{"ab"}}};
    std::string prompt;
    while (prompt.size() < (has_logprobs ? 6'000 : 150'000)) prompt += "lorem \xC3\xA9 ipsum ";
    what.body["prompt"] = prompt;
    what.body["return_token_ids"] = true;
    if (has_logprobs) what.body["logprobs"] = 1;
    const auto finish = [&](Trial& run) {
      EXPECT_TRUE(run.fixture().PollUntil([&] { return !run.generation().sequences.empty(); }));
      Play(run.generation(), run.generation().sequences[0].stream, what.choices, Batch::kWhole);
      return run.Finish().all_events();
    };
    std::vector<Reply::Event> events;
    {
      Trial trial(what);
      trial.Send();
      events = finish(trial);
    }
    ASSERT_GT(events.size(), 4U);
    const Joined expected = Join(events);
    for (size_t i = 0; i + 2 < events.size(); ++i) {
      Trial run(what);
      run.Send(events[i].id);
      std::vector<Reply::Event> all(events.begin(), events.begin() + static_cast<ptrdiff_t>(i) + 1);
      for (Reply::Event& event : finish(run)) all.push_back(std::move(event));
      EXPECT_TRUE(expected.choices == Join(all).choices) << "cut after event " << i;
    }
  }
}

}  // namespace
}  // namespace shoal::gateway
