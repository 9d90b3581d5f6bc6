// The products with matrices.

#include <algorithm>

#include "transport/base/check.h"
#include "worker/forward/ops/ops.h"

namespace shoal::forward {
namespace {

// Panels one thread takes at a time, at least: 16 rows of 576 4-bit weights are 6 KiB.
constexpr int64_t kPanelGrain = 4;

int64_t BytesOf(const PackedMatrix& weights) { return MemoryOf(weights, weights).size(); }

}  // namespace

// `count` rows as a matrix of `dtype` reads them: `values`, or what they were quantised to, from
// row `first` of `at` on.
ActivationRows Ops::Input(DType dtype, const float* values, int64_t cols, int64_t count,
                          LayerRows& at, int64_t first) {
  ActivationRows input = {.values = values, .rows = count, .cols = cols};
  if (IsQuantized(dtype)) {
    const int64_t groups = InputGroups(dtype, cols);
    const QuantizedRows& quantized = at.Quantized(dtype);
    input.quants = quantized.quants.data() + first * cols;
    input.scales = quantized.scales.data() + first * groups;
    input.sums = quantized.sums.data() + first * groups;
  }
  return input;
}

void Ops::ProjectQkv(const LayerWeights& weights, const RowTile& tile,
                     std::span<const std::byte> next) {
  const int64_t query_dim = heads_ * head_dim_;
  const int64_t kv_dim = kv_heads_ * head_dim_;
  const int64_t first = tile.rows.begin;
  const Product products[] = {
      {&weights.query, activations_.query.data() + first * query_dim, query_dim},
      {&weights.key, activations_.key.data() + first * kv_dim, kv_dim},
      {&weights.value, activations_.value.data() + first * kv_dim, kv_dim}};
  Multiply(products, tile, next);
}

void Ops::ProjectGateAndUp(const LayerWeights& weights, const RowTile& tile,
                           std::span<const std::byte> next) {
  const int64_t columns = weights.down.cols;
  const int64_t first = (tile.rows.begin - tile.own.begin) * columns;
  LayerRows& to = *tile.own.rows;
  const Product products[] = {{&weights.gate, to.gate.data() + first, columns},
                              {&weights.up, to.up.data() + first, columns}};
  Multiply(products, tile, next);
}

void Ops::Multiply(std::span<const Product> products, const RowTile& tile,
                   std::span<const std::byte> next) {
  PanelWork work = {.panels = 0, .bytes = 0, .panels_min = kPanelGrain, .next = next};
  for (const Product& product : products) {
    work.panels += PanelCount(product.weights->rows);
    work.bytes += BytesOf(*product.weights);
  }
  std::array<Product, kProductsMax> copies;  // For the other threads, with what uses them.
  const size_t product_count = products.size();
  SHOAL_CHECK(product_count <= kProductsMax, product_count, " products");
  std::copy(products.begin(), products.end(), copies.begin());
  LayerRows* inputs = tile.shared.rows;
  const int64_t first = tile.rows.begin - tile.shared.begin;
  executor_.ForPanels(tile, work, [=, this](plan::Range rows, plan::Range panels) {
    MultiplyPart(std::span(copies).first(product_count), *inputs, first, rows, panels);
  });
}

// Rows counted from the tile's first, which is row `first` of `at`; panels over all products.
void Ops::MultiplyPart(std::span<const Product> products, LayerRows& at, int64_t first,
                       plan::Range rows, plan::Range panels) {
  const float* normed = at.normed.data() + first * hidden_dim_;
  int64_t before = 0;  // Panels of the products before.
  for (const Product& product : products) {
    const int64_t count = PanelCount(product.weights->rows);
    const int64_t from = std::max(panels.begin - before, int64_t{0});
    const int64_t to = std::min(panels.end - before, count);
    before += count;
    if (from >= to) continue;
    const DType dtype = product.weights->dtype;
    const ActivationRows input = Input(dtype, normed, hidden_dim_, rows.end, at, first);
    kernels_.linear.whole[static_cast<size_t>(dtype)]({.weights = product.weights,
                                                       .input = &input,
                                                       .row_begin = rows.begin,
                                                       .row_end = rows.end,
                                                       .panel_begin = from,
                                                       .panel_end = to,
                                                       .output = product.output,
                                                       .output_stride = product.output_stride});
  }
}

void Ops::SumLeaves(RowParallelInput input, const RowParallelSum& sum, const RowTile& tile,
                    std::span<const std::byte> next) {
  const int64_t count = tile.rows.count();
  int64_t* invalid = activations_.invalid.data() + tile.rows.begin;
  if (input == RowParallelInput::kHeads) {
    std::copy_n(activations_.kv_overflows.begin() + tile.rows.begin, count, invalid);
  } else {
    std::fill_n(invalid, count, 0);
  }
  const PanelWork work = {.panels = PanelCount(hidden_dim_),
                          .bytes = BytesOf(*sum.weights),
                          .panels_min = kPanelGrain / 2,
                          .next = next};
  executor_.ForPanels(tile, work, [this, input, sum, tile](plan::Range rows, plan::Range panels) {
    SumLeavesPart(input, sum, tile, rows, panels);
  });
  const int64_t stride = hidden_dim_ + kFixedTail;
  int64_t* counts = FixedOf(tile) + hidden_dim_;
  for (int64_t r = 0; r < count; ++r) counts[r * stride] = invalid[r];
  if (!check_sums_) return;
  executor_.ForRows(tile, [this, tile, stride](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r)
      AddCheckSum(FixedOf(tile) + (r - tile.rows.begin) * stride);
  });
}

void Ops::SumLeavesPart(RowParallelInput input, const RowParallelSum& sum, const RowTile& tile,
                        plan::Range rows, plan::Range panels) {
  const DType dtype = sum.weights->dtype;
  const int64_t cols = sum.weights->cols;
  const ActivationRows activations =
      Input(dtype, RowOf(input, cols, tile.rows.begin, tile), cols, rows.end, *tile.own.rows,
            tile.rows.begin - tile.own.begin);
  kernels_.linear.leaves[static_cast<size_t>(dtype)](
      {.weights = sum.weights,
       .input = &activations,
       .row_begin = rows.begin,
       .row_end = rows.end,
       .panel_begin = panels.begin,
       .panel_end = panels.end,
       .leaf_cols = sum.leaf_cols,
       .limit = sum.leaf_limit,
       .output = FixedOf(tile),
       .output_stride = hidden_dim_ + kFixedTail,
       .invalid = activations_.invalid.data() + tile.rows.begin});
}

void Ops::Logits(const float* norm, const PackedMatrix& output, std::span<const int64_t> rows,
                 std::span<const std::byte> next) {
  RowTile tile = executor_.AllRows();
  tile.rows = {0, static_cast<int64_t>(rows.size())};
  for (int64_t i = 0; i < tile.rows.end; ++i) {
    float* normed = activations_.all.normed.data() + i * hidden_dim_;
    kernels_.rows.rms_norm(activations_.residual.data() + rows[i] * hidden_dim_, norm,
                           norm_epsilon_, hidden_dim_, normed);
    QuantizeRow(output.dtype, normed, hidden_dim_, activations_.all, i);
  }
  const Product product = {&output, activations_.logits.data(), output.rows};
  Multiply({&product, 1}, tile, next);
}

}  // namespace shoal::forward
