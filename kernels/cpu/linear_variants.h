#pragma once

// The linear layers and the quantisers of every instruction set, for table.cc to fill its rows
// with. Contracts: LinearCall, LeafLinearCall and the quantisers of KernelTable in table.h. Only
// call a variant on a machine that has its instructions.

#include <cstdint>

#include "kernels/cpu/table.h"

namespace shoal::cpu {

// Scalar row: plain x86-64, fmaf for every fma.
void LinearF32Scalar(const LinearCall& call);
void LinearF16Scalar(const LinearCall& call);
void LinearBF16Scalar(const LinearCall& call);
void LinearQ8_0Scalar(const LinearCall& call);
void LinearQ4_0Scalar(const LinearCall& call);
void LinearQ4_1Scalar(const LinearCall& call);
void LeafLinearF32Scalar(const LeafLinearCall& call);
void LeafLinearF16Scalar(const LeafLinearCall& call);
void LeafLinearBF16Scalar(const LeafLinearCall& call);
void LeafLinearQ8_0Scalar(const LeafLinearCall& call);
void LeafLinearQ4_0Scalar(const LeafLinearCall& call);
void LeafLinearQ4_1Scalar(const LeafLinearCall& call);
void LinearInt8Scalar(const LinearCall& call);
void RowDotsInt8Scalar(const LeafLinearCall& call);
// Every other format, by the weights' dtype.
void LinearGroupsScalar(const LinearCall& call);
void LeafLinearGroupsScalar(const LeafLinearCall& call);
uint32_t LargestBitsScalar(const float* x, int64_t cols);
void QuantizeGroupScalar(const float* x, int64_t count, uint32_t max_bits, int8_t* quants,
                         float* scale, int32_t* sum);
void QuantizeRowScalar(const float* x, int64_t cols, int8_t* quants, float* scales, int32_t* sums);
void QuantizeGroupsScalar(const float* x, int64_t cols, int64_t group, int8_t* quants,
                          float* scales, int32_t* sums);

// AVX2, FMA, F16C.
void LinearF32Avx2(const LinearCall& call);
void LinearF16Avx2(const LinearCall& call);
void LinearBF16Avx2(const LinearCall& call);
void LinearQ8_0Avx2(const LinearCall& call);
void LinearQ4_0Avx2(const LinearCall& call);
void LinearQ4_1Avx2(const LinearCall& call);
void LeafLinearF32Avx2(const LeafLinearCall& call);
void LeafLinearF16Avx2(const LeafLinearCall& call);
void LeafLinearBF16Avx2(const LeafLinearCall& call);
void LeafLinearQ8_0Avx2(const LeafLinearCall& call);
void LeafLinearQ4_0Avx2(const LeafLinearCall& call);
void LeafLinearQ4_1Avx2(const LeafLinearCall& call);
void LinearInt8Avx2(const LinearCall& call);
void RowDotsInt8Avx2(const LeafLinearCall& call);
// Every other format, by the weights' dtype.
void LinearGroupsAvx2(const LinearCall& call);
void LeafLinearGroupsAvx2(const LeafLinearCall& call);
uint32_t LargestBitsAvx2(const float* x, int64_t cols);
void QuantizeGroupAvx2(const float* x, int64_t count, uint32_t max_bits, int8_t* quants,
                       float* scale, int32_t* sum);
void QuantizeRowAvx2(const float* x, int64_t cols, int8_t* quants, float* scales, int32_t* sums);
void QuantizeGroupsAvx2(const float* x, int64_t cols, int64_t group, int8_t* quants, float* scales,
                        int32_t* sums);

// AVX-512 F, BW, DQ, VL, VNNI.
void LinearF32Avx512(const LinearCall& call);
void LinearF16Avx512(const LinearCall& call);
void LinearBF16Avx512(const LinearCall& call);
void LinearQ8_0Avx512(const LinearCall& call);
void LinearQ4_0Avx512(const LinearCall& call);
void LinearQ4_1Avx512(const LinearCall& call);
void LeafLinearF32Avx512(const LeafLinearCall& call);
void LeafLinearF16Avx512(const LeafLinearCall& call);
void LeafLinearBF16Avx512(const LeafLinearCall& call);
void LeafLinearQ8_0Avx512(const LeafLinearCall& call);
void LeafLinearQ4_0Avx512(const LeafLinearCall& call);
void LeafLinearQ4_1Avx512(const LeafLinearCall& call);
void LinearInt8Avx512(const LinearCall& call);
void RowDotsInt8Avx512(const LeafLinearCall& call);
// Every other format, by the weights' dtype.
void LinearGroupsAvx512(const LinearCall& call);
void LeafLinearGroupsAvx512(const LeafLinearCall& call);
uint32_t LargestBitsAvx512(const float* x, int64_t cols);
void QuantizeGroupAvx512(const float* x, int64_t count, uint32_t max_bits, int8_t* quants,
                         float* scale, int32_t* sum);
void QuantizeRowAvx512(const float* x, int64_t cols, int8_t* quants, float* scales, int32_t* sums);
void QuantizeGroupsAvx512(const float* x, int64_t cols, int64_t group, int8_t* quants,
                          float* scales, int32_t* sums);

// AMX-TILE and AMX-INT8, beside all of AVX-512's.
void LinearQ8_0Amx(const LinearCall& call);
void LinearQ4_0Amx(const LinearCall& call);
void LinearQ4_1Amx(const LinearCall& call);
void LeafLinearQ8_0Amx(const LeafLinearCall& call);
void LeafLinearQ4_0Amx(const LeafLinearCall& call);
void LeafLinearQ4_1Amx(const LeafLinearCall& call);
void LinearInt8Amx(const LinearCall& call);
void RowDotsInt8Amx(const LeafLinearCall& call);

}  // namespace shoal::cpu
