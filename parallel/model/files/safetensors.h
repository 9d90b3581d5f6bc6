#pragma once

// The safetensors container (format: the safetensors README): bytes to tensors.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "parallel/model/model.h"

namespace shoal::model {

constexpr uint64_t kSafetensorsHeaderBytesMax = uint64_t{8} << 20;

// Tensors in the order of their data, which points into `bytes`.
// Errors: kInvalidArgument for anything that is not a whole, consistent file of F32, F16 and BF16
// vectors and matrices: a header longer than `header_bytes_max` or than the file, bad JSON, a name
// that stands twice, an unknown dtype, a shape that disagrees with its data, data that overlaps,
// leaves holes or ends elsewhere than the file, a tensor that is not aligned to its numbers.
std::vector<Tensor> ParseSafetensors(std::span<const std::byte> bytes, const std::string& where,
                                     uint64_t header_bytes_max = kSafetensorsHeaderBytesMax);

}  // namespace shoal::model
