// The row operations in AVX-512 F, BW, DQ and VL.

#include "kernels/cpu/lanes/lanes_avx512.h"
#include "kernels/cpu/rows/rows.h"
#include "kernels/cpu/rows/rows_lanes.h"

namespace shoal::cpu {

constinit const RowKernels kRowsAvx512 = RowKernelsOf<Avx512Lanes>();

}  // namespace shoal::cpu
