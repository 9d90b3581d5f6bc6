// Attention in AVX2, FMA and F16C.

#include "kernels/cpu/attention/attention.h"
#include "kernels/cpu/attention/attention_lanes.h"
#include "kernels/cpu/lanes/lanes_avx2.h"

namespace shoal::cpu {

constinit const AttentionKernels kAttentionAvx2 = AttentionKernelsOf<Avx2Lanes>();

}  // namespace shoal::cpu
