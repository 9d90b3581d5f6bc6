#include <algorithm>
#include <array>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "parallel/plan/plan.h"

// A plan for programs and for people.

namespace shoal::plan {
namespace {

nlohmann::ordered_json ToJson(const Range& range) {
  return nlohmann::ordered_json::array({range.begin, range.end});
}

std::string ToText(const Range& range) {
  return range.count() == 0 ? "-"
                            : std::to_string(range.begin) + ".." + std::to_string(range.end - 1);
}

// Three digits are enough to compare shards.
std::string BytesText(int64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {" B", " kB", " MB", " GB", " TB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1000 && unit + 1 < kUnits.size(); ++unit) {
    value /= 1000;
  }
  std::ostringstream out;
  out << std::fixed << std::setprecision(unit == 0 || value >= 100 ? 0 : 1) << value
      << kUnits[unit];
  return out.str();
}

}  // namespace

nlohmann::ordered_json ToJson(std::span<const RankShard> shards) {
  nlohmann::ordered_json ranks = nlohmann::ordered_json::array();
  for (const RankShard& shard : shards) {
    nlohmann::ordered_json rank;
    rank["rank"] = shard.rank;
    rank["stage"] = shard.stage;
    rank["layers"] = ToJson(shard.layers);
    rank["heads"] = ToJson(shard.heads);
    rank["kv_heads"] = ToJson(shard.kv_heads);
    rank["mlp_leaves"] = ToJson(shard.mlp_leaves);
    rank["vocab_rows"] = ToJson(shard.vocab_rows);
    rank["weight_bytes"] = shard.weight_bytes;
    rank["kv_bytes_per_token"] = shard.kv_bytes_per_token;
    rank["bytes_per_step"] = shard.bytes_per_step;
    ranks.push_back(std::move(rank));
  }
  nlohmann::ordered_json plan;
  plan["ranks"] = std::move(ranks);
  return plan;
}

std::string ToTable(const model::Model& model, std::span<const RankShard> shards) {
  constexpr size_t kColumnCount = 10;
  using Row = std::array<std::string, kColumnCount>;
  std::vector<Row> rows = {{"rank", "stage", "layers", "heads", "kv heads", "MLP leaves",
                            "vocabulary", "weights", "KV/token", "sent/step"}};
  for (const RankShard& shard : shards) {
    rows.push_back({std::to_string(shard.rank), std::to_string(shard.stage), ToText(shard.layers),
                    ToText(shard.heads), ToText(shard.kv_heads), ToText(shard.mlp_leaves),
                    ToText(shard.vocab_rows), BytesText(shard.weight_bytes),
                    BytesText(shard.kv_bytes_per_token), BytesText(shard.bytes_per_step)});
  }
  std::array<size_t, kColumnCount> widths{};
  for (const Row& row : rows) {
    for (size_t i = 0; i < kColumnCount; ++i) {
      widths[i] = std::max(widths[i], row[i].size());
    }
  }
  const model::ModelConfig& config = model.config();
  std::ostringstream out;
  out << model.name() << ": " << config.layer_count << " layers, " << config.head_count << "/"
      << config.kv_head_count << " heads of " << config.head_dim << ", " << config.vocab_size
      << " tokens, " << BytesText(model.weight_bytes())
      << "; largest tensor parallel: " << LargestTensorParallel(model.leaves())
      << ", pipeline parallel: " << config.layer_count << "\n";
  for (const Row& row : rows) {
    for (size_t i = 0; i < kColumnCount; ++i) {
      out << (i == 0 ? "" : "  ") << std::setw(static_cast<int>(widths[i])) << row[i];
    }
    out << "\n";
  }
  return out.str();
}

}  // namespace shoal::plan
