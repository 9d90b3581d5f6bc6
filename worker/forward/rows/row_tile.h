#pragma once

// Some rows of a step, where what is made of them lies, and how many of them a thread takes.

#include <algorithm>
#include <cstdint>

#include "parallel/plan/plan.h"

namespace shoal::forward {

struct LayerRows;

// Row `begin` of the step is the first row of `rows`.
struct RowSpace {
  LayerRows* rows;
  int64_t begin = 0;
};

struct RowTile {
  plan::Range rows;
  // The calling thread works on it alone. Otherwise the whole team does, region after region.
  bool alone;
  RowSpace shared;  // normed, what is quantised of it, and fixed: what ranks exchange.
  RowSpace own;     // The rest of what stands between the matrices.

  // Its rows in `range`.
  RowTile Within(plan::Range range) const {
    RowTile tile = *this;
    tile.rows = {std::max(rows.begin, range.begin), std::min(rows.end, range.end)};
    return tile;
  }
};

// Rows of a tile that one thread takes through a layer, at most. Few enough for its LayerRows to
// stay in the L2 cache or near it, many enough to share the reading of the weights.
constexpr int64_t kTileRows = 64;

// How many tiles a step's rows make, equally many for each thread. 1: they are too few, and the
// threads divide the weights instead.
constexpr int64_t TileCount(int64_t rows, int64_t threads) {
  const int64_t round = kTileRows * threads;
  return rows < round ? 1 : (rows + round - 1) / round * threads;
}

// The index-th of `parts` equal parts, about, of `count`.
constexpr plan::Range PartOf(int64_t count, int64_t index, int64_t parts) {
  return {count * index / parts, count * (index + 1) / parts};
}

}  // namespace shoal::forward
