#pragma once

// Quantising rows of activations, in every variant (kernels/ARITHMETIC.md, "Linear layers").

#include <cstdint>

namespace shoal::cpu {

struct QuantizeKernels {
  // One row in groups of 32: quants [cols], scales [cols / 32], sums [cols / 32]. cols is a
  // multiple of 32.
  void (*row)(const float* x, int64_t cols, int8_t* quants, float* scales, int32_t* sums);

  // The same in groups of `group`, a multiple of 16 as cols is; the last may be shorter. Scales and
  // sums: one for each group.
  void (*groups)(const float* x, int64_t cols, int64_t group, int8_t* quants, float* scales,
                 int32_t* sums);

  // The largest magnitude among a row's, as bits without the sign: every NaN is above infinity.
  uint32_t (*largest_bits)(const float* x, int64_t cols);

  // Count floats, a multiple of 16, as part of a group that has this largest magnitude.
  void (*group)(const float* x, int64_t count, uint32_t largest_bits, int8_t* quants, float* scale,
                int32_t* sum);
};

extern const QuantizeKernels kQuantizeScalar;
extern const QuantizeKernels kQuantizeAvx2;
extern const QuantizeKernels kQuantizeAvx512;

}  // namespace shoal::cpu
