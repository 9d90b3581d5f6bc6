// Linear layers over weights of 4 bits with the VNNI dot product.

#include "kernels/cpu/linear/kernels_of.h"
#include "kernels/cpu/linear/linear.h"
#include "kernels/cpu/linear/quant_kernel_avx512.h"

namespace shoal::cpu {

constinit const LinearKernels kLinearQ4Avx512 =
    KernelsOf<QuantFormat, DType::kQ4_0, DType::kQ4_1>();

}  // namespace shoal::cpu
