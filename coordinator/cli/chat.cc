// shoal chat: a conversation in the terminal, with a server that runs or one that it starts.

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <iostream>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>

#include "coordinator/cli/support/http_client.h"
#include "coordinator/cli/support/programs.h"
#include "coordinator/cli/verbs.h"
#include "coordinator/launch/child_process.h"
#include "transport/base/error.h"
#include "transport/config/options.h"
#include "transport/rpc/secret.h"

namespace shoal::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kLookMs = 50;
constexpr int64_t kStopMs = 5'000;
constexpr int64_t kResumeMs = 30'000;

struct ChatOptions {
  std::string model;
  std::string url;
  std::string api_key_file;
  int32_t tensor_parallel = 1;
  int32_t pipeline_parallel = 1;
  int32_t threads = 0;
  std::string system;
  double temperature = 0.7;
  int64_t tokens_max = 0;
  int64_t seed = 0;
};

config::OptionTable MakeChatTable(ChatOptions& options) {
  config::OptionTable table(
      {.program = "shoal chat",
       .usage = "MODEL [options] | --url URL [options]",
       .summary = "Talks with a model: reads a line, prints the answer as it comes, until the end "
                  "of input (^D). With MODEL it starts a server of its own, as `shoal run` would, "
                  "and ends it; with --url it uses one that runs, and when its connection is lost "
                  "in an answer it goes on with that answer over another one. Answers go to "
                  "stdout, everything else to stderr.",
       .epilog = "Exit status:\n"
                 "  0  end of input\n"
                 "  1  the server failed\n"
                 "  2  wrong usage, bad model\n"
                 "  3  nobody listens at --url\n"});
  table.AddPositional("model", options.model, "A GGUF file or a safetensors folder.").required =
      false;
  table.AddString("url", "URL", options.url, "A server that runs, http://HOST:PORT.");
  table.AddString("api-key-file", "FILE", options.api_key_file,
                  "A file with an API key, one line, if the server at --url asks for one.");
  table.AddInt("tensor-parallel", "N", options.tensor_parallel, {1, 4096},
               "With MODEL: ranks that share each layer.");
  table.AddInt("pipeline-parallel", "N", options.pipeline_parallel, {1, 4096},
               "With MODEL: stages, each with some of the layers.");
  table.AddInt("threads", "T", options.threads, {0, 4096},
               "With MODEL: threads of each rank. 0: cores / ranks, at least 1.");
  table.AddString("system", "TEXT", options.system, "The system message. Empty: none.");
  table.AddDouble("temperature", "T", options.temperature, {0.0, 2.0},
                  "0: always the likeliest token.");
  table.AddInt("max-tokens", "N", options.tokens_max, {0, INT32_MAX},
               "Longest answer. 0: the room that is left.");
  table.AddInt("seed", "N", options.seed, {INT64_MIN, INT64_MAX},
               "The same seed gives the same answers. Not given: another one each time.");
  return table;
}

// `shoal run` as a child, on free ports.
class OwnServer {
 public:
  explicit OwnServer(const ChatOptions& options)
      : child_({.command = {ProgramPath("shoal"), "run", options.model, "--port", "0",
                            "--tensor-parallel", std::to_string(options.tensor_parallel),
                            "--pipeline-parallel", std::to_string(options.pipeline_parallel),
                            "--threads", std::to_string(options.threads)},
                .on_stdout = [this](std::string_view line) { OnLine(line); }}) {}

  // Result: the URL; nothing if it ended first, with *status.
  std::optional<std::string> WaitUntilReady(int* status) {
    while (true) {
      const auto end = child_.WaitFor(kLookMs);
      const std::lock_guard lock(mutex_);
      if (!url_.empty()) return url_;
      if (!end) continue;
      *status = end->signal == 0 ? end->status : 1;
      return std::nullopt;
    }
  }
  void Stop() { child_.Stop(kStopMs); }

 private:
  void OnLine(std::string_view line) {
    constexpr std::string_view kReady = "ready ";
    const std::lock_guard lock(mutex_);
    if (line.starts_with(kReady)) url_ = line.substr(kReady.size());
  }

  std::mutex mutex_;  // Guards url_.
  std::string url_;
  launch::ChildProcess child_;
};

class Conversation {
 public:
  // `resume_ms`: how long an answer waits for a server that is gone.
  Conversation(const ChatOptions& options, bool seeded, HttpClient client, std::string model,
               int64_t resume_ms)
      : options_(options),
        seeded_(seeded),
        client_(std::move(client)),
        model_(std::move(model)),
        resume_ms_(resume_ms) {
    if (!options.system.empty()) Add("system", options.system);
  }

  // Prints the answer as it comes. Errors: kPeerFailed if the server refuses or breaks off.
  void Ask(const std::string& question) {
    Add("user", question);
    Json request = {{"model", model_}, {"messages", messages_}, {"stream", true}};
    request["temperature"] = options_.temperature;
    if (options_.tokens_max > 0) request["max_tokens"] = options_.tokens_max;
    if (seeded_) request["seed"] = options_.seed;
    std::string text;
    const HttpAnswer answer = client_.PostForEvents(
        "/v1/chat/completions", request.dump(-1, ' ', false, Json::error_handler_t::replace),
        [&](std::string_view data) { return Take(data, text); },
        {.timeout_ms = resume_ms_, .on_lost = [](const std::string& why) {
           std::cerr << "shoal chat: the connection is lost (" << why << "); reconnecting"
                     << std::endl;
         }});
    if (answer.status != 200) FailWith(Json::parse(answer.body, nullptr, false));
    std::cout << std::endl;
    Add("assistant", text);
  }

 private:
  void Add(const std::string& role, const std::string& content) {
    messages_.push_back({{"role", role}, {"content", content}});
  }

  [[noreturn]] static void FailWith(const Json& answer) {
    std::string why = "the server's answer is no JSON";
    if (answer.is_object() && answer.contains("error")) {
      why = answer["error"].value("message", "the server did not say why");
    }
    Throw(ErrorCode::kPeerFailed, why);
  }

  // Result: false after the last event.
  static bool Take(std::string_view data, std::string& text) {
    if (data == "[DONE]") return false;
    const Json event = Json::parse(data, nullptr, false);
    if (!event.is_object()) FailWith(event);
    if (event.contains("error")) {
      // Its server stops, and may be about to be started anew.
      const bool stops = event["error"].value("code", Json()) == "draining";
      if (stops) Throw(ErrorCode::kPeerLost, "the server is stopping");
      FailWith(event);
    }
    for (const Json& choice : event.value("choices", Json::array())) {
      const Json delta = choice.value("delta", Json::object());
      if (!delta.contains("content") || !delta["content"].is_string()) continue;
      const auto piece = delta["content"].get<std::string>();
      std::cout << piece << std::flush;
      text += piece;
    }
    return true;
  }

  const ChatOptions& options_;
  const bool seeded_;
  HttpClient client_;
  std::string model_;
  const int64_t resume_ms_;
  Json messages_ = Json::array();
};

std::string FirstModel(const HttpClient& client) {
  const HttpAnswer answer = client.Get("/v1/models");
  const Json models = Json::parse(answer.body, nullptr, false);
  if (answer.status != 200 || !models.is_object() || models.value("data", Json::array()).empty()) {
    Throw(ErrorCode::kPeerFailed, "/v1/models answered with status ", answer.status,
          answer.status == 401 ? ": give --api-key-file" : "");
  }
  return models["data"][0].value("id", "");
}

void Talk(const ChatOptions& options, bool seeded, const std::string& url, int64_t resume_ms) {
  const std::string key =
      options.api_key_file.empty() ? "" : rpc::ReadSecretFile(options.api_key_file);
  const HttpClient client(url, key);
  Conversation conversation(options, seeded, client, FirstModel(client), resume_ms);
  const bool prompts = isatty(STDIN_FILENO) == 1;
  while (true) {
    if (prompts) std::cerr << "> " << std::flush;
    std::string question;
    if (!std::getline(std::cin, question)) break;
    if (!question.empty()) conversation.Ask(question);
  }
}

}  // namespace

int ChatVerb(int argc, const char* const* argv) {
  ChatOptions options;
  config::OptionTable table = MakeChatTable(options);
  if (table.Parse(argc, argv) == config::ParseOutcome::kPrinted) return 0;
  if (options.model.empty() == options.url.empty()) {
    Throw(ErrorCode::kInvalidArgument, "expected either MODEL or --url: see shoal chat --help");
  }
  const bool seeded = table.IsGiven("seed");
  if (!options.url.empty()) {
    Talk(options, seeded, options.url, kResumeMs);
    return 0;
  }
  OwnServer server(options);
  int status = 0;
  const std::optional<std::string> url = server.WaitUntilReady(&status);
  if (!url) return status == 0 ? 1 : status;
  Talk(options, seeded, *url, /*resume_ms=*/0);  // It ends with its connections.
  server.Stop();
  return 0;
}

}  // namespace shoal::cli
