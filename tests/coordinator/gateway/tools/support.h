#pragma once

// A gateway whose model writes calls and marks what it thinks.

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "tests/coordinator/gateway/fakes.h"

namespace shoal::gateway {

constexpr int32_t kToolCalls = 258;  // "[TOOL_CALLS]", a special token.

class MarkerTokenizer : public ByteTokenizer {
 public:
  bool IsSpecial(int32_t id) const override {
    return id == kToolCalls || ByteTokenizer::IsSpecial(id);
  }
  std::string TokenBytes(int32_t id, bool skip_special) const override {
    if (id != kToolCalls) return ByteTokenizer::TokenBytes(id, skip_special);
    return skip_special ? "" : "[TOOL_CALLS]";
  }
  int32_t vocab_size() const override { return kToolCalls + 1; }
};

class ToolsFixture : public GatewayFixture {
 public:
  explicit ToolsFixture(text::ToolFormat format = text::ToolFormat::kHermes,
                        std::string reasoning_begin = "", std::string reasoning_end = "") {
    text.tokenizer = &markers;
    text.tool_format = format;
    text.reasoning_begin = std::move(reasoning_begin);
    text.reasoning_end = std::move(reasoning_end);
    // What the template was told, as the prompt.
    text.encode_chat = [this](const nlohmann::ordered_json& variables) {
      told = variables;
      return markers.Encode(prompt, text::SpecialTokens::kPlainText);
    };
    generation.served.context_tokens = 1'000'000;
    HttpGatewayOptions options;
    options.random = [next = uint64_t{1}]() mutable { return next++; };
    options.unix_seconds = [] { return int64_t{1000}; };
    gateway = std::make_unique<HttpGateway>(std::move(options), generation, text, timer, port);
  }

  // A chat with these fields beside one message, answered with `answer` byte by byte, and its end.
  Reply Ask(nlohmann::json fields, const std::string& answer,
            FinishReason finish = FinishReason::kStop) {
    if (!fields.contains("messages")) {
      fields["messages"] = {{{"role", "user"}, {"content", "hi"}}};
    }
    auto client = Connect();
    client->Request("POST", "/v1/chat/completions", fields.dump());
    if (generation.sequences.empty()) return client->TakeReply();
    const size_t last = generation.sequences.size() - 1;
    for (const char c : answer) generation.Deliver(last, std::string_view(&c, 1));
    generation.Finish(last, finish);
    return client->TakeReply();
  }

  MarkerTokenizer markers;
  nlohmann::ordered_json told;
  std::string prompt = "p";
};

inline nlohmann::json Tool(const std::string& name) {
  return {
      {"type", "function"},
      {"function",
       {{"name", name},
        {"parameters", {{"type", "object"}, {"properties", {{"city", {{"type", "string"}}}}}}}}}};
}

inline nlohmann::json Named(const std::string& name) {
  return {{"type", "function"}, {"function", {{"name", name}}}};
}

}  // namespace shoal::gateway
