#include "coordinator/gateway/ladder/ladder_file.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "transport/base/check.h"

namespace shoal::gateway {
namespace {

using core::RungKind;

constexpr size_t kRungsMax = 32;
constexpr int64_t kBytesMax = int64_t{1} << 40;
constexpr int64_t kDurationMsMax = 30LL * 24 * 3'600'000;
// Those that say something about load or loss, and not about the request or its tenant.
constexpr BusyReason kReasons[] = {BusyReason::kNoGroup,     BusyReason::kQueueFull,
                                   BusyReason::kBreakerOpen, BusyReason::kKvFull,
                                   BusyReason::kGroupLost,   BusyReason::kDeadlineUnreachable};

std::string PathIn(const std::string& folder, const std::string& path) {
  return (std::filesystem::path(folder) / path).string();
}

std::string NeedText(config::YamlMap& map, std::string_view key, std::string_view what) {
  std::string text = map.Text(key, "");
  if (text.empty()) map.Fail(key, Str("expected ", what));
  return text;
}

RungSource ReadSource(config::YamlMap& map, core::Rung& rung, const std::string& folder) {
  RungSource source;
  switch (rung.kind) {
    case RungKind::kModel:
      source.path = PathIn(folder, NeedText(map, "path", "the model's file or folder"));
      source.numerics_id = map.Text("numerics_id", "");
      break;
    case RungKind::kCache:
      source.cache.bytes_max = map.Int("bytes_max", source.cache.bytes_max, {4'096, kBytesMax});
      source.cache.tenant_bytes_max =
          map.Int("tenant_bytes_max", source.cache.bytes_max / 4, {1'024, kBytesMax});
      source.cache.ttl_ms = map.DurationMs("ttl", source.cache.ttl_ms, {1, kDurationMsMax});
      break;
    case RungKind::kRules:
      source.rules_file = PathIn(folder, NeedText(map, "file", "a file of rules"));
      break;
    case RungKind::kKnowledge: {
      KnowledgeOptions& knowledge = source.knowledge;
      source.folder = PathIn(folder, NeedText(map, "folder", "a folder of texts"));
      knowledge.score_min = map.Double("score_min", knowledge.score_min, {0, 1e6});
      knowledge.coverage_min = map.Double("coverage_min", knowledge.coverage_min, {0, 1});
      knowledge.bytes_max = map.Int("bytes_max", knowledge.bytes_max, {1, int64_t{4} << 30});
      knowledge.files_max =
          static_cast<int32_t>(map.Int("files_max", knowledge.files_max, {1, 1'000'000}));
      break;
    }
  }
  return source;
}

void ReadRung(config::YamlMap& map, const std::string& folder, LadderSetup& setup) {
  core::Rung rung;
  const int kind = map.Choice("kind", {"model", "cache", "rules", "knowledge"});
  if (kind < 0) map.Fail("kind", "expected model, cache, rules or knowledge");
  rung.kind = static_cast<RungKind>(kind);
  rung.name = map.Text("name", rung.kind == RungKind::kModel
                                   ? std::filesystem::path(map.Text("path", "")).stem().string()
                                   : std::string(core::ToString(rung.kind)));
  if (rung.name.empty()) map.Fail("name", "expected what clients are told as model_used");
  for (const core::Rung& other : setup.policy.rungs) {
    if (other.name == rung.name) {
      map.Fail("name", Str("another rung is called ", rung.name, ": give each its own name"));
    }
    if (rung.kind == RungKind::kCache && other.kind == rung.kind) {
      map.Fail("kind", "expected at most one rung of kind cache");
    }
  }
  for (const char* key : {"quality", "cost"}) {
    if (!map.Has(key)) map.Fail(key, "expected a number: the model itself has 1");
  }
  rung.quality = map.Double("quality", 0, {0, 1});
  rung.cost = map.Double("cost", 0, {0, 1e6});
  setup.sources.push_back(ReadSource(map, rung, folder));
  setup.policy.rungs.push_back(std::move(rung));
  map.Finish();
}

void ReadReasons(config::YamlMap& file, core::LadderPolicy& policy) {
  if (!file.Has("reasons")) return;
  policy.reasons.clear();
  for (const std::string& name : file.Texts("reasons")) {
    const auto* const reason =
        std::ranges::find_if(kReasons, [&](BusyReason known) { return ToString(known) == name; });
    if (reason == std::end(kReasons)) {
      std::string known;
      for (const BusyReason one : kReasons) known += Str(known.empty() ? "" : ", ", ToString(one));
      file.Fail("reasons", Str("expected some of ", known, ", found '", name, "'"));
    }
    policy.reasons.push_back(*reason);
  }
}

}  // namespace

LadderSetup ReadLadderFile(const std::string& path) {
  return ReadLadder(config::YamlMap::ReadFile(path),
                    std::filesystem::path(path).parent_path().string());
}

LadderSetup ReadLadder(config::YamlMap file, const std::string& folder) {
  LadderSetup setup;
  core::LadderPolicy& policy = setup.policy;
  config::YamlMap floors = file.Map("quality_floor");
  for (int i = 0; i < kServiceClasses; ++i) {
    double& floor = policy.quality_floors.at(static_cast<size_t>(i));
    floor = floors.Double(ToString(static_cast<ServiceClass>(i)), floor, {0, 1});
  }
  floors.Finish();
  ReadReasons(file, policy);
  config::YamlMap down = file.Map("step_down");
  policy.refusals = static_cast<int32_t>(down.Int("refusals", policy.refusals, {1, 1'000'000}));
  policy.within_ms = down.DurationMs("within", policy.within_ms, {1, kDurationMsMax});
  down.Finish();
  policy.hold_ms = file.DurationMs("hold", policy.hold_ms, {1, kDurationMsMax});
  std::vector<config::YamlMap> rungs = file.Maps("rungs");
  if (rungs.empty() || rungs.size() > kRungsMax) {
    file.Fail("rungs", Str("expected a list of 1 to ", kRungsMax, " rungs, found ", rungs.size()));
  }
  for (config::YamlMap& map : rungs) ReadRung(map, folder, setup);
  file.Finish();
  return setup;
}

}  // namespace shoal::gateway
