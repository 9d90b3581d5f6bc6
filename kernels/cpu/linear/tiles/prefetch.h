#pragma once

// How far ahead a linear layer fetches its weights, and where its outputs go. Local to the file
// that includes it (kernels/cpu/inline.h says why).

#include <cstdint>

#include "kernels/cpu/inline.h"
#include "kernels/format/packed.h"

namespace shoal::cpu {
namespace {

// Bytes from the weights at hand to those that should come to L2, whose many pending reads hide the
// memory's latency, and to those that should come from there to L1.
struct Ahead {
  int64_t far;
  int64_t near;
};
// Of weights that are read as they lie in memory.
constexpr Ahead kStreamAhead = {.far = 8192, .near = 1024};
// Of others, in blocks of a panel, which follow each other in the order in which they are read.
constexpr int64_t kFarBlocks = 4;
constexpr int64_t kNearBlocks = 1;

template <int64_t kBytes>
SHOAL_INLINE void Prefetch(const uint8_t* from, Ahead ahead) {
  const uint8_t* far = from + ahead.far;
  const uint8_t* near = from + ahead.near;
  // One register each: GCC would keep one for every line of a distance that is chosen at run time.
  asm("" : "+r"(far), "+r"(near));
#pragma GCC unroll 16
  for (int64_t line = 0; line < kBytes; line += 64) {
    __builtin_prefetch(far + line, 0, 2);
    __builtin_prefetch(near + line);
  }
}

// Fetches the memory that these rows' outputs of these panels go to, to be written: another core,
// which read them last, may hold it, and a store that waits for it holds up those after it.
template <typename Call>
SHOAL_INLINE void FetchOutputs(const Call& call, int64_t row, int64_t rows, int64_t panel,
                               int64_t panels) {
  constexpr int64_t kLine = 64 / sizeof(*call.output);
  for (int64_t r = row; r < row + rows; ++r) {
    const auto* outputs = call.output + r * call.output_stride + panel * kPanelRows;
    for (int64_t o = 0; o < panels * kPanelRows; o += kLine) {
      __builtin_prefetch(outputs + o, /*rw=*/1);
    }
  }
}

}  // namespace
}  // namespace shoal::cpu
