#pragma once

// Copies rows and columns of a tensor from its file format into a panel-packed matrix.

#include "kernels/format/packed.h"

namespace shoal {

// `source` is row-major in the file's format, `source_row_bytes` apart. Takes `rows` rows starting
// at `source` and, of each, the columns [col_begin, col_begin + cols), and writes them as outputs
// [output_begin, output_begin + rows) of `packed`, whose K is `cols`. Calls for other output ranges
// of one packed matrix may run at the same time, provided that no two touch the same panel.
//
// `packed` holds PanelCount(total outputs) * PanelBytes(dtype, cols) bytes, zeroed before the first
// call, 64-byte aligned. col_begin and cols are multiples of GroupSize(dtype); the packed matrix's
// block_offset is col_begin modulo BlockWeights(dtype).
void PackRows(DType dtype, const std::byte* source, int64_t source_row_bytes, int64_t rows,
              int64_t col_begin, int64_t cols, int64_t output_begin, std::byte* packed);

// Widens one row of a file's tensor to f32 (fma(float(q), d, m), or float(q) * d).
// Used for embeddings and norm weights. `cols` is a multiple of the block.
void DequantizeRow(DType dtype, const std::byte* row, int64_t cols, float* values);

}  // namespace shoal
