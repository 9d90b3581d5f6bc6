// shoal bench serve: what a server's clients see under load.

#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "coordinator/cli/bench/bench.h"
#include "coordinator/cli/bench/load/arrivals.h"
#include "coordinator/cli/bench/load/latency.h"
#include "coordinator/cli/bench/load/load.h"
#include "coordinator/cli/bench/load/progress.h"
#include "coordinator/cli/support/http_client.h"
#include "transport/base/error.h"
#include "transport/config/options.h"
#include "transport/rpc/secret.h"

namespace shoal::cli {
namespace {

struct ServeOptions {
  std::string url;
  std::string api_key_file;
  double rate = 0;
  std::string trace;
  int64_t concurrency = 0;
  int64_t requests = 64;
  int64_t prompt_tokens = 128;
  int64_t output_tokens = 64;
  int64_t seed = 1;
  bool json = false;
  LoadOptions load;
  Objective objective;
};

config::OptionTable MakeServeTable(ServeOptions& options) {
  config::OptionTable table(
      {.program = "shoal bench serve",
       .usage = "URL (--rate R | --trace FILE | --concurrency N) [options]",
       .summary = "Sends streamed completions of token ids to a server and reports the latencies "
                  "and the throughput that its clients see. With --rate or --trace requests come "
                  "when they come, however busy the server is (open loop); with --concurrency each "
                  "of N clients sends its next request when the last one is answered.",
       .epilog = std::string(kServeFormulas) +
                 "\nExit status:\n"
                 "  0  every request was answered\n"
                 "  1  some were not\n"
                 "  2  wrong usage, a bad trace\n"
                 "  3  nobody listens at URL\n"
                 "\n"
                 "Example:\n"
                 "  shoal bench serve http://127.0.0.1:8000 --rate 4 --slo-first-token-ms 500\n"});
  table.AddPositional("url", options.url, "The server, http://HOST:PORT.");
  table.AddDouble("rate", "R", options.rate, {0, 1e6},
                  "Requests per second on average, as a Poisson process.");
  table.AddString("trace", "FILE", options.trace,
                  "Arrivals to repeat: lines 'SECONDS PROMPT_TOKENS OUTPUT_TOKENS'.");
  table.AddInt("concurrency", "N", options.concurrency, {0, 1 << 14}, "Clients of a closed loop.");
  table.AddInt("requests", "N", options.requests, {1, 1 << 24},
               "How many requests to send, unless --trace lists them.");
  table.AddInt("prompt-tokens", "N", options.prompt_tokens, {1, 1 << 20},
               "Tokens of each request's prompt.");
  table.AddInt("output-tokens", "N", options.output_tokens, {1, 1 << 20}, "Tokens of each answer.");
  table.AddInt("shared-prefix-tokens", "N", options.load.shared_prefix_tokens, {0, 1 << 20},
               "Tokens that all prompts begin with alike.");
  table.AddInt("seed", "N", options.seed, {0, INT64_MAX}, "Seed of the arrivals of --rate.");
  table.AddInt("connections-max", "N", options.load.connections_max, {1, 1 << 14},
               "Requests under way at once in an open loop; further ones wait, and their latencies "
               "count it.");
  table.AddDouble("slo-first-token-ms", "T", options.objective.first_token_ms, {0, 1e9},
                  "The time to first token that goodput asks for. 0: any.");
  table.AddDouble("slo-per-token-ms", "T", options.objective.per_token_ms, {0, 1e9},
                  "The time per output token that goodput asks for. 0: any.");
  table.AddString("model-name", "NAME", options.load.model,
                  "What the requests ask for. Empty: what the server has.");
  table.AddString("api-key-file", "FILE", options.api_key_file,
                  "A file with an API key, one line, if the server asks for one.");
  table.AddInt("silence-timeout-ms", "N", options.load.silence_ms, {1, INT32_MAX},
               "A request that gets no byte for so long has failed.");
  table.AddBool("json", options.json, "Print one JSON object instead of a table.");
  return table;
}

std::vector<PlannedRequest> PlanRequests(const ServeOptions& options) {
  const PlannedRequest shape = {.prompt_tokens = options.prompt_tokens,
                                .output_tokens = options.output_tokens};
  if (!options.trace.empty()) return ReadTrace(options.trace);
  if (options.concurrency > 0) return std::vector<PlannedRequest>(options.requests, shape);
  return PoissonArrivals(options.requests, options.rate, shape,
                         static_cast<uint64_t>(options.seed));
}

}  // namespace

int BenchServe(int argc, const char* const* argv) {
  ServeOptions options;
  config::OptionTable table = MakeServeTable(options);
  if (table.Parse(argc, argv) == config::ParseOutcome::kPrinted) return 0;
  const int modes = (options.rate > 0) + !options.trace.empty() + (options.concurrency > 0);
  if (modes != 1) {
    Throw(ErrorCode::kInvalidArgument, "expected one of --rate, --trace and --concurrency, found ",
          modes);
  }
  const HttpAddress address = ParseHttpUrl(options.url);
  options.load.host = address.host;
  options.load.port = address.port;
  options.load.closed_loop = options.concurrency > 0;
  if (options.load.closed_loop) options.load.connections_max = options.concurrency;
  if (!options.api_key_file.empty()) {
    options.load.api_key = rpc::ReadSecretFile(options.api_key_file);
  }
  const std::vector<PlannedRequest> requests = PlanRequests(options);
  std::vector<RequestRecord> records;
  {
    Progress progress;
    records = RunLoad(options.load, requests, [&](const LoadProgress& now) {
      progress.Show(Str(now.finished, " of ", requests.size(), " requests answered, ", now.running,
                        " under way"));
    });
  }
  const auto summary = Summarize(records, options.objective, options.concurrency);
  std::cout << (options.json ? summary.dump() + "\n" : ToText(summary)) << std::flush;
  return summary["succeeded"] == summary["requests"] ? 0 : 1;
}

}  // namespace shoal::cli
