#include "parallel/model/layer_spec.h"

#include <algorithm>

#include "parallel/model/families/llama.h"
#include "parallel/model/files/refuse.h"

// The families that are served, and what follows from a table alone.

namespace shoal::model {
namespace {

constexpr const Family* kFamilies[] = {&kLlama};

}  // namespace

int64_t LayerSpec::sum_count() const {
  return std::count_if(tensors.begin(), tensors.end(), [](const TensorSpec& tensor) {
    return tensor.cut == TensorCut::kRowParallel;
  });
}

int64_t LeafCols(const TensorSpec& tensor, const LeafGeometry& leaves) {
  if (tensor.cut != TensorCut::kRowParallel) return 0;
  return tensor.unit_size *
         (tensor.unit == CutUnit::kMlpColumns ? leaves.mlp_leaf_width : leaves.heads_per_leaf);
}

const Family* FindFamily(std::string_view name) {
  for (const Family* family : kFamilies) {
    if (family->name == name) return family;
  }
  return nullptr;
}

std::string FamilyNames() {
  std::string names;
  for (const Family* family : kFamilies) {
    names += Str(names.empty() ? "" : ", ", Quoted(family->name));
  }
  return names;
}

}  // namespace shoal::model
