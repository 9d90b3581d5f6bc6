// Tokenizers and templates on inputs that vectors do not reach: ill-formed bytes, long runs,
// streams, special text in messages, and files that must be refused.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <utf8proc.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "parallel/model/model.h"
#include "parallel/text/chat_template.h"
#include "parallel/text/nfc.h"
#include "parallel/text/tokenizer/tokenizer.h"
#include "parallel/text/utf8.h"
#include "tests/parallel/text/text_fixtures.h"
#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::text {
namespace {

using model::TokenizerSource;
using nlohmann::json;
using nlohmann::ordered_json;
using testing::ElementsAre;
using testing::HasSubstr;

std::string BytesOf(int first, int last) {
  std::string bytes;
  for (int byte = first; byte <= last; ++byte) bytes += static_cast<char>(byte);
  return bytes;
}

// A GGUF vocabulary: 0 <s> and 1 <x> are control tokens, 2 "a", 3 "aa", 4 "aaaa", 5 "b", 6 "<", 7
// ">", 8 "s", 9 space, 10 byte 0xC3, 11 byte 0xA9, 12 the user-defined <u>.
json Gguf() {
  return {
      {"tokenizer.ggml.model", "gpt2"},
      {"tokenizer.ggml.pre", "smollm"},
      {"tokenizer.ggml.tokens",
       {"<s>", "<x>", "a", "aa", "aaaa", "b", "<", ">", "s", "\u0120", "\u00c3", "\u00a9", "<u>"}},
      {"tokenizer.ggml.token_type", {3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4}},
      {"tokenizer.ggml.merges", {"a a", "aa aa"}},
      {"tokenizer.ggml.bos_token_id", 0},
      {"tokenizer.ggml.eos_token_id", 1}};
}

std::unique_ptr<Tokenizer> Tiny() {
  return Tokenizer::FromMetadata(Gguf(), TokenizerSource::kGgufMetadata);
}

std::string RefusalOf(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "nothing was refused";
}

std::string RefusalOf(const json& metadata) {
  return RefusalOf([&] { Tokenizer::FromMetadata(metadata, TokenizerSource::kGgufMetadata); });
}

TEST(Tokenizer, DropsBytesThatTheVocabularyLacksAndJoinsTheirNeighbours) {
  EXPECT_THAT(Tiny()->Encode("aa\x01"
                             "b",
                             SpecialTokens::kRecognized),
              ElementsAre(3, 5));
}

TEST(Tokenizer, EncodesIllFormedUtf8ByteByByte) {
  EXPECT_THAT(Tiny()->Encode("a\xC3", SpecialTokens::kRecognized), ElementsAre(2, 10));
  EXPECT_THAT(Tiny()->Encode("\xA9\xC3\xA9", SpecialTokens::kRecognized), ElementsAre(11, 10, 11));
  EXPECT_TRUE(Tiny()->Encode(BytesOf(0xF0, 0xFF), SpecialTokens::kRecognized).empty());
}

TEST(Tokenizer, EncodesAMegabyteOfOneLetterWithoutQuadraticTime) {
  // A quadratic merge takes some 10^12 steps: this test would run into its time limit.
  const auto ids = Tiny()->Encode(std::string(1 << 20, 'a'), SpecialTokens::kRecognized);
  EXPECT_EQ(ids, std::vector<int32_t>(1 << 18, 4));
}

TEST(Tokenizer, RecognizesControlTokensOnlyOutsidePlainRanges) {
  const auto tokenizer = Tiny();
  const ByteRange plain[] = {{3, 4}};
  EXPECT_THAT(tokenizer->EncodeMarked("<s><s>", {}), ElementsAre(0, 0));
  EXPECT_THAT(tokenizer->EncodeMarked("<s><s>", plain), ElementsAre(0, 6, 8, 7));
  EXPECT_THAT(tokenizer->EncodeMarked("aa<s>aa", {plain, 1}), ElementsAre(3, 6, 8, 7, 3));
  EXPECT_THAT(tokenizer->Encode("<s><u>", SpecialTokens::kPlainText), ElementsAre(6, 8, 7, 12));
}

TEST(Tokenizer, KeepsPiecesWholeAcrossTheBorderOfAPlainRange) {
  const ByteRange plain[] = {{1, 2}};
  EXPECT_THAT(Tiny()->EncodeMarked("aaaa", plain), ElementsAre(4));
}

TEST(Tokenizer, AddsABosOnlyWhereTheFileSaysSo) {
  json metadata = Gguf();
  EXPECT_EQ(Tiny()->bos_to_add(), std::nullopt);
  metadata["tokenizer.ggml.add_bos_token"] = true;
  EXPECT_EQ(Tokenizer::FromMetadata(metadata, TokenizerSource::kGgufMetadata)->bos_to_add(), 0);
  metadata.erase("tokenizer.ggml.bos_token_id");
  EXPECT_THAT(RefusalOf(metadata), HasSubstr("no tokenizer.ggml.bos_token_id"));
}

TEST(Tokenizer, NamesWhatItRefuses) {
  json metadata = Gguf();
  metadata["tokenizer.ggml.pre"] = "mystery";
  EXPECT_THAT(RefusalOf(metadata), HasSubstr("pre-tokenizer mystery is not supported"));
  metadata = Gguf();
  metadata["tokenizer.ggml.model"] = "t5";
  EXPECT_THAT(RefusalOf(metadata), HasSubstr("expected gpt2"));
  metadata = Gguf();
  metadata["tokenizer.ggml.merges"].push_back("a zz");
  EXPECT_THAT(RefusalOf(metadata), HasSubstr("tokenizer.ggml.merges[2]"));
  metadata = Gguf();
  metadata["tokenizer.ggml.bos_token_id"] = 13;
  EXPECT_THAT(RefusalOf(metadata), HasSubstr("token id below 13, found 13"));
  metadata = Gguf();
  metadata["tokenizer.ggml.token_type"].erase(0);
  EXPECT_THAT(RefusalOf(metadata), HasSubstr("token_type's 12"));
}

TEST(Tokenizer, RefusesSettingsItWouldHaveToIgnore) {
  for (const char* key : {"add_eos_token", "add_sep_token", "add_space_prefix",
                          "remove_extra_whitespaces", "something_new"}) {
    json metadata = Gguf();
    const std::string name = std::string("tokenizer.ggml.") + key;
    metadata[name] = true;
    EXPECT_THAT(RefusalOf(metadata), HasSubstr(name));
    metadata[name] = false;
    if (name.ends_with("new")) continue;
    EXPECT_NO_THROW(Tokenizer::FromMetadata(metadata, TokenizerSource::kGgufMetadata)) << name;
  }
}

// The smallest tokenizer.json that is accepted: one byte, and a token that is added.
json SmallFile() {
  return {{"model", {{"type", "BPE"}, {"vocab", {{"a", 0}}}, {"merges", json::array()}}},
          {"added_tokens", {{{"id", 1}, {"content", "<x>"}, {"special", true}}}},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}}};
}

std::string FileRefusal(const json& file, const json& config = json::object()) {
  return RefusalOf([&] {
    Tokenizer::FromMetadata({{"tokenizer.json", file}, {"tokenizer_config.json", config}},
                            TokenizerSource::kTokenizerJson);
  });
}

TEST(Tokenizer, RefusesSettingsOfAFolderItWouldHaveToIgnore) {
  const std::string accepted = "nothing was refused";
  EXPECT_EQ(FileRefusal(SmallFile()), accepted);
  for (const char* key : {"add_eos_token", "add_prefix_space", "split_special_tokens"}) {
    EXPECT_THAT(FileRefusal(SmallFile(), {{key, true}}), HasSubstr(key));
    EXPECT_EQ(FileRefusal(SmallFile(), {{key, false}}), accepted);
  }
  EXPECT_EQ(FileRefusal(SmallFile(), {{"clean_up_tokenization_spaces", true}}), accepted);
  json file = SmallFile();
  file["decoder"] = {{"type", "Metaspace"}};
  EXPECT_THAT(FileRefusal(file), HasSubstr("decoder: found Metaspace"));
  file["decoder"] = {{"type", "Sequence"}, {"decoders", {{{"type", "ByteLevel"}}}}};
  EXPECT_EQ(FileRefusal(file), accepted);
  const auto decoder = [](const char* id, const char* text) {
    return json{{"added_tokens_decoder", {{id, {{"content", text}}}}}};
  };
  EXPECT_EQ(FileRefusal(SmallFile(), decoder("1", "<x>")), accepted);
  EXPECT_THAT(FileRefusal(SmallFile(), decoder("2", "<y>")), HasSubstr("<y>"));
  EXPECT_THAT(FileRefusal(SmallFile(), decoder("2", "<x>")), HasSubstr("<x>"));
}

TEST(Tokenizer, TakesAnUnknownTokenWhereNothingIsUnknown) {
  json file = SmallFile();
  file["model"]["unk_token"] = "a";
  EXPECT_THAT(FileRefusal(file), HasSubstr("unk_token"));
  const auto add = [&](uint32_t first, uint32_t last) {
    for (uint32_t c = first; c <= last; ++c) {
      std::string token;
      AppendUtf8(c, token);
      file["model"]["vocab"][token] = 2 + c;
    }
  };
  add(0x21, 0x7E);
  add(0xA1, 0xAC);
  add(0xAE, 0x143);
  EXPECT_EQ(FileRefusal(file), "nothing was refused");
}

TEST(Tokenizer, RefusesAnExpressionThatMeansSomethingElseToPcre) {
  json model = {{"type", "BPE"}, {"vocab", {{"a", 0}}}, {"merges", json::array()}};
  for (const char* pattern : {"\\h+", "[a[b]]", "[a&&b]", "(?<name>a)", "\\w+", "(a"}) {
    const json file = {
        {"model", model},
        {"pre_tokenizer",
         {{"type", "Sequence"},
          {"pretokenizers",
           {{{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}},
            {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}}}};
    EXPECT_THAT(
        RefusalOf([&] {
          Tokenizer::FromMetadata({{"tokenizer.json", file}}, TokenizerSource::kTokenizerJson);
        }),
        HasSubstr("pre-tokenizer expression"))
        << pattern;
  }
}

std::string Nfc(std::string_view text) { return NormalizeNfc(text, {0, text.size()}, {}).text; }

// The right-hand sides are what the normalizer of Hugging Face's tokenizers gives.
TEST(NormalizeNfc, ComposesAndOrdersAsTheReference) {
  EXPECT_EQ(Nfc("e\u0301"), "\u00E9");
  EXPECT_EQ(Nfc("e\u0301\u0323"), "\u1EB9\u0301");             // The mark below comes first.
  EXPECT_EQ(Nfc("\u212B"), "\u00C5");                          // A character of one other.
  EXPECT_EQ(Nfc("\u0958"), "\u0915\u093C");                    // Excluded from composition.
  EXPECT_EQ(Nfc("\u1F82"), "\u1F82");                          // Of four.
  EXPECT_EQ(Nfc("\u1112\u1161\u11AB"), "\uD55C");              // Hangul, by arithmetic.
  EXPECT_EQ(Nfc("\uAC00\u11A7\u11A8"), "\uAC00\u11A7\u11A8");  // U+11A7 is not a tail.
  EXPECT_EQ(Nfc("e\uFB01\u00BD"), "e\uFB01\u00BD");            // Compatibility is another form.
}

// Newer tables know marks that nfc.cc must then leave alone, too: list them in kAfterUnicode9.
TEST(NormalizeNfc, HasTablesOfAUnicodeThatItKnows) {
  EXPECT_STREQ(utf8proc_unicode_version(), "15.0.0");
}

TEST(NormalizeNfc, LeavesWhatCameAfterUnicode9AsTheReferenceDoes) {
  // As a mark, each would let U+0301 pass and compose; of Unicode 15, 14, 13 and 10.
  for (const char* mark : {"\U0001E4EE", "\U00010EFD", "\u0899", "\u1AC3", "\u1DF9"}) {
    const std::string text = "e" + std::string(mark) + "\u0301";
    EXPECT_EQ(Nfc(text), text);
  }
  EXPECT_EQ(Nfc("e\u1AB5\u0301"), "\u00E9\u1AB5");  // A mark of Unicode 7.
  EXPECT_EQ(Nfc("\U00011935\U00011930"), "\U00011935\U00011930");
  EXPECT_EQ(Nfc("\U00011938"), "\U00011938");
}

TEST(NormalizeNfc, KeepsIllFormedBytesAndWhatIsPlain) {
  EXPECT_EQ(Nfc("e\xCC"), "e\xCC");
  EXPECT_EQ(Nfc("e\xFF\u0301"), "e\xFF\u0301");
  EXPECT_EQ(Nfc("\xED\xA0\x80"), "\xED\xA0\x80");  // A surrogate.
  const std::string text = "ae\u0301a";
  const ByteRange mark{2, 4};
  const NormalizedText normalized = NormalizeNfc(text, {0, text.size()}, {&mark, 1});
  EXPECT_EQ(normalized.text, "a\u00E9a");
  ASSERT_EQ(normalized.plain.size(), 1u);
  EXPECT_EQ(normalized.plain[0].begin, 1u);
  EXPECT_EQ(normalized.plain[0].end, 3u);
}

TEST(StreamDecoder, GivesTheSameTextAsDecodingAtOnce) {
  const auto tokenizer = Tiny();
  const std::vector<int32_t> ids = {2, 10, 11, 10, 0, 11, 99, -1, 3, 10};
  for (const bool skip_special : {false, true}) {
    StreamDecoder decoder(*tokenizer, skip_special);
    std::string joined;
    for (const int32_t id : ids) joined += decoder.Push(id);
    joined += decoder.Finish();
    EXPECT_EQ(joined, tokenizer->Decode(ids, skip_special));
    EXPECT_EQ(joined, skip_special ? "aéé"
                                     "aa\uFFFD"
                                   : "aé\uFFFD<s>\uFFFD"
                                     "aa\uFFFD");
  }
}

TEST(StreamDecoder, HoldsBackTheFirstBytesOfACharacter) {
  const auto tokenizer = Tiny();
  StreamDecoder decoder(*tokenizer, false);
  EXPECT_EQ(decoder.Push(10), "");
  EXPECT_EQ(decoder.Push(11), "é");
  EXPECT_EQ(decoder.Finish(), "");
}

std::string Rendered(const std::string& source, const ordered_json& variables = {}) {
  return ChatTemplate::Parse(source)
      ->Render(variables.is_null() ? ordered_json::object() : variables)
      .text;
}

TEST(ChatTemplate, NamesTheConstructItDoesNotSupport) {
  const auto refusal = [](const std::string& source) {
    return RefusalOf([&] { ChatTemplate::Parse(source); });
  };
  EXPECT_THAT(refusal("\xff\xfe{"), HasSubstr("UTF-8"));
  EXPECT_THAT(refusal("\n{{ x | urlize }}"), HasSubstr("line 2: the filter 'urlize'"));
  EXPECT_THAT(refusal("{{ x is filter }}"), HasSubstr("the test 'filter'"));
  EXPECT_THAT(refusal("{% include 'a' %}"), HasSubstr("the statement 'include'"));
  EXPECT_THAT(refusal("{% for a in b recursive %}{% endfor %}"), HasSubstr("recursive loops"));
  EXPECT_THAT(refusal("{{ f(*a) }}"), HasSubstr("unpacked arguments"));
  EXPECT_THAT(refusal("{% if a %}"), HasSubstr("expected {% endif %}"));
  EXPECT_THAT(refusal("{{ " + std::string(500, '(') + "1" + std::string(500, ')') + " }}"),
              HasSubstr("too deep"));
  EXPECT_THAT(refusal("{{ 1" +
                      [] {
                        std::string sum;
                        for (int i = 0; i < 500; ++i) sum += "+1";
                        return sum;
                      }() +
                      " }}"),
              HasSubstr("too many parts"));
}

TEST(ChatTemplate, StopsAtItsBudgetsInsteadOfHanging) {
  const auto refusal = [](const std::string& source) {
    return RefusalOf([&] { Rendered(source); });
  };
  const std::string loop = "{% for i in range(99999) %}";
  EXPECT_THAT(refusal(loop + loop + "x{% endfor %}{% endfor %}"), HasSubstr("operations"));
  EXPECT_THAT(refusal("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), HasSubstr("too deep"));
  EXPECT_THAT(refusal("{{ 'x' * 99999999999 }}"), HasSubstr("operations"));
  EXPECT_THAT(
      refusal("{% set ns = namespace(x=[]) %}" + loop + "{% set ns.x = [ns.x] %}{% endfor %}"),
      HasSubstr("nest deeper"));
  EXPECT_THAT(refusal("{{ 9223372036854775807 + 1 }}"), HasSubstr("overflow"));
}

// Each of these would take minutes or more if only the template's nodes were counted.
TEST(ChatTemplate, CountsWorkThatOneNodeHides) {
  const auto refusal = [](const std::string& source) {
    return RefusalOf([&] { Rendered(source); });
  };
  const std::string loop = "{% for i in range(1000) %}";
  const std::string end = "{% endfor %}";
  // Two lists that share their parts, 2^60 items each.
  const std::string shared =
      "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}"
      "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}" +
      end;
  EXPECT_THAT(refusal(shared + "{{ ns.x == ns.y }}"), HasSubstr("operations"));
  EXPECT_THAT(refusal(shared + "{{ ns.x < ns.y }}"), HasSubstr("operations"));
  EXPECT_THAT(refusal(shared + "{{ [ns.x] is eq([ns.y]) }}"), HasSubstr("operations"));
  const std::string texts = "{% set t = 'a' * 1000 %}{% set a = t * 1000 %}{% set b = t * 1000 %}";
  for (const char* what :
       {"{% if a == b %}{% endif %}", "{% if a < b %}{% endif %}", "{% set x = {'k': 1}[a] %}",
        "{% set x = {'k': 1}.get(a) %}", "{% if a in {'k': 1} %}{% endif %}"}) {
    EXPECT_THAT(refusal(texts + loop + what + end), HasSubstr("operations")) << what;
  }
  std::string many;
  for (int i = 0; i < 40'000; ++i) many += Str("{% set v", i, " = 1 %}");
  EXPECT_THAT(refusal(many), HasSubstr("operations"));
}

// What a long chat needs, a short one may not use.
TEST(ChatTemplate, MayDoMoreForALongChat) {
  const std::string source =
      "{% for m in messages %}{% for i in range(20) %}{% if i > 30 %}x{% endif %}{% endfor %}"
      "{{ m.content }}{% endfor %}";
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  for (int i = 0; i < 10'000; ++i) messages.push_back({{"role", "user"}, {"content", "a"}});
  const auto parsed = ChatTemplate::Parse(source);
  EXPECT_EQ(parsed->Render({{"messages", messages}}).text, std::string(10'000, 'a'));
  const auto greedy = ChatTemplate::Parse(
      "{% for m in range(10000) %}{% for i in range(20) %}{% if i > 30 %}x{% endif %}{% endfor %}"
      "{% endfor %}");
  EXPECT_THAT(RefusalOf([&] {
                greedy->Render({{"messages", {{{"role", "user"}, {"content", "a"}}}}});
              }),
              HasSubstr("operations"));
}

TEST(ChatTemplate, FollowsPythonWhereJinjaLeavesThingsToIt) {
  EXPECT_EQ(Rendered("{{ -7 // 2 }} {{ -7 % 2 }} {{ 1e16 }} {{ 0.1 }} {{ 1.0 }} {{ 2 ** -1 }}"),
            "-4 1 1e+16 0.1 1.0 0.5");
  EXPECT_EQ(Rendered("{{ 'a,b,c'.split(',', 1) }} {{ ' a  b '.split() }} {{ 'abc'[::-1] }}"),
            "['a', 'b,c'] ['a', 'b'] cba");
  EXPECT_EQ(Rendered("{{ (1,) }} {{ {'a': [none, true]} }} {{ \"it's\" | list | first }}"),
            "(1,) {'a': [None, True]} i");
  EXPECT_EQ(Rendered("{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{% endfor %}{{ x }}"), "1");
  EXPECT_EQ(Rendered("{{ missing }}|{{ missing is defined }}|{{ missing | default('d') }}"),
            "|False|d");
  EXPECT_EQ(Rendered("{% set x %}a{{ 1 }}{% endset %}{{ x | upper }}{% raw %}{{ }}{% endraw %}"),
            "A1{{ }}");
}

// What Jinja2 3.1 renders in the environment of transformers.
TEST(ChatTemplate, WritesJsonAsItIsAskedTo) {
  const ordered_json x = {{"x", {{"b", "\u00e9"}, {"a", {1, 2}}, {"c", ordered_json::array()}}}};
  EXPECT_EQ(Rendered("{{ x | tojson }}", x), "{\"b\": \"\u00e9\", \"a\": [1, 2], \"c\": []}");
  EXPECT_EQ(Rendered("{{ x | tojson(indent=2) }}", x),
            "{\n  \"b\": \"\u00e9\",\n  \"a\": [\n    1,\n    2\n  ],\n  \"c\": []\n}");
  EXPECT_EQ(Rendered("{{ x | tojson(separators=(',', ':'), sort_keys=true) }}", x),
            "{\"a\":[1,2],\"b\":\"\u00e9\",\"c\":[]}");
  EXPECT_EQ(Rendered("{{ x.a | tojson(indent=1, separators=[';', ':']) }}", x), "[\n 1;\n 2\n]");
  EXPECT_EQ(Rendered("{{ x | tojson(ensure_ascii=true) }}",
                     {{"x", {{"\u00e9\U0001F600\x7f\"", {1, 1.5, nullptr, true}}}}}),
            R"({"\u00e9\ud83d\ude00\u007f\"": [1, 1.5, null, true]})");
  EXPECT_THAT(RefusalOf([&] { Rendered("{{ x | tojson(separators=',') }}", x); }),
              HasSubstr("line 1: tojson needs two strings as separators"));
}

TEST(ChatTemplate, PrintsListsOfAnyTextAsPythonDoes) {
  EXPECT_EQ(Rendered("{{ x }}",
                     {{"x", {"\u00e9", "\u200b\U0001F600 \u00a0\u0085\ue000\U000E0001", "it's"}}}),
            "['\u00e9', '\\u200b\U0001F600 \\xa0\\x85\\ue000\\U000e0001', \"it's\"]");
}

TEST(ChatTemplate, HasTheFiltersAndTestsOfPublishedTemplates) {
  EXPECT_EQ(
      Rendered("{{ '<a>' | safe }}{{ 5 | safe }}{{ x | tojson | safe }}", {{"x", {{"a", "<"}}}}),
      "<a>5{\"a\": \"<\"}");
  EXPECT_EQ(Rendered("{{ '%s-%d-%.2f' | format('a', 3, 1.5) }}|{{ '%s' | format([1]) }}"),
            "a-3-1.50|[1]");
  EXPECT_EQ(Rendered("{{ none is sameas none }}{{ true is sameas true }}{{ 1 is sameas true }}"
                     "{{ raise_exception is callable }}{{ 'a' is callable }}"),
            "TrueTrueFalseTrueFalse");
}

TEST(ChatTemplate, TellsTheTimeThatItIsGiven) {
  const auto parsed = ChatTemplate::Parse(
      "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y %H:%M:%S %j') }}"
      "{% else %}none{% endif %}");
  EXPECT_EQ(parsed->Render({}, 1764547200).text, "01 Dec 2025 00:00:00 335");
  EXPECT_EQ(parsed->Render(ordered_json::object()).text, "none");
  EXPECT_THAT(RefusalOf([] {
                ChatTemplate::Parse("{{ strftime_now('%99999d') }}")->Render({}, 1764547200);
              }),
              HasSubstr("strftime_now needs a format"));
}

TEST(ChatTemplate, NamesTheFileOrKeyThatItCameFrom) {
  const auto refusal = [](const json& metadata) {
    return RefusalOf(
        [&] { ChatTemplate::FromMetadata(metadata, TokenizerSource::kTokenizerJson); });
  };
  const std::string bad = "\n\n{% endif %}";
  const char* where = ": chat template, line 3: the statement 'endif'";
  EXPECT_THAT(refusal({{"chat_template.jinja", bad}}),
              HasSubstr(Str("chat_template.jinja", where)));
  EXPECT_THAT(refusal({{"tokenizer.chat_template", bad}}),
              HasSubstr(Str("tokenizer.chat_template", where)));
  EXPECT_THAT(refusal({{"tokenizer_config.json", {{"chat_template", bad}}}}),
              HasSubstr(Str("tokenizer_config.json: chat_template", where)));
}

TEST(ChatTemplate, MarksWhatCameFromTheVariables) {
  const auto parsed = ChatTemplate::Parse(
      "{{ bos_token }}{% for m in messages %}<{{ m.role | upper }}>{{ m.content.strip() }}{% "
      "endfor %}");
  const RenderedChat chat =
      parsed->Render({{"bos_token", "B"}, {"messages", {{{"role", "u"}, {"content", "  hi "}}}}});
  EXPECT_EQ(chat.text, "B<U>hi");
  EXPECT_THAT(chat.user_ranges, ElementsAre(ByteRange{2, 3}, ByteRange{4, 6}));
}

TEST(ChatTemplate, IsTheFoldersOwnFileBeforeAnyOther) {
  const auto rendered = [](const json& metadata, TokenizerSource source) {
    return ChatTemplate::FromMetadata(metadata, source)->Render(ordered_json::object()).text;
  };
  json metadata = {{"tokenizer_config.json", {{"chat_template", "config"}}}};
  EXPECT_EQ(rendered(metadata, TokenizerSource::kTokenizerJson), "config");
  metadata["tokenizer.chat_template"] = "gguf";  // Of a file made from a folder.
  EXPECT_EQ(rendered(metadata, TokenizerSource::kTokenizerJson), "gguf");
  EXPECT_EQ(rendered(metadata, TokenizerSource::kGgufMetadata), "gguf");
  metadata["chat_template.jinja"] = "file";
  EXPECT_EQ(rendered(metadata, TokenizerSource::kTokenizerJson), "file");
  EXPECT_EQ(ChatTemplate::FromMetadata(metadata, TokenizerSource::kNone), nullptr);
}

TEST(EncodeChat, KeepsSpecialTextInsideMessagesPlain) {
  const auto tokenizer = Tiny();
  const auto parsed =
      ChatTemplate::Parse("{% for m in messages %}{{ '<s>' + m.content + '<x>' }}{% endfor %}");
  const auto encode = [&](const std::string& content) {
    return EncodeChat(*parsed, *tokenizer, {{"messages", {{{"content", content}}}}});
  };
  EXPECT_THAT(encode("ab"), ElementsAre(0, 2, 5, 1));
  EXPECT_THAT(encode("<s>"), ElementsAre(0, 6, 8, 7, 1));
  // Text of the message and of the template together make no special token either.
  EXPECT_THAT(encode("<"), ElementsAre(0, 6, 1));
}

TEST(EncodeChat, ADeveloperIsTheSystemWhereTheTemplateKnowsNoSuchRole) {
  const auto tokenizer = Tiny();
  const auto encode = [&](const std::string& source) {
    return EncodeChat(*ChatTemplate::Parse(source), *tokenizer,
                      {{"messages", {{{"role", "developer"}, {"content", "ab"}}}}});
  };
  const std::string rest = "m.content }}{% endif %}{% endfor %}";
  EXPECT_EQ(encode("{% for m in messages %}{% if m.role == 'system' %}{{ " + rest),
            tokenizer->Encode("ab", SpecialTokens::kPlainText));
  EXPECT_EQ(encode("{% for m in messages %}{% if m.role == \"developer\" %}{{ " + rest),
            tokenizer->Encode("ab", SpecialTokens::kPlainText));
}

TEST(EncodeChat, GivesTheReferenceIdsOfSmolLm2Chats) {
  const char* path = std::getenv("SHOAL_SMOLLM2");
  if (FixturesFolder().empty()) GTEST_SKIP() << "SHOAL_FIXTURES is not set";
  if (path == nullptr || !std::filesystem::exists(path)) {
    GTEST_SKIP() << "SHOAL_SMOLLM2 does not name the SmolLM2 GGUF";
  }
  const auto model = model::Model::Open(path);
  const auto tokenizer = Tokenizer::Make(*model);
  const auto parsed = ChatTemplate::Make(*model);
  const ordered_json chats = ReadJson(FixturesFolder() + "/smollm2/chats.json")["chats"];
  ASSERT_FALSE(chats.empty());
  for (const auto& chat : chats) {
    EXPECT_EQ(EncodeChat(*parsed, *tokenizer, {{"messages", chat["messages"]}}),
              chat["ids"].get<std::vector<int32_t>>())
        << chat["prompt"];
  }
}

}  // namespace
}  // namespace shoal::text
