#include "coordinator/shell/coordinator.h"

#include <glog/logging.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

#include "coordinator/gateway/api/http_gateway.h"
#include "coordinator/gateway/http/http_server.h"
#include "coordinator/gateway/keys/key_ring.h"
#include "coordinator/gateway/ladder/degrader.h"
#include "coordinator/gateway/resume/cursor_key.h"
#include "coordinator/gateway/text/model_text.h"
#include "coordinator/shell/breaker_rules_file.h"
#include "coordinator/shell/reload/policy_file.h"
#include "coordinator/shell/rpc_gateway.h"
#include "coordinator/shell/tenants_file.h"
#include "parallel/model/files/manifest.h"
#include "transport/base/check.h"
#include "transport/base/error.h"
#include "transport/base/host/descriptors.h"
#include "transport/base/host/system_random.h"
#include "transport/base/utf8.h"
#include "transport/rpc/secret.h"

namespace shoal::gateway {

namespace {

bool IsHash(const std::string& text) {
  return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// Errors: kInvalidArgument, naming the first entry that is wrong.
std::map<std::string, std::string> ParseCanaryDigests(const std::string& list) {
  std::map<std::string, std::string> digests;
  std::istringstream entries(list);
  for (std::string entry; std::getline(entries, entry, ',');) {
    const size_t equals = std::min(entry.find('='), entry.size());
    const std::string id = entry.substr(0, equals);
    const std::string digest = entry.substr(std::min(equals + 1, entry.size()));
    if (!IsHash(id) || !IsHash(digest)) {
      Throw(ErrorCode::kInvalidArgument, "--canary-digests has ", entry,
            ": expected a numerics id, =, and a digest, of 32 hex digits each, as `shoal status` "
            "shows them");
    }
    if (!digests.emplace(id, digest).second) {
      Throw(ErrorCode::kInvalidArgument, "--canary-digests names ", id,
            " twice: leave one of them");
    }
  }
  return digests;
}

// Errors: kInvalidArgument for a name that is none of them.
core::Protections ParseProtections(const std::string& list) {
  if (list == "all") return {};
  core::Protections some{false, false, false, false};
  if (list == "none") return some;
  std::istringstream names(list);
  for (std::string name; std::getline(names, name, ',');) {
    bool* const field = name == "edge_limit"    ? &some.edge_limit
                        : name == "admission"   ? &some.admission
                        : name == "routing"     ? &some.routing
                        : name == "degradation" ? &some.degradation
                                                : nullptr;
    if (field == nullptr) {
      Throw(ErrorCode::kInvalidArgument, "--protections has '", name,
            "': expected all, none, or some of edge_limit, admission, routing, degradation");
    }
    *field = true;
  }
  return some;
}

// The model's manifest, if there is one, for what no flag speaks of. Errors: kInvalidArgument for
// a damaged one.
void AddManifest(const std::string& path, std::map<std::string, std::string>& digests) {
  const std::optional<model::Manifest> manifest = model::ReadManifest(path);
  if (!manifest) return;
  LOG(INFO) << path << " tells what canaries of " << manifest->canaries.size()
            << " numerics ids come to";
  for (const model::ManifestCanary& canary : manifest->canaries) {
    const auto [entry, is_new] = digests.emplace(canary.numerics_id, canary.digest);
    if (is_new || entry->second == canary.digest) continue;
    LOG(WARNING) << "--canary-digests has " << entry->second << " for the numerics id "
                 << canary.numerics_id << ", " << path << " has " << canary.digest
                 << ": the flag counts";
  }
}

int64_t MillisecondsSince1970() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

std::string HostName() {
  char name[256] = {};
  if (gethostname(name, sizeof(name) - 1) != 0) {
    Throw(ErrorCode::kFailed, "gethostname: ", std::strerror(errno));
  }
  return name;
}

core::RegionOptions MakeRegionOptions(const CoordinatorOptions& options, const std::string& model) {
  core::RegionOptions region = options.region;
  if (!IsWellFormedUtf8(region.served_model_name)) {
    Throw(ErrorCode::kInvalidArgument, "--served-model-name is ",
          ReplaceIllFormed(region.served_model_name), ": expected UTF-8, as clients send it");
  }
  region.model_name = model;
  region.canary_digests = ParseCanaryDigests(options.canary_digests);
  AddManifest(model::ManifestPath(options.model), region.canary_digests);
  region.managed_groups = options.launch.managed_groups();
  // Nobody can go on with a stream here: it fails with its group.
  if (!options.launch.relaunch && region.managed_groups == 1) region.resume_timeout_ms = 0;
  const int64_t now_ms = MillisecondsSince1970();
  region.boot = core::BootPart(now_ms);
  region.unix_ms_at_zero = now_ms - SteadyClock().now() / kMillisecondNs;
  region.protections = ParseProtections(options.protections);
  if (!options.tenants_file.empty()) region.tenants = ReadTenantsFile(options.tenants_file);
  if (!options.breaker_rules.empty()) region.guard = ReadBreakerRules(options.breaker_rules);
  return region;
}

// An address of the RPC port for groups that are started from here. With an address of one network
// interface it is that; otherwise this machine's own, or its name for `elsewhere`.
std::string GroupAddress(const CoordinatorOptions& options, uint16_t rpc_port, bool elsewhere) {
  const std::string& bind = options.rpc_bind.empty() ? options.bind : options.rpc_bind;
  std::string host = bind;
  if (bind == "*" || bind == "0.0.0.0" || bind == "::" || bind == "[::]") {
    host = elsewhere ? HostName() : "127.0.0.1";
  }
  return Str(UrlHost(host), ":", rpc_port);
}

launch::GroupPlace MakeGroupPlace(const CoordinatorOptions& options, uint16_t rpc_port) {
  const bool elsewhere = options.launch.executor == launch::ExecutorKind::kCommand;
  return {.coordinator = GroupAddress(options, rpc_port, elsewhere),
          .token_file = options.group_token_file};
}

// Descriptors that no connection may take: the loop's own, model and key files, child processes,
// refusals under way, connections that are about to close.
constexpr int64_t kDescriptorsReserved = 160;
constexpr int64_t kConnectionsMax = 4'096;  // Of either port.

// How many connections either port may hold, so that neither starves the other or the reserve.
struct ConnectionBounds {
  size_t http = 0;
  size_t rpc = 0;
};

// Errors: kInvalidArgument if the limit of open files leaves no room for connections.
ConnectionBounds ShareDescriptors(int64_t limit) {
  const int64_t left = limit - kDescriptorsReserved;
  if (left < 32) {
    Throw(ErrorCode::kInvalidArgument, "this process may open ", limit, " files, at least ",
          kDescriptorsReserved + 32, " are needed: raise the limit (ulimit -n)");
  }
  const int64_t rpc = std::min(kConnectionsMax, left / 4);
  const int64_t http = std::min(kConnectionsMax, left - rpc);
  if (http < kConnectionsMax) {
    LOG(WARNING) << "this process may open " << limit << " files: " << http << " HTTP and " << rpc
                 << " RPC connections are taken at once; `ulimit -n` raises it";
  }
  return {static_cast<size_t>(http), static_cast<size_t>(rpc)};
}

HttpGatewayOptions MakeHttpOptions(const CoordinatorOptions& options, const KeyRing& keys,
                                   const ConnectionBounds& bounds, const std::string& cursor_key,
                                   Degrader* ladder) {
  HttpGatewayOptions http;
  http.cursor_key = cursor_key;
  http.ladder = ladder;
  http.bind = options.bind;
  http.port = static_cast<uint16_t>(options.port);
  http.find_caller = [&keys](std::string_view key) { return keys.Find(key); };
  http.limits.connections_max = bounds.http;
  http.strict_params = options.strict_params;
  http.version_json = Str(R"({"name":"shoal","version":")", config::kVersion, R"("})");
  return http;
}

std::string ReadGroupToken(const CoordinatorOptions& options) {
  return options.group_token_file.empty() ? "" : rpc::ReadSecretFile(options.group_token_file);
}

rpc::ClusterServerOptions MakeRpcOptions(const CoordinatorOptions& options, const KeyRing& keys,
                                         const ConnectionBounds& bounds) {
  rpc::ClusterServerOptions server;
  server.bind = options.rpc_bind.empty() ? options.bind : options.rpc_bind;
  server.port = static_cast<uint16_t>(options.rpc_port);
  server.find_caller = [&keys](std::string_view key) { return keys.Find(key); };
  server.connections_max = bounds.rpc;
  server.group_token = ReadGroupToken(options);
  server.heartbeat_ms = options.region.heartbeat_ms;
  return server;
}

// Null: there is none, or it is turned off. Errors: kInvalidArgument.
std::unique_ptr<Degrader> MakeLadder(const CoordinatorOptions& options,
                                     core::GenerationService& region, const TextService& own,
                                     kj::Timer& timer) {
  if (options.ladder.empty()) return nullptr;
  const LadderSetup setup = ReadLadderFile(options.ladder);
  if (!ParseProtections(options.protections).degradation) return nullptr;
  return std::make_unique<Degrader>(std::make_shared<const LadderRungs>(setup, own), region, timer);
}

bool IsLoopback(const std::string& address) {
  return address == "localhost" || address == "::1" || address == "[::1]" ||
         address.starts_with("127.");
}

std::vector<std::string> ReadApiKeys(const CoordinatorOptions& options) {
  if (options.api_keys_file.empty()) return {};
  return rpc::ReadKeysFile(options.api_keys_file);
}

}  // namespace

void AddServingOptions(config::OptionTable& table, CoordinatorOptions& options) {
  table.AddInt("port", "PORT", options.port, {0, 65535}, "HTTP port. 0: any free one.");
  table.AddString("served-model-name", "NAME", options.region.served_model_name,
                  "What clients call the model. Empty: the file's or folder's name without .gguf.");
  table.AddString(
      "api-keys-file", "FILE", options.api_keys_file,
      "API keys, one a line; clients must show one. Empty: none is asked for. A key lets nobody "
      "drain groups, or see others' requests: that takes the --group-token-file.");
  table.AddString(
      "group-token-file", "FILE", options.group_token_file,
      "One line that workers must show, and `shoal drain`. Shown as an API key it lets an operator "
      "see everybody's requests. Empty: workers need none; where API keys are asked for nobody "
      "can drain groups then, elsewhere whoever may use --rpc-port.");
  table.AddBool("strict-params", options.strict_params,
                "Refuse requests with fields that nobody here knows, instead of naming them in "
                "the answer. GET /v1/parameters names all that there are.");
  table.AddString("chat-template", "FILE", options.chat_template,
                  "A Jinja template for chats, in place of the model's own. Empty: the model's.");
  table.AddString("tool-format", "NAME", options.tool_format,
                  Str("How the model writes calls of tools: ", text::ToolFormatNames(),
                      ". Empty: as its chat template has it."));
  table.AddString("reasoning-markers", "BEGIN,END", options.reasoning_markers,
                  "What the model writes before and after what it thinks, which then is no part of "
                  "its answer's text: <think>,</think>. Empty: as its chat template has it; none: "
                  "nothing is told apart.");
}

void AddCoordinatorOptions(config::OptionTable& table, CoordinatorOptions& options) {
  table
      .AddString("model", "PATH", options.model,
                 "The model that the workers serve, a .gguf file or a safetensors folder. The "
                 "coordinator reads its tokenizer and chat template.")
      .required = true;
  table.AddBool("other-models", options.region.other_models,
                "Let groups of other models than --model join, and serve them to requests that "
                "name them: with prompts of token ids, because only --model's tokenizer is read.");
  table.AddString("canary-digests", "ID=DIGEST,...", options.canary_digests,
                  "For some numerics ids, the digest that the canary of each of their groups must "
                  "have; `shoal status` shows it. Of others, what the model's manifest says "
                  "(`shoal verify MODEL --write`), or that of the first group that was ready. A "
                  "group that answers other bits is taken out.");
  table.AddString("bind", "ADDRESS", options.bind,
                  "Address that both ports listen on. Anything but a loopback address lets the "
                  "network in: set key and token files first.");
  AddServingOptions(table, options);
  table.AddInt("rpc-port", "PORT", options.rpc_port, {0, 65535},
               "Port for workers and upstream programs. 0: any free one.");
  table.AddInt("context-tokens-max", "N", options.region.context_tokens_max, {0, INT64_MAX},
               "Longest prompt plus answer. 0: what the workers offer.");
  table.AddInt(
      "queue-requests-max", "N", options.region.queue_requests_max, {0, 1 << 20},
      "Requests that wait here while all groups of their model are full; one more gets 503.");
  AddOverloadOptions(table, options);
  AddContinuityOptions(table, options);
  table.AddInt("join-timeout-ms", "N", options.region.join_timeout_ms, {100, INT32_MAX},
               "From a group's first rank to the end of its canary; then the group is given up. "
               "For those of --executor local: from their start.");
}

void AddContinuityOptions(config::OptionTable& table, CoordinatorOptions& options) {
  core::RegionOptions& region = options.region;
  table.AddInt("heartbeat-ms", "N", region.heartbeat_ms, {10, 60'000},
               "How often each rank shows that it lives.");
  table.AddInt(
      "heartbeats-missed-max", "N", region.heartbeats_missed_max, {2, 10'000},
      "A rank silent for so many heartbeats is lost. A rank that dies is noticed at once by "
      "its connection; this is for one that is stopped or cut off. 13 (1.3 s) rather than 4, "
      "because where ranks outnumber cores a live rank's heartbeat can be half a second "
      "late, and what a group taken out by mistake has computed is computed again.");
  table.AddInt("progress-timeout-ms", "N", region.progress_timeout_ms, {100, INT32_MAX},
               "A rank that has work and gets nowhere for so long hangs, and is lost. Above the "
               "longest step, which is a full prefill chunk.");
  table.AddInt("canary-interval-ms", "N", region.canary_interval_ms, {0, INT32_MAX},
               "How often a canary goes through each group that is ready; one that answers other "
               "bits is taken out. 0: only before it is ready.");
  table.AddInt("resume-timeout-ms", "N", region.resume_timeout_ms, {0, INT32_MAX},
               "How long a stream that lost its group waits for another one, or for that one to "
               "be started anew; then it fails. 0: it fails at once.");
  table.AddInt("orphan-grace-ms", "N", region.orphan_grace_ms, {0, INT32_MAX},
               "How long a resumable stream is kept when its client has gone, also once it has "
               "ended; and how long groups keep theirs when this coordinator has.");
  table.AddInt("drain-timeout-ms", "N", region.drain_timeout_ms, {0, INT32_MAX},
               "How long a group that was told to end may go on with the streams that no other "
               "group can take.");
  table.AddString("state-dir", "DIR", options.state_dir,
                  "A folder for what a restarted coordinator needs of this one: the key of "
                  "cursors. Empty: its clients cannot resume across a restart.");
}

void AddOverloadOptions(config::OptionTable& table, CoordinatorOptions& options) {
  table.AddString("tenants-file", "FILE", options.tenants_file,
                  "Tenants with their keys, classes, weights and quotas, as YAML "
                  "(configs/tenants.yaml shows one). SIGHUP reads it again. Empty: everybody is "
                  "the same tenant, without a quota.");
  table.AddString(
      "breaker-rules", "FILE", options.breaker_rules,
      "Breakers, and when a group is left out of routing, as YAML "
      "(configs/breaker_rules.yaml). SIGHUP reads it again. Empty: no breaker; groups that fail "
      "are left out.");
  table.AddString("ladder", "FILE", options.ladder,
                  "What answers instead when the model cannot, in order, as YAML "
                  "(configs/ladder.yaml). SIGHUP reads it again, with all that it names. Empty: "
                  "nothing does.");
  using Policy = core::RoutingPolicy;
  table.AddChoice("routing-policy", options.region.routing_policy,
                  {{"prefix_aware", Policy::kPrefixAware},
                   {"p2c_least_tokens", Policy::kP2cLeastTokens},
                   {"least_conn", Policy::kLeastConn},
                   {"wlc_seed", Policy::kWlcSeed},
                   {"minres_seed", Policy::kMinresSeed}},
                  "By what the group for a request is chosen: the prefix it may have cached "
                  "against its load, the fewer tokens of two drawn at random, the fewest requests, "
                  "or one of two formulas over processor, memory and latency.");
  table.AddBool("coalesce", options.region.coalesce,
                "Compute requests once that are in flight together and must have the same answer: "
                "of one tenant, with temperature 0 or the same given seed, not resumable.");
  table.AddString("protections", "LIST", options.protections,
                  "For experiments: `all`, `none`, or a comma list of edge_limit, admission, "
                  "routing and degradation: what of it is on.");
}

struct Coordinator::Parts {
  Parts(kj::AsyncIoContext& io, const CoordinatorOptions& options, ManagedRegionEvents events)
      : bounds(ShareDescriptors(RaiseDescriptorLimit())),
        text(std::make_shared<const ModelText>(
            options.model, TextSettings{.chat_template = options.chat_template,
                                        .tool_format = options.tool_format,
                                        .reasoning_markers = options.reasoning_markers})),
        region_options(MakeRegionOptions(options, text->name())),
        keys(ReadApiKeys(options), region_options.tenants, ReadGroupToken(options)),
        region(region_options, clock, io.provider->getTimer(), std::move(events)),
        cursor_key(options.state_dir.empty() ? RandomCursorKey()
                                             : LoadCursorKey(options.state_dir)),
        ladder(MakeLadder(options, region, text->Service(), io.provider->getTimer())),
        upstream(region, text->Service(), SystemRandom(), io.unixEventPort, cursor_key, nullptr,
                 ladder.get()),
        http(MakeHttpOptions(options, keys, bounds, cursor_key, ladder.get()), region,
             text->Service(), io.provider->getTimer(), io.unixEventPort) {
    // Ranks that wait for a coordinator may be here, and ready, with the next turn of the event
    // loop. Listening takes turns, so their port comes last: whoever hears of a ready group then
    // knows both ports.
    http.Listen(io.provider->getNetwork(), io.waitScope);
    server.emplace(io, MakeRpcOptions(options, keys, bounds), region.region(), upstream);
    region.region().Connect(*server);
    region.Start(options.launch, MakeGroupPlace(options, server->port()));
    AddPolicyFiles(options, io.provider->getTimer());
  }

  void AddPolicyFiles(const CoordinatorOptions& options, kj::Timer& timer);

  // Each uses those above it.
  const ConnectionBounds bounds;
  const std::shared_ptr<const ModelText> text;
  const core::RegionOptions region_options;
  KeyRing keys;
  const SteadyClock clock;
  ManagedRegion region;
  const std::string cursor_key;
  const std::unique_ptr<Degrader> ladder;
  RpcGateway upstream;
  std::optional<rpc::ClusterServer> server;
  HttpGateway http;
  std::vector<std::unique_ptr<PolicyFile>> policy_files;
};

void Coordinator::Parts::AddPolicyFiles(const CoordinatorOptions& options, kj::Timer& timer) {
  const auto add = [&](const std::string& path, PolicyFile::Read read) {
    if (path.empty()) return;
    policy_files.push_back(std::make_unique<PolicyFile>(
        path, std::move(read), timer,
        [this](core::Record record) { region.NoteRecord(std::move(record)); }));
  };
  // What is captured but for `this`, which only the loop uses, is all that the readers need.
  add(options.tenants_file, [this, path = options.tenants_file, prepare = keys.preparation()] {
    const auto policy = ReadTenantsFile(path);
    return [this, policy, index = prepare(policy)] {
      keys.Configure(index);
      region.SetTenants(policy);
      return Str(policy->tenants.size(), " tenants");
    };
  });
  add(options.breaker_rules, [this, path = options.breaker_rules] {
    return [this, rules = ReadBreakerRules(path)] {
      region.SetGuardRules(rules);
      return Str(rules.breakers.size(), " breakers");
    };
  });
  if (ladder == nullptr) return;
  add(options.ladder, [this, path = options.ladder, own = text] {
    const LadderSetup setup = ReadLadderFile(path);
    return [this, rungs = std::make_shared<const LadderRungs>(setup, own->Service())] {
      ladder->SetRungs(rungs);
      return Str(rungs->policy().rungs.size(), " rungs");
    };
  });
}

Coordinator::Coordinator(kj::AsyncIoContext& io, const CoordinatorOptions& options,
                         ManagedRegionEvents events)
    : parts_(std::make_unique<Parts>(io, options, std::move(events))) {
  const std::string& rpc_bind = options.rpc_bind.empty() ? options.bind : options.rpc_bind;
  LOG(INFO) << "serving " << parts_->text->name() << ": HTTP on " << options.bind << ":" << port()
            << ", workers and upstream programs on " << rpc_bind << ":" << rpc_port();
  if (!IsLoopback(options.bind) && !parts_->keys.asks()) {
    LOG(WARNING) << "whoever reaches " << options.bind << ":" << port()
                 << " can use it: set api_keys_file to ask for a key";
  }
}

Coordinator::~Coordinator() = default;

uint16_t Coordinator::port() const { return parts_->http.port(); }

uint16_t Coordinator::rpc_port() const { return parts_->server->port(); }

std::string Coordinator::url() const { return parts_->http.url(); }

void Coordinator::ReadPoliciesAgain() {
  for (const auto& file : parts_->policy_files) file->ReadAgain();
}

kj::Promise<void> Coordinator::Stop(int64_t grace_ms) {
  return kj::joinPromises(kj::arr(parts_->region.Stop(grace_ms), parts_->http.Stop(grace_ms)));
}

}  // namespace shoal::gateway
