#pragma once

// Operations on single rows, in every variant (kernels/ARITHMETIC.md, "Row operations").

#include <cstddef>
#include <cstdint>

#include "kernels/format/packed.h"

namespace shoal::cpu {

struct RowKernels {
  // y[i] = (x[i] * r) * weight[i], r = 1 / sqrt(mean of squares + epsilon). y may be x.
  void (*rms_norm)(const float* x, const float* weight, float epsilon, int64_t cols, float* y);

  // Rotates one head in place. cos, sin: [head_dim / 2] of this position.
  void (*rope_adjacent)(float* head, const float* cos, const float* sin, int64_t head_dim);
  void (*rope_half_split)(float* head, const float* cos, const float* sin, int64_t head_dim);

  // y[i] = silu(gate[i]) * up[i].
  void (*silu_mul)(const float* gate, const float* up, int64_t cols, float* y);

  // residual[i] += float(double(sum[i]) * 2^-32).
  void (*add_fixed)(const int64_t* sum, int64_t cols, float* residual);

  // Of weights that quantise whole rows: residual[o] += the dot product dots[o] of output o and a
  // row of this scale, scaled. Result: how many of the products are NaN or not below 2^30.
  int64_t (*add_dots)(const int64_t* dots, const PackedMatrix& weights, float scale,
                      float* residual);

  // Stores one position of one kv head into its cache block; `slot` is the position modulo 32.
  // Result: how many elements overflowed the cache's dtype (or were not finite).
  int64_t (*store_kv)(KvDType dtype, const float* key, const float* value, int64_t head_dim,
                      int64_t slot, std::byte* block);
};

extern const RowKernels kRowsScalar;
extern const RowKernels kRowsAvx2;
extern const RowKernels kRowsAvx512;

}  // namespace shoal::cpu
