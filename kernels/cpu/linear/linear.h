#pragma once

// Linear layers of every variant: outputs of a matrix and rows of activations.

#include <cstdint>

#include "kernels/format/packed.h"

namespace shoal::cpu {

// Outputs [16 * panel_begin, 16 * panel_end) of every activation row in [row_begin, row_end).
struct LinearCall {
  const PackedMatrix* weights;
  const ActivationRows* input;  // input->cols == weights->cols
  int64_t row_begin, row_end;
  int64_t panel_begin, panel_end;
  float* output;  // Output o of row r: output[r * output_stride + o]; padding is not written.
  int64_t output_stride;
};

// A row-parallel layer: K is cut into leaves of leaf_cols (the last may be shorter); each leaf's
// f32 result is converted to fixed point and added. Weights that quantise whole rows give the exact
// dot products over all of K instead, without leaves or limit, for add_dots to scale.
struct LeafLinearCall {
  const PackedMatrix* weights;
  const ActivationRows* input;
  int64_t row_begin, row_end;
  int64_t panel_begin, panel_end;
  int64_t leaf_cols;
  float limit;      // 2^(30 - ceil(log2(leaves of the whole sum)))
  int64_t* output;  // As LinearCall's; written, not added to.
  int64_t output_stride;
  // [rows]: counts, atomically, the outputs' leaves with |y| >= limit or NaN; they add nothing.
  int64_t* invalid;
};

// By the weights' DType.
struct LinearKernels {
  void (*whole[kDTypeCount])(const LinearCall& call);       // Sums over all of K, as floats.
  void (*leaves[kDTypeCount])(const LeafLinearCall& call);  // Sums of leaves, in fixed point.
};

// What each file brings: its own formats, null for the others. table.cc puts them together.
extern const LinearKernels kLinearScalar;  // Every format.
extern const LinearKernels kLinearFloatAvx2;
extern const LinearKernels kLinearQuantAvx2;   // Q8_0, Q4_0 and Q4_1.
extern const LinearKernels kLinearGroupsAvx2;  // Every other quantised format.
extern const LinearKernels kLinearFloatAvx512;
extern const LinearKernels kLinearQ8_0Avx512;
extern const LinearKernels kLinearQ4_0Avx512;
extern const LinearKernels kLinearQ4_1Avx512;
extern const LinearKernels kLinearGroupsAvx512;
extern const LinearKernels kLinearAmx;  // Q8_0, Q4_0, Q4_1 and INT8.

}  // namespace shoal::cpu
