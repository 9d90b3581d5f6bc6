// The request reader: what is a request, where it ends, and what is refused.

#include <gtest/gtest.h>

#include "coordinator/gateway/http/http_request_reader.h"

namespace shoal::gateway {
namespace {

using State = HttpRequestReader::State;

constexpr std::string_view kHost = "Host: a\r\n";

std::string Get(std::string_view headers) {
  return "GET / HTTP/1.1\r\n" + std::string(kHost) + std::string(headers) + "\r\n";
}

// The status of the refusal, or 0 if the text is a whole request or the start of one.
int Refusal(std::string_view text) {
  HttpRequestReader reader{HttpLimits{}};
  reader.Append(text);
  return reader.Advance() == State::kFailed ? reader.failure().status : 0;
}

TEST(HttpRequestReader, ReadsTheSameRequestsHoweverTheBytesAreSplit) {
  const std::string text =
      "\r\nPOST /v1/x%20y?a=b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nX-A: 1\r\n\r\nhello"
      "POST /c HTTP/1.1\r\nhost: h\r\nTransfer-Encoding: Chunked\r\n\r\n"
      "3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: t\r\n\r\n"
      "GET http://h/abs?q HTTP/1.0\r\n\r\n";
  for (size_t step = 1; step <= text.size(); ++step) {
    HttpRequestReader reader{HttpLimits{}};
    std::vector<HttpRequest> requests;
    for (size_t at = 0; at < text.size(); at += step) {
      reader.Append(std::string_view(text).substr(at, step));
      while (reader.Advance() == State::kComplete) requests.push_back(reader.Take());
      ASSERT_NE(reader.Advance(), State::kFailed) << reader.failure().message;
    }
    ASSERT_EQ(requests.size(), 3U) << "step " << step;
    EXPECT_EQ(requests[0].path, "/v1/x y");
    EXPECT_EQ(requests[0].query, "a=b");
    EXPECT_EQ(requests[0].body, "hello");
    EXPECT_EQ(*requests[0].Find("x-a"), "1");
    EXPECT_EQ(requests[1].body, "abcde");
    EXPECT_EQ(requests[1].Find("trailer"), nullptr);
    EXPECT_TRUE(requests[1].keep_alive);
    EXPECT_EQ(requests[2].path, "/abs");
    EXPECT_TRUE(requests[2].http_1_0);
    EXPECT_FALSE(requests[2].keep_alive);
    EXPECT_EQ(reader.Advance(), State::kIdle);
  }
}

TEST(HttpRequestReader, RefusesWhatTwoPartiesCouldReadDifferently) {
  const std::vector<std::string> headers = {
      "Content-Length: 1\r\nContent-Length: 1\r\n",
      "Content-Length: 1, 1\r\n",
      "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
      "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
      "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
      "Transfer-Encoding: xchunked\r\n",
      "Transfer-Encoding: gzip, chunked\r\n",
      "Transfer-Encoding : chunked\r\n",
      "Content-Length: -5\r\n",
      "Content-Length: +5\r\n",
      "Content-Length: 0x5\r\n",
      "Content-Length: \r\n",
      "Content-Length: 99999999999999999999999\r\n",
      "A: b\r\n folded\r\n",
      " A: b\r\n",
      "A: b\nB: c\r\n",
      "A: b\rc\r\n",
      "A\r\n",
      ": b\r\n",
      "Host: b\r\n",
      "A: \x01\r\n",
  };
  for (const std::string& header : headers) EXPECT_EQ(Refusal(Get(header)), 400) << header;
  EXPECT_EQ(Refusal(Get(std::string("A: \0b\r\n", 7))), 400);
  EXPECT_EQ(Refusal("GET / HTTP/1.1\r\n\r\n"), 400) << "no Host";
  EXPECT_EQ(Refusal("GET / HTTP/1.1\nHost: a\n\n"), 400);
  EXPECT_EQ(Refusal("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
  EXPECT_EQ(Refusal("GET x HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
  EXPECT_EQ(Refusal("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
  EXPECT_EQ(Refusal("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
  EXPECT_EQ(Refusal("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505);
  EXPECT_EQ(Refusal(Get("Expect: something\r\n")), 417);
}

TEST(HttpRequestReader, RefusesMalformedChunks) {
  const std::string head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(Refusal(head + "3\r\nabc\r\n0\r\n\r\n"), 0);
  for (const std::string body : {"g\r\nabc\r\n", "-1\r\nabc\r\n", "3\r\nabcd\r\n0\r\n\r\n",
                                 "10000000000000005\r\nabcde\r\n", "0x3\r\nabc\r\n\r\n"}) {
    EXPECT_NE(Refusal(head + body), 0) << body;
  }
  EXPECT_EQ(Refusal(head + "ffffffffffffffff\r\n"), 413);
}

TEST(HttpRequestReader, HoldsEveryLimit) {
  HttpLimits limits;
  EXPECT_EQ(Refusal("GET /" + std::string(limits.request_line_bytes_max, 'a')), 414);
  EXPECT_EQ(Refusal(Get("A: " + std::string(limits.header_bytes_max, 'a') + "\r\n")), 431);
  EXPECT_EQ(Refusal("GET / HTTP/1.1\r\nA: " + std::string(limits.header_bytes_max, 'a')), 431);
  EXPECT_EQ(Refusal(Get("A: " + std::string(limits.header_bytes_max - 100, 'a') + "\r\n")), 0);
  EXPECT_EQ(Refusal(Get("Content-Length: 4194305\r\n")), 413);
  EXPECT_EQ(Refusal(Get("Content-Length: 4194304\r\n")), 0);
  const std::string chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(Refusal(chunked + "400001\r\n"), 413);
  EXPECT_EQ(Refusal(chunked + "1;" + std::string(limits.header_bytes_max, 'x')), 400);
}

TEST(HttpRequestReader, AsksForTheBodyOnlyOfThoseWhoWait) {
  HttpRequestReader reader{HttpLimits{}};
  reader.Append("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(reader.Advance(), State::kBody);
  EXPECT_TRUE(reader.TakeContinue());
  EXPECT_FALSE(reader.TakeContinue());
  reader.Append("ab");
  EXPECT_EQ(reader.Advance(), State::kComplete);
  EXPECT_EQ(reader.Take().body, "ab");
}

}  // namespace
}  // namespace shoal::gateway
