#include "coordinator/core/catalog.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include "coordinator/core/groups/versions.h"

namespace shoal::core {

namespace {

// Those whose groups are ready come first, the one that has been ready the longest before all.
uint64_t ReadyOrder(const Model& model) {
  return model.ready_since == 0 ? UINT64_MAX : model.ready_since;
}

// The name of the region's own model, as its groups register it. Empty: there is none yet.
std::string OwnName(const RegionOptions& options, const Groups& groups) {
  if (!options.model_name.empty() || groups.models().empty()) return options.model_name;
  return std::ranges::min_element(groups.models(), {},
                                  [](const auto& entry) { return ReadyOrder(entry.second); })
      ->first.name;
}

std::string ServedName(const std::string& name, const std::string& own,
                       const RegionOptions& options) {
  return name == own && !options.served_model_name.empty() ? options.served_model_name : name;
}

ServedModel Describe(const ModelMap::value_type& model, const std::string& own,
                     const RegionOptions& options, const Groups& groups, const Streams& streams) {
  const auto& [key, agreed] = model;
  ServedModel served;
  served.name = ServedName(key.name, own, options);
  served.numerics_id = key.numerics_id;
  served.context_tokens = ContextTokens(options, agreed);
  served.kv_cache_tokens = LargestKvCacheTokens(groups.all(), key);
  served.vocab_size = agreed.vocab_size;
  const int64_t held = RequestsHeld(groups.all(), key);
  served.requests_max = held == 0 ? 0 : held + options.queue_requests_max;
  served.model_name = key.name;
  served.canary_digest = agreed.canary_digest;
  served.groups_ready = static_cast<int64_t>(CountReady(groups.all(), key));
  served.requests_waiting = static_cast<int64_t>(streams.waiting(key).size());
  return served;
}

}  // namespace

std::optional<std::string> ModelName(const std::string& asked, const RegionOptions& options,
                                     const Groups& groups) {
  std::string own = OwnName(options, groups);
  if (asked.empty() || asked == ServedName(own, own, options)) return own;
  if (asked == own) return std::nullopt;  // Clients know it by its served name alone.
  return asked;
}

std::optional<ModelKey> FindKey(const Request& request, const RegionOptions& options,
                                const Groups& groups) {
  const std::optional<std::string> name = ModelName(request.model, options, groups);
  if (!name) return std::nullopt;
  if (request.numerics_id.empty()) {
    auto choice = ChooseVersion(groups.models(), *name);
    return choice ? std::optional(std::move(choice->key)) : std::nullopt;
  }
  const auto model = groups.models().find({*name, request.numerics_id});
  if (model == groups.models().end() || model->second.ready_since == 0) return std::nullopt;
  return model->first;
}

int64_t ContextTokens(const RegionOptions& options, const Model& model) {
  if (options.context_tokens_max == 0) return model.context_tokens;
  return std::min(options.context_tokens_max, model.context_tokens);
}

std::vector<ServedModel> ListModels(const RegionOptions& options, const Groups& groups,
                                    const Streams& streams) {
  const std::string own = OwnName(options, groups);
  std::vector<const ModelMap::value_type*> order;
  for (const auto& model : groups.models()) order.push_back(&model);
  std::ranges::stable_sort(order, {}, [&](const ModelMap::value_type* model) {
    const std::string& name = model->first.name;
    return std::tuple(name != own, name, ReadyOrder(model->second));
  });
  std::vector<ServedModel> models;
  if (order.empty() || order.front()->first.name != own) {
    ServedModel& expected = models.emplace_back();
    expected.name = ServedName(own, own, options);
    expected.context_tokens = options.context_tokens_max;
    expected.model_name = own;
  }
  for (const auto* model : order) {
    models.push_back(Describe(*model, own, options, groups, streams));
  }
  return models;
}

}  // namespace shoal::core
