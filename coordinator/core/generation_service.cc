#include "coordinator/core/generation_service.h"

#include <algorithm>

namespace shoal::core {

const ServedModel* FindModel(const std::vector<ServedModel>& models, const std::string& name) {
  if (name.empty()) return &models.front();
  const auto model = std::ranges::find(models, name, &ServedModel::name);
  return model == models.end() ? nullptr : &*model;
}

std::string JoinNames(const std::vector<ServedModel>& models) {
  std::string names;
  const std::string* last = nullptr;  // Versions of one name stand side by side.
  for (const ServedModel& model : models) {
    if (last == nullptr || *last != model.name) names += (last == nullptr ? "" : ", ") + model.name;
    last = &model.name;
  }
  return names;
}

}  // namespace shoal::core
