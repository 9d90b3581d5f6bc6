// Linear layers over Q4_1 weights with the VNNI dot product.

#include "kernels/cpu/linear/kernels_of.h"
#include "kernels/cpu/linear/linear.h"
#include "kernels/cpu/linear/quant/quant_kernel_avx512.h"

namespace shoal::cpu {

constinit const LinearKernels kLinearQ4_1Avx512 = KernelsOf<QuantFormat, DType::kQ4_1>();

}  // namespace shoal::cpu
