// Attention in AVX-512 F, BW, DQ and VL.

#include "kernels/cpu/attention_lanes.h"
#include "kernels/cpu/lanes_avx512.h"
#include "kernels/cpu/variants.h"

namespace shoal::cpu {

void AttentionAvx512(const AttentionCall& call) { Attention<Avx512Lanes>(call); }

}  // namespace shoal::cpu
