// The row operations in AVX-512 F, BW, DQ and VL.

#include "kernels/cpu/lanes_avx512.h"
#include "kernels/cpu/rows_lanes.h"
#include "kernels/cpu/variants.h"

namespace shoal::cpu {

void RmsNormAvx512(const float* x, const float* weight, float epsilon, int64_t cols, float* y) {
  RmsNorm<Avx512Lanes>(x, weight, epsilon, cols, y);
}

void RopeAdjacentAvx512(float* head, const float* cos, const float* sin, int64_t head_dim) {
  RopeAdjacent<Avx512Lanes>(head, cos, sin, head_dim);
}

void RopeHalfSplitAvx512(float* head, const float* cos, const float* sin, int64_t head_dim) {
  RopeHalfSplit<Avx512Lanes>(head, cos, sin, head_dim);
}

void SiluMulAvx512(const float* gate, const float* up, int64_t cols, float* y) {
  SiluMul<Avx512Lanes>(gate, up, cols, y);
}

void AddFixedAvx512(const int64_t* sum, int64_t cols, float* residual) {
  AddFixed<Avx512Lanes>(sum, cols, residual);
}

int64_t AddDotsAvx512(const int64_t* dots, const PackedMatrix& weights, float scale,
                      float* residual) {
  return AddDots<Avx512Lanes>(dots, weights, scale, residual);
}

int64_t StoreKvAvx512(KvDType dtype, const float* key, const float* value, int64_t head_dim,
                      int64_t slot, std::byte* block) {
  return StoreKv<Avx512Lanes>(dtype, key, value, head_dim, slot, block);
}

}  // namespace shoal::cpu
