#pragma once

// INT8 linear layers: an output has one scale and a row of activations another, so all that is
// computed per weight is exact, and a product's float work is once per output.
//
// Written over what computes the dot products (a Dots), of which there is one with vectors in
// int8_vectors.h and one with tiles in amx/int8_tiles.h:
//   Lanes                          16 floats, as tiles/kernel.h has them
//   kOffset                        what weights have too much in the dot products
//   Dots(weights, input), panels   panels: the matrix's, as TabledPanels gives them
//   ForEach(call, sink)            sink(panel, first row, rows, dots[row][16]) for all that a call
//                                  asks for
//   Scaled(table, scale, dots, start)   Lanes: +0 + fma(scale * table[o], float(dots + start), +0)
//
// Local to the file that includes it (kernels/cpu/inline.h says why).

#include <cstdint>

#include "kernels/cpu/linear/groups/group_tile.h"
#include "kernels/cpu/linear/linear.h"

namespace shoal::cpu {
namespace {

// A row's dot products with the outputs of a panel, and those of the rows that follow.
using RowDots = const int32_t (*)[kPanelRows];

template <typename Dots>
void ComputeInt8(const LinearCall& call) {
  Dots products(*call.weights, *call.input);
  // Copies: a store of outputs might change what a reference leads to.
  const Panels panels = products.panels;
  const float* scales = call.input->scales;
  const int32_t* sums = call.input->sums;
  float* outputs = call.output;
  const int64_t stride = call.output_stride;
  products.ForEach(
      call, [=](int64_t panel, int64_t row, int64_t count,
                RowDots dots) __attribute__((always_inline)) {
        const auto* table = reinterpret_cast<const float*>(panels.data + panel * panels.bytes);
        const int64_t present = OutputsOf(panels, panel);
        float* output = outputs + row * stride + panel * kPanelRows;
#pragma GCC unroll 8
        for (int64_t r = 0; r < count; ++r, output += stride) {
          Dots::Scaled(table, scales[row + r], dots[r], -Dots::kOffset * sums[row + r])
              .StoreOutputs(output, present);
        }
      });
}

template <typename Dots>
void ComputeInt8(const LeafLinearCall& call) {
  Dots products(*call.weights, *call.input);
  const Panels panels = products.panels;
  const int32_t* sums = call.input->sums;
  int64_t* outputs = call.output;
  const int64_t stride = call.output_stride;
  products.ForEach(
      call, [=](int64_t panel, int64_t row, int64_t count, RowDots dots)
                __attribute__((always_inline)) {
                  const int64_t present = OutputsOf(panels, panel);
                  int64_t* output = outputs + row * stride + panel * kPanelRows;
#pragma GCC unroll 8
                  for (int64_t r = 0; r < count; ++r, output += stride) {
                    // Modulo 2^32: only the whole of it fits.
                    const auto start = static_cast<uint32_t>(-Dots::kOffset * sums[row + r]);
                    const auto widen = [&](int64_t columns) __attribute__((always_inline)) {
                      for (int64_t i = 0; i < columns; ++i) {
                        output[i] = static_cast<int32_t>(static_cast<uint32_t>(dots[r][i]) + start);
                      }
                    };
                    present == kPanelRows ? widen(kPanelRows) : widen(present);
                  }
                });
}

}  // namespace
}  // namespace shoal::cpu
