#include <glog/logging.h>

#include "tests/coordinator/gateway/fakes.h"
#include "tests/fuzz/fuzz_target.h"
#include "transport/base/check.h"

// HTTP: from a connection's bytes through the codec, the JSON reader and the validation to a fake
// region, whose sequences answer a little and then end.

namespace shoal::test {
namespace {

std::string Post(std::string_view path, std::string_view body, std::string_view headers = "") {
  return Str("POST ", path, " HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n",
             "Content-Length: ", body.size(), "\r\n", headers, "\r\n", body);
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  constexpr std::string_view kGet = "GET /v1/models/bytes?a=b HTTP/1.1\r\nHost: h\r\n\r\n";
  return {
      Post("/v1/completions",
           R"({"prompt":"a\u00e9","stream":true,"stop":["b","xx"],"logprobs":2,"echo":true,)"
           R"("max_tokens":3,"seed":-5,"temperature":0.5,"return_token_ids":true})"),
      Post("/v1/completions", R"({"prompt":["a",[1,2,3]],"n":2,"max_tokens":0,"echo":true})") +
          std::string(kGet),
      Post("/v1/chat/completions",
           R"({"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],)"
           R"("logprobs":true,"top_logprobs":1,"stream":true,)"
           R"("stream_options":{"include_usage":true}})",
           "Expect: 100-continue\r\nX-Request-Id: abc\r\n"),
      "POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
      "Transfer-Encoding: chunked\r\n\r\n"
      "5;a=b\r\n{\"pro\r\n9\r\nmpt\":\"a\"}\r\n0\r\nT: t\r\n\r\n" +
          std::string(kGet),
      Post("/v1/chat/completions",
           R"({"messages":[{"role":"assistant","content":[{"type":"refusal","refusal":"no"}]},)"
           R"({"role":"function","odd":2}],"temprature":1.0,"top_p":0,"tools":[],"n":2.0,)"
           R"("include_stop_str_in_output":true,"skip_special_tokens":false,"stop":"b",)"
           R"("stream":true,"stream_options":{"continuous_usage_stats":true}})",
           "Content-Encoding: identity\r\n"),
      Post("/v1/completions",
           R"({"prompt":"a","stream":true,"n":2,"stream_options":{"resumable":true}})",
           "X-Shoal-Resumable: 1\r\n") +
          Post("/v1/completions", R"({"prompt":"a","stream":true})",
               "Last-Event-ID: AQACzJy62AYohmqtgEBjJAGy6b_hKBFYBQ\r\n"),
      "GET /metrics HTTP/1.0\r\nConnection: keep-alive\r\n\r\nHEAD /livez HTTP/1.1\r\nHost: h\r\n"
      "\r\n" +
          std::string(kGet),
  };
}

}  // namespace shoal::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FLAGS_minloglevel = google::GLOG_FATAL;  // Refusals are the expected outcome.
  shoal::gateway::GatewayFixture fixture;
  auto client = fixture.Connect();
  // In two parts, so that requests are also resumed in the middle.
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  client->Send(input.substr(0, size / 2));
  client->Send(input.substr(size / 2));
  auto& sequences = fixture.generation.sequences;
  for (size_t i = 0; i < sequences.size() && i < 100; ++i) {
    fixture.generation.Deliver(i, std::string_view("ab\xC3x"));
    if (i % 2 == 0)
      fixture.generation.Finish(i, shoal::FinishReason::kStop, {shoal::gateway::kEos});
    fixture.Poll();
  }
  SHOAL_CHECK(client->received().empty() || client->received().starts_with("HTTP/1.1 "));
  client->HangUp();
  SHOAL_CHECK(fixture.gateway->connection_count() == 0, "a connection outlived its client");
  for (const auto& sequence : sequences) {
    SHOAL_CHECK(sequence.listener == nullptr, "a sequence outlived its client");
  }
  return 0;
}
