#pragma once

// A ladder file (configs/ladder.yaml shows one).

#include <string>
#include <vector>

#include "coordinator/core/ladder/ladder_policy.h"
#include "coordinator/gateway/ladder/answer_cache.h"
#include "coordinator/gateway/ladder/knowledge_base.h"
#include "transport/config/yaml_map.h"

namespace shoal::gateway {

// What a rung is made of, by its kind.
struct RungSource {
  std::string path{};         // Of a model: its file or folder, read for its text side.
  std::string numerics_id{};  // Of a model: the version to ask. Empty: any other than the refused.
  AnswerCacheOptions cache{};
  std::string rules_file{};
  std::string folder{};
  KnowledgeOptions knowledge{};
};

struct LadderSetup {
  core::LadderPolicy policy{};
  std::vector<RungSource> sources{};  // By rung.
};

// Errors of both: kInvalidArgument, naming file, line and key.
LadderSetup ReadLadderFile(const std::string& path);
// Paths in it are relative to `folder`.
LadderSetup ReadLadder(config::YamlMap file, const std::string& folder);

}  // namespace shoal::gateway
