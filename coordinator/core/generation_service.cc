#include "coordinator/core/generation_service.h"

#include <algorithm>
#include <iomanip>
#include <sstream>

namespace shoal::core {

std::ostream& operator<<(std::ostream& out, const StreamId& id) {
  std::ostringstream digits;
  digits << std::hex << std::setfill('0') << std::setw(16) << id.high << std::setw(16) << id.low;
  return out << digits.str();
}

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
