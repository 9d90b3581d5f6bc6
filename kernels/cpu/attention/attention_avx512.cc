// Attention in AVX-512 F, BW, DQ and VL.

#include "kernels/cpu/attention/attention.h"
#include "kernels/cpu/attention/attention_lanes.h"
#include "kernels/cpu/lanes/lanes_avx512.h"

namespace shoal::cpu {

constinit const AttentionKernels kAttentionAvx512 = AttentionKernelsOf<Avx512Lanes>();

}  // namespace shoal::cpu
