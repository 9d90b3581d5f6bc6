#pragma once

// Local to the file that includes it (kernels/cpu/inline.h says why).

#include <cstddef>

#include "kernels/cpu/linear/linear.h"

namespace shoal::cpu {
namespace {

// The entries of kTypes: a Format<dtype> has Compute(call) for a LinearCall and a LeafLinearCall.
template <template <DType> typename Format, DType... kTypes>
consteval LinearKernels KernelsOf() {
  LinearKernels kernels = {};
  ((kernels.whole[static_cast<size_t>(kTypes)] = Format<kTypes>::Compute,
    kernels.leaves[static_cast<size_t>(kTypes)] = Format<kTypes>::Compute),
   ...);
  return kernels;
}

}  // namespace
}  // namespace shoal::cpu
