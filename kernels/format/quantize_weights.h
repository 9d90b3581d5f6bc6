#pragma once

// Rounds f32 weights to a quantised file format: what DequantizeRow undoes.

#include "kernels/format/dtype.h"

namespace shoal {

// Writes `cols` weights, a multiple of the block, as RowBytes(dtype, cols) bytes of a quantised
// format. Scales are those of a few candidates that leave the least squared error, so the result
// depends on the weights alone. A weight's magnitude must be below 2^15, so that every scale is a
// finite f16; the caller checks it.
void QuantizeWeights(DType dtype, const float* weights, int64_t cols, std::byte* row);

}  // namespace shoal
