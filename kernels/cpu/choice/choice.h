#pragma once

// Choosing a token in the variants that replace the scalar functions, which are kernels/math's own
// (math::kScalarChoice).

#include "kernels/math/choice.h"

namespace shoal::cpu {

extern const math::ChoiceKernels kChoiceAvx2;
extern const math::ChoiceKernels kChoiceAvx512;

}  // namespace shoal::cpu
