#pragma once

// Where rows of activations wait, made ready, for the panels that they meet. Local to the file that
// includes it (kernels/cpu/inline.h says why).

#include <cstdint>

#include "kernels/cpu/inline.h"

namespace shoal::cpu {
namespace {

// Room for rows that are made ready once and meet many panels, on the stack: a part of L2, of
// which panels have a part too.
constexpr int64_t kKeptBytes = 256 << 10;

// What a kernel makes of the rows of its blocks: each is made once, with the first of the panels
// that share the call's rows, if there is room to keep it.
template <typename Block>
struct KeptRows {
  template <typename... Arguments>
  SHOAL_INLINE void Load(const Arguments&... arguments) {
    block = next;
    next += step;
    if (makes) block->Load(arguments...);
  }

  Block* block;  // The one at hand.
  Block* next;
  int64_t step;  // 0: each takes the place of the one before it.
  bool makes;    // Or they are there.
};

}  // namespace
}  // namespace shoal::cpu
