// What a client reads, cut anywhere and damaged anyhow: responses, events, JSON.

#include "transport/client/http_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "transport/client/http_types.h"

namespace shoal::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Body and status of a response that comes in two pieces.
std::pair<std::string, bool> Read(std::string_view response, size_t cut) {
  HttpReader reader;
  std::string body;
  const auto take = [&](std::string_view bytes) {
    body += bytes;
    return true;
  };
  bool more = reader.Add(response.substr(0, cut), take);
  if (more) more = reader.Add(response.substr(cut), take);
  return {std::to_string(reader.head().status) + " " + body, !more};
}

TEST(HttpReader, ReadsResponsesThatAreCutAnywhere) {
  for (const std::string_view response :
       {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:5 \r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\nX: "
        "y\r\n\r\n",
        "HTTP/1.0 200 OK\nContent-Length: 5\n\nhello"}) {
    for (size_t cut = 0; cut <= response.size(); ++cut) {
      EXPECT_EQ(Read(response, cut), std::pair(std::string("200 hello"), true)) << cut << response;
    }
  }
  EXPECT_EQ(Read("HTTP/1.1 204 No Content\r\n\r\n", 9), std::pair(std::string("204 "), true));
  EXPECT_EQ(Read("HTTP/1.1 200 OK\r\n\r\nhel", 20), std::pair(std::string("200 hel"), false))
      << "until the connection closes";
}

TEST(HttpReader, RefusesWhatIsNoHttp) {
  for (const std::string_view response :
       {"SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 abc\r\n", "HTTP/2 200\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"}) {
    EXPECT_THROW(Read(response, 0), HttpFormatError) << response;
  }
  EXPECT_THROW(Read(std::string(1 << 20, 'x'), 0), HttpFormatError);
  std::string endless = "HTTP/1.1 200 OK\r\n";
  while (endless.size() < 1 << 20) endless += "X: y\r\n";
  EXPECT_THROW(Read(endless, 0), HttpFormatError);
}

TEST(EventReader, ReadsEventsThatAreCutAnywhere) {
  constexpr std::string_view kStream =
      ": hello\r\n\r\nid: 1\ndata: a\n\ndata:b\r\ndata: c\r\nretry: 5\r\n\r\nid: 3\n\ndata: lost";
  for (size_t cut = 0; cut <= kStream.size(); ++cut) {
    EventReader reader;
    std::vector<std::string> events;
    const auto take = [&](const HttpEvent& event) {
      events.push_back(event.id + "=" + event.data);
      return true;
    };
    EXPECT_TRUE(reader.Add(kStream.substr(0, cut), take));
    EXPECT_TRUE(reader.Add(kStream.substr(cut), take));
    EXPECT_THAT(events, ElementsAre("1=a", "=b\nc")) << cut;
  }
}

TEST(JsonScan, FindsValuesByTheirPath) {
  constexpr std::string_view kJson =
      R"( {"a": [1, {"b": "x\"}\n\u00e9\ud83d\ude00"}, [] ], "c\"": {"c": {}}, )"
      R"("d": -12, "e": true} )";
  EXPECT_EQ(FindJson(kJson, {"a", "0"}), "1");
  EXPECT_EQ(ReadJsonString(FindJson(kJson, {"a", "1", "b"})), "x\"}\n\u00e9\U0001F600");
  EXPECT_EQ(FindJson(kJson, {"a", "2"}), "[]");
  EXPECT_EQ(ReadJsonInt(FindJson(kJson, {"d"})), -12);
  EXPECT_EQ(FindJson(kJson, {"e"}), "true");
  EXPECT_EQ(FindJson(kJson, {"c"}), std::nullopt);
  EXPECT_EQ(FindJson(kJson, {"a", "3"}), std::nullopt);
  EXPECT_EQ(FindJson(kJson, {"d", "0"}), std::nullopt);
  EXPECT_EQ(ReadJsonInt(FindJson(kJson, {"e"})), std::nullopt);
  EXPECT_EQ(ReadJsonString(FindJson(kJson, {"d"})), std::nullopt);
}

TEST(JsonScan, GivesNothingOfWhatIsNoJsonAndNeverRunsOver) {
  constexpr std::string_view kJson = R"({"a": [1, {"b": "x\u00e9"}], "d": {"e": 5}})";
  for (size_t size = 0; size < kJson.size() - 2; ++size) {
    const std::string cut(kJson.substr(0, size));
    EXPECT_EQ(FindJson(cut, {"d", "e"}), size < 41 ? std::nullopt : FindJson(kJson, {"d", "e"}))
        << cut;
  }
  for (const std::string_view bad :
       {"", "{", "[", "{\"d\"", "{\"d\":", "{\"d\" 1}", "{d:1}", "]", "\"", "\"\\", "{\"d\":}"}) {
    EXPECT_EQ(FindJson(bad, {"d"}), std::nullopt) << bad;
  }
  EXPECT_EQ(FindJson(std::string(1'000'000, '['), {}), std::nullopt);
  EXPECT_EQ(ReadJsonString(R"("\ud83d\u0041")"), std::nullopt);
  EXPECT_EQ(ReadJsonString(R"("\uzzzz")"), std::nullopt);
  EXPECT_EQ(ReadJsonString(R"("\ud83d")"), "\uFFFD");
}

TEST(JsonScan, WritesWhatItReads) {
  std::string text;
  for (int c = 0; c < 0x80; ++c) text += static_cast<char>(c);
  text += "\u00e9\U0001F600";
  EXPECT_EQ(ReadJsonString(QuoteJson(text)), text);
  EXPECT_EQ(QuoteJson("a\"\\\n"), R"("a\"\\\u000a")");
  const std::string body = CompletionBody("a\"", 5, true, R"(,"temperature":0)");
  EXPECT_EQ(body, R"({"prompt":"a\"","max_tokens":5,"stream":true,"temperature":0})");
  EXPECT_EQ(ReadJsonString(FindJson(ChatBody("b\n", 5, false), {"messages", "0", "content"})),
            "b\n");
}

TEST(HttpTypes, ReadTheTextAndTheDisclosureOfEveryShape) {
  EXPECT_EQ(TextOf(R"({"choices":[{"index":0,"text":"a"}]})"), "a");
  EXPECT_EQ(TextOf(R"({"choices":[{"index":0,"delta":{"content":"b"}}]})"), "b");
  EXPECT_EQ(TextOf(R"({"choices":[{"message":{"role":"assistant","content":"c"}}]})"), "c");
  EXPECT_EQ(TextOf(R"({"choices":[{"index":1,"text":"other"}]})"), "");
  EXPECT_EQ(TextOf(R"({"choices":[],"usage":{}})"), "");
  Disclosure disclosure;
  ReadDisclosure(R"({"x_shoal":{"degraded":true,"model_used":"tiny","rung":2,"resumes":1}})",
                 disclosure);
  EXPECT_EQ(disclosure, (Disclosure{true, "tiny", 2, 1}));
  ReadDisclosure(R"({"choices":[]})", disclosure);
  EXPECT_TRUE(disclosure.degraded) << "an event that says nothing of it";
}

TEST(HttpTypes, ReadWhyAndWhenToComeBack) {
  const HttpError error =
      MakeHttpError(503,
                    R"({"error":{"message":"full","code":"kv_full","retry_after_ms":1500,)"
                    R"("predicted_wait_ms":7}})",
                    "2");
  EXPECT_EQ(error.failure.status, 503);
  EXPECT_EQ(error.failure.code, "kv_full");
  EXPECT_EQ(error.failure.retry_after_ms, 1'500);
  EXPECT_EQ(error.failure.predicted_wait_ms, 7);
  EXPECT_THAT(error.what(), HasSubstr("HTTP 503 (kv_full): full"));
  EXPECT_EQ(MakeHttpError(429, "nonsense", "3").failure.retry_after_ms, 3'000);
  EXPECT_EQ(MakeHttpError(503, "", "Wed, 21 Oct 2026 07:28:00 GMT").failure.retry_after_ms, -1);
  EXPECT_EQ(MakeHttpError(503, "", "0").failure.retry_after_ms, -1) << "at once is no prohibition";
  EXPECT_EQ(MakeHttpError(503, "", "9999999999999").failure.retry_after_ms, kWaitMsMax);
}

}  // namespace
}  // namespace shoal::client
