// The operations that take rows one by one.

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/format/pack.h"
#include "worker/forward/ops/ops.h"

namespace shoal::forward {
namespace {

// Modulo 2^64, as the ranks' sums are.
uint64_t SumOfWords(const int64_t* words, int64_t count) {
  uint64_t sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += static_cast<uint64_t>(words[i]);
  return sum;
}

}  // namespace

NormedInput MakeNormedInput(const float* norm, std::span<const DType> readers) {
  NormedInput input = {.norm = norm, .readers = {}};
  for (const DType reader : readers) {
    const bool is_new = std::none_of(input.readers.begin(), input.readers.end(), [=](DType before) {
      return InputGroup(before) == InputGroup(reader);
    });
    if (is_new) input.readers.push_back(reader);
  }
  return input;
}

// The sum of all leaves cannot leave 62 bits.
RowParallelSum MakeRowParallelSum(const PackedMatrix& weights, int64_t leaf_cols,
                                  int64_t leaf_count, int64_t layer) {
  const int log2_ceil = std::bit_width(static_cast<uint64_t>(leaf_count - 1));
  return {.weights = &weights,
          .leaf_cols = leaf_cols,
          .leaf_limit = std::ldexp(1.0F, 30 - log2_ceil),
          .layer = layer};
}

Ops::Ops(const OpsMemory& memory, const cpu::KernelTable& kernels, RowExecutor& executor)
    : kernels_(kernels),
      executor_(executor),
      rows_(memory.rows),
      activations_(memory.activations),
      kv_pool_(memory.kv_pool),
      rope_(memory.rope),
      hidden_dim_(memory.model.config().hidden_dim),
      head_dim_(memory.model.config().head_dim),
      heads_(memory.shard.heads.count()),
      kv_heads_(memory.shard.kv_heads.count()),
      norm_epsilon_(memory.model.config().norm_epsilon),
      rotate_(memory.model.config().rope.layout == model::RopeLayout::kAdjacentPairs
                  ? kernels.rows.rope_adjacent
                  : kernels.rows.rope_half_split) {}

void Ops::Embed(const model::Tensor& table, plan::Range held, const RowTile& tile) {
  executor_.ForRows(tile, [this, &table, held](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      const int32_t token = rows_[r].token;
      float* row = activations_.residual.data() + r * hidden_dim_;
      if (held.begin <= token && token < held.end) {
        DequantizeRow(table.dtype, table.row(token), hidden_dim_, row);
      } else {
        std::fill(row, row + hidden_dim_, 0.0F);
      }
    }
  });
}

// What it is quantised to is quantised once for each group size among the readers.
void Ops::NormRow(const NormedInput& input, int64_t row, const RowSpace& to) {
  float* normed = to.rows->normed.data() + (row - to.begin) * hidden_dim_;
  kernels_.rows.rms_norm(activations_.residual.data() + row * hidden_dim_, input.norm,
                         norm_epsilon_, hidden_dim_, normed);
  for (const DType reader : input.readers) {
    QuantizeRow(reader, normed, hidden_dim_, *to.rows, row - to.begin);
  }
}

void Ops::Norm(const NormedInput& input, const RowTile& tile) {
  executor_.ForRows(tile, [this, &input, tile](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) NormRow(input, r, tile.shared);
  });
}

int64_t* Ops::FixedOf(const RowTile& tile) const {
  return tile.shared.rows->fixed.data() +
         (tile.rows.begin - tile.shared.begin) * (hidden_dim_ + kFixedTail);
}

// to += what a row of `fixed` stands for. Result: how much of it is invalid.
int64_t Ops::AddRow(const RowParallelSum& sum, int64_t row, const RowTile& tile, float* to) {
  const int64_t* sums =
      tile.shared.rows->fixed.data() + (row - tile.shared.begin) * (hidden_dim_ + kFixedTail);
  if (check_sums_ && SumOfWords(sums, hidden_dim_ + kFixedTail) != 0) [[unlikely]] {
    wrong_sum_.store(true, std::memory_order_relaxed);
  }
  const DType dtype = sum.weights->dtype;
  if (!QuantizesWholeRows(dtype)) {
    kernels_.rows.add_fixed(sums, hidden_dim_, to);
    return sums[hidden_dim_];
  }
  const float scale = tile.own.rows->Quantized(dtype).scales[row - tile.own.begin];
  return sums[hidden_dim_] + kernels_.rows.add_dots(sums, *sum.weights, scale, to);
}

void Ops::AddCheckSum(int64_t* row) const {
  int64_t* tail = row + hidden_dim_;
  std::fill(tail + 1, tail + kFixedTail, 0);
  tail[1] = static_cast<int64_t>(-SumOfWords(row, hidden_dim_ + kFixedTail));
}

void Ops::AddAndNorm(const RowParallelSum& sum, const NormedInput* input, const RowTile& tile) {
  executor_.ForRows(tile, [this, sum, input, tile](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t invalid = AddRow(sum, r, tile, activations_.residual.data() + r * hidden_dim_);
      if (invalid != 0) rows_[r].Blame(sum.layer);
      // Not before: AddRow reads the scale of the input that the row had, where this one may go.
      if (input != nullptr) NormRow(*input, r, tile.shared);
    }
  });
}

void Ops::RoundSums(const RowParallelSum& sum, const RowTile& tile) {
  executor_.ForRows(tile, [this, sum, tile](int64_t begin, int64_t end, int32_t) {
    const int64_t stride = hidden_dim_ + kFixedTail;
    for (int64_t r = begin; r < end; ++r) {
      float* row = activations_.float_sums.data() + r * stride;
      std::fill_n(row, stride, 0.0F);
      row[hidden_dim_] = static_cast<float>(AddRow(sum, r, tile, row));
    }
  });
}

void Ops::AddRoundedAndNorm(const RowParallelSum& sum, const NormedInput* input,
                            const RowTile& tile) {
  executor_.ForRows(tile, [this, sum, input, tile](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      float* residual = activations_.residual.data() + r * hidden_dim_;
      const float* sums = activations_.float_sums.data() + r * (hidden_dim_ + kFixedTail);
      for (int64_t i = 0; i < hidden_dim_; ++i) residual[i] += sums[i];
      if (sums[hidden_dim_] != 0) rows_[r].Blame(sum.layer);
      if (input != nullptr) NormRow(*input, r, tile.shared);
    }
  });
}

void Ops::RotateAndStore(int64_t layer, const RowTile& tile) {
  executor_.ForRows(tile, [this, layer](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t position = rows_[r].position;
      const float* cos = rope_.cos.data() + position * (head_dim_ / 2);
      const float* sin = rope_.sin.data() + position * (head_dim_ / 2);
      float* query = activations_.query.data() + r * heads_ * head_dim_;
      for (int64_t h = 0; h < heads_; ++h) rotate_(query + h * head_dim_, cos, sin, head_dim_);
      const int32_t block = rows_[r].block_table[position / kKvBlockTokens];
      int64_t overflows = 0;
      for (int64_t h = 0; h < kv_heads_; ++h) {
        float* key = activations_.key.data() + (r * kv_heads_ + h) * head_dim_;
        const float* value = activations_.value.data() + (r * kv_heads_ + h) * head_dim_;
        rotate_(key, cos, sin, head_dim_);
        overflows += kernels_.rows.store_kv(
            kv_pool_.dtype(), key, value, head_dim_, position % kKvBlockTokens,
            kv_pool_.Blocks(layer, h) + block * kv_pool_.block_stride());
      }
      activations_.kv_overflows[r] = overflows;
    }
  });
}

void Ops::Attend(int64_t layer, const AttentionTile& tile, int32_t thread) {
  const Row& first = rows_[tile.rows.begin];
  const int64_t stride = heads_ * head_dim_;
  const int64_t offset = tile.rows.begin * stride + tile.heads.begin * head_dim_;
  kernels_.attention.attend(
      {.dtype = kv_pool_.dtype(),
       .head_dim = head_dim_,
       .head_count = tile.heads.count(),
       .position_begin = first.position,
       .row_count = tile.rows.count(),
       .query = activations_.query.data() + offset,
       .query_stride = stride,
       .output = activations_.attention.data() + offset,
       .output_stride = stride,
       .blocks = kv_pool_.Blocks(layer, tile.kv_head),
       .block_stride = kv_pool_.block_stride(),
       .block_table = first.block_table,
       .next_head_offset = tile.kv_head + 1 < kv_heads_ ? kv_pool_.head_bytes(layer) : int64_t{0},
       .scratch =
           activations_.attention_scratch.data() + thread * activations_.attention_scratch_floats});
}

std::span<const float> Ops::NormedOf(const RowTile& tile) const {
  return std::span(tile.shared.rows->normed)
      .subspan((tile.rows.begin - tile.shared.begin) * hidden_dim_,
               tile.rows.count() * hidden_dim_);
}

float* Ops::RowOf(RowParallelInput input, int64_t cols, int64_t row, const RowTile& tile) const {
  return input == RowParallelInput::kHeads
             ? activations_.attention.data() + row * cols
             : tile.own.rows->gate.data() + (row - tile.own.begin) * cols;
}

std::span<const float> Ops::InputOf(RowParallelInput input, int64_t cols,
                                    const RowTile& tile) const {
  return {RowOf(input, cols, tile.rows.begin, tile), static_cast<size_t>(tile.rows.count() * cols)};
}

const float* Ops::MakeRow(RowParallelInput input, int64_t cols, int64_t row, const RowTile& tile) {
  float* values = RowOf(input, cols, row, tile);
  if (input == RowParallelInput::kGated) {
    const float* up = tile.own.rows->up.data() + (row - tile.own.begin) * cols;
    kernels_.rows.silu_mul(values, up, cols, values);
  }
  return values;
}

// As a matrix of `dtype` reads it; nothing for floats.
void Ops::QuantizeRow(DType dtype, const float* values, int64_t cols, LayerRows& to, int64_t row) {
  if (!IsQuantized(dtype)) return;
  const int64_t groups = InputGroups(dtype, cols);
  QuantizedRows& quantized = to.Quantized(dtype);
  int8_t* quants = quantized.quants.data() + row * cols;
  float* scales = quantized.scales.data() + row * groups;
  int32_t* sums = quantized.sums.data() + row * groups;
  if (quantized.group == 32) {
    kernels_.quantize.row(values, cols, quants, scales, sums);
  } else {
    kernels_.quantize.groups(values, cols, cols / groups, quants, scales, sums);
  }
}

void Ops::MakeInput(RowParallelInput input, const PackedMatrix& weights, const RowTile& tile) {
  executor_.ForRows(tile, [this, input, dtype = weights.dtype, cols = weights.cols, tile](
                              int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      const float* values = MakeRow(input, cols, r, tile);
      QuantizeRow(dtype, values, cols, *tile.own.rows, r - tile.own.begin);
    }
  });
}

void Ops::MeasureInput(RowParallelInput input, const PackedMatrix& weights, const RowTile& tile) {
  executor_.ForRows(tile,
                    [this, input, cols = weights.cols, tile](int64_t begin, int64_t end, int32_t) {
                      for (int64_t r = begin; r < end; ++r) {
                        activations_.largest_bits[r] =
                            kernels_.quantize.largest_bits(MakeRow(input, cols, r, tile), cols);
                      }
                    });
}

void Ops::QuantizeMeasured(RowParallelInput input, const PackedMatrix& weights,
                           const RowTile& tile) {
  QuantizedRows& to = tile.own.rows->Quantized(weights.dtype);
  executor_.ForRows(
      tile, [this, input, cols = weights.cols, tile, &to](int64_t begin, int64_t end, int32_t) {
        for (int64_t r = begin; r < end; ++r) {
          const int64_t at = r - tile.own.begin;
          kernels_.quantize.group(RowOf(input, cols, r, tile), cols,
                                  static_cast<uint32_t>(activations_.largest_bits[r]),
                                  to.quants.data() + at * cols, &to.scales[at], &to.sums[at]);
        }
      });
}

void Ops::BlameOverflows(int64_t layer) {
  for (int64_t r = 0; r < rows_.count(); ++r) {
    if (activations_.kv_overflows[r] != 0) rows_[r].Blame(layer);
    activations_.kv_overflows[r] = 0;
  }
}

void Ops::KeepRows(std::span<const int64_t> rows) {
  const auto keep = [](float* values, int64_t width, int64_t from, int64_t to) {
    if (from != to) std::copy_n(values + from * width, width, values + to * width);
  };
  for (size_t to = 0; to < rows.size(); ++to) {
    keep(activations_.query.data(), heads_ * head_dim_, rows[to], static_cast<int64_t>(to));
    keep(activations_.residual.data(), hidden_dim_, rows[to], static_cast<int64_t>(to));
  }
}

}  // namespace shoal::forward
