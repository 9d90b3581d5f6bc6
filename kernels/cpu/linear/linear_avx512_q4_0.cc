// Linear layers over Q4_0 weights with the VNNI dot product.

#include "kernels/cpu/linear/kernels_of.h"
#include "kernels/cpu/linear/linear.h"
#include "kernels/cpu/linear/quant/quant_kernel_avx512.h"

namespace shoal::cpu {

constinit const LinearKernels kLinearQ4_0Avx512 = KernelsOf<QuantFormat, DType::kQ4_0>();

}  // namespace shoal::cpu
