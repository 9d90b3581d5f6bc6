// The row operations in AVX2, FMA and F16C.

#include "kernels/cpu/lanes/lanes_avx2.h"
#include "kernels/cpu/rows/rows.h"
#include "kernels/cpu/rows/rows_lanes.h"

namespace shoal::cpu {

constinit const RowKernels kRowsAvx2 = RowKernelsOf<Avx2Lanes>();

}  // namespace shoal::cpu
