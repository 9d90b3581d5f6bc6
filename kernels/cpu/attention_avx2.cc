// Attention in AVX2, FMA and F16C.

#include "kernels/cpu/attention_lanes.h"
#include "kernels/cpu/lanes_avx2.h"
#include "kernels/cpu/variants.h"

namespace shoal::cpu {

void AttentionAvx2(const AttentionCall& call) { Attention<Avx2Lanes>(call); }

}  // namespace shoal::cpu
