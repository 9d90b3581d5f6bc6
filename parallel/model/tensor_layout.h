#pragma once

// Checks that every container's tensors share: shapes that multiply without overflow, data inside
// the file, and no two tensors on the same bytes.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "parallel/model/model.h"

namespace shoal::model {

// A tensor without data. Errors: kInvalidArgument if a dimension is 0, the size overflows, or
// `cols` is no multiple of the format's block.
Tensor MakeTensor(std::string_view name, DType dtype, uint64_t rows, uint64_t cols,
                  const std::string& where);

// Points the tensor at data[offset...]. Errors: kInvalidArgument if it does not fit.
void PlaceTensor(Tensor& tensor, std::span<const std::byte> data, uint64_t offset,
                 const std::string& where);

// For placed tensors of one file. Errors: kInvalidArgument, naming two that overlap.
void CheckNoOverlap(std::span<const Tensor> tensors, const std::string& where);

}  // namespace shoal::model
