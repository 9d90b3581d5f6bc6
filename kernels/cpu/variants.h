#pragma once

// The row operations and attention of every instruction set, for table.cc to fill its rows with.
// Contracts: KernelTable and AttentionCall in table.h. Only call a variant on a machine that has
// its instructions. The linear layers are in linear_variants.h.

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/table.h"

namespace shoal::cpu {

// Scalar row: plain x86-64, fmaf for every fma.
void RmsNormScalar(const float* x, const float* weight, float epsilon, int64_t cols, float* y);
void RopeAdjacentScalar(float* head, const float* cos, const float* sin, int64_t head_dim);
void RopeHalfSplitScalar(float* head, const float* cos, const float* sin, int64_t head_dim);
void SiluMulScalar(const float* gate, const float* up, int64_t cols, float* y);
void AddFixedScalar(const int64_t* sum, int64_t cols, float* residual);
int64_t AddDotsScalar(const int64_t* dots, const PackedMatrix& weights, float scale,
                      float* residual);
int64_t StoreKvScalar(KvDType dtype, const float* key, const float* value, int64_t head_dim,
                      int64_t slot, std::byte* block);
void AttentionScalar(const AttentionCall& call);

// AVX2, FMA, F16C.
void RmsNormAvx2(const float* x, const float* weight, float epsilon, int64_t cols, float* y);
void RopeAdjacentAvx2(float* head, const float* cos, const float* sin, int64_t head_dim);
void RopeHalfSplitAvx2(float* head, const float* cos, const float* sin, int64_t head_dim);
void SiluMulAvx2(const float* gate, const float* up, int64_t cols, float* y);
void AddFixedAvx2(const int64_t* sum, int64_t cols, float* residual);
int64_t AddDotsAvx2(const int64_t* dots, const PackedMatrix& weights, float scale, float* residual);
int64_t StoreKvAvx2(KvDType dtype, const float* key, const float* value, int64_t head_dim,
                    int64_t slot, std::byte* block);
void AttentionAvx2(const AttentionCall& call);
math::LargestLogit FindLargestLogitAvx2(const float* logits, int64_t count);
math::WeightSums SumWeightsAvx2(const math::WeightsCall& call);
int64_t ListNoisyTokensAvx2(const math::NoiseCall& call, int32_t* indices);

// AVX-512 F, BW, DQ, VL.
void RmsNormAvx512(const float* x, const float* weight, float epsilon, int64_t cols, float* y);
void RopeAdjacentAvx512(float* head, const float* cos, const float* sin, int64_t head_dim);
void RopeHalfSplitAvx512(float* head, const float* cos, const float* sin, int64_t head_dim);
void SiluMulAvx512(const float* gate, const float* up, int64_t cols, float* y);
void AddFixedAvx512(const int64_t* sum, int64_t cols, float* residual);
int64_t AddDotsAvx512(const int64_t* dots, const PackedMatrix& weights, float scale,
                      float* residual);
int64_t StoreKvAvx512(KvDType dtype, const float* key, const float* value, int64_t head_dim,
                      int64_t slot, std::byte* block);
void AttentionAvx512(const AttentionCall& call);
math::LargestLogit FindLargestLogitAvx512(const float* logits, int64_t count);
math::WeightSums SumWeightsAvx512(const math::WeightsCall& call);
int64_t ListNoisyTokensAvx512(const math::NoiseCall& call, int32_t* indices);

}  // namespace shoal::cpu
