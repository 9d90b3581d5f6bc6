// The row operations in AVX2, FMA and F16C.

#include "kernels/cpu/lanes_avx2.h"
#include "kernels/cpu/rows_lanes.h"
#include "kernels/cpu/variants.h"

namespace shoal::cpu {

void RmsNormAvx2(const float* x, const float* weight, float epsilon, int64_t cols, float* y) {
  RmsNorm<Avx2Lanes>(x, weight, epsilon, cols, y);
}

void RopeAdjacentAvx2(float* head, const float* cos, const float* sin, int64_t head_dim) {
  RopeAdjacent<Avx2Lanes>(head, cos, sin, head_dim);
}

void RopeHalfSplitAvx2(float* head, const float* cos, const float* sin, int64_t head_dim) {
  RopeHalfSplit<Avx2Lanes>(head, cos, sin, head_dim);
}

void SiluMulAvx2(const float* gate, const float* up, int64_t cols, float* y) {
  SiluMul<Avx2Lanes>(gate, up, cols, y);
}

void AddFixedAvx2(const int64_t* sum, int64_t cols, float* residual) {
  AddFixed<Avx2Lanes>(sum, cols, residual);
}

int64_t AddDotsAvx2(const int64_t* dots, const PackedMatrix& weights, float scale,
                    float* residual) {
  return AddDots<Avx2Lanes>(dots, weights, scale, residual);
}

int64_t StoreKvAvx2(KvDType dtype, const float* key, const float* value, int64_t head_dim,
                    int64_t slot, std::byte* block) {
  return StoreKv<Avx2Lanes>(dtype, key, value, head_dim, slot, block);
}

}  // namespace shoal::cpu
