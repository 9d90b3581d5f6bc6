#include "coordinator/core/groups/model.h"

namespace shoal::core {

std::ostream& operator<<(std::ostream& out, const ModelKey& key) {
  return out << key.name << " (numerics id " << key.numerics_id << ")";
}

ModelKey KeyOf(const RankRegistration& rank) { return {rank.model_name, rank.numerics_id}; }

}  // namespace shoal::core
