#include "worker/forward/rows/stage_exchange.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace shoal::forward {

StageExchange::StageExchange(comm::Communicator& group, comm::Communicator& stage,
                             StageExchangeOptions options)
    : group_(group),
      stage_(stage),
      options_(std::move(options)),
      counts_(stage.size()),
      bad_layers_(options_.rows_max) {}

void StageExchange::Begin(int64_t row_count) {
  row_count_ = row_count;
  sequence_parallel_ =
      stage_.size() > 1 && !options_.fast && row_count >= options_.sequence_parallel_rows_min;
  own_rows_ = sequence_parallel_ ? RowsOf(stage_.rank()) : plan::Range{0, row_count};
}

plan::Range StageExchange::RowsOf(int32_t stage_rank) const {
  return PartOf(row_count_, stage_rank, stage_.size());
}

std::span<const int64_t> StageExchange::CountOwn(int64_t row_size) {
  for (int32_t rank = 0; rank < stage_.size(); ++rank) {
    counts_[rank] = RowsOf(rank).count() * row_size;
  }
  return counts_;
}

void StageExchange::SumRows(int64_t* data, int64_t width) {
  if (stage_.size() == 1) return;
  const std::span<int64_t> all(data, row_count_ * width);
  if (!sequence_parallel_) return stage_.AllReduceSum(all);
  stage_.ReduceScatterSum(all, CountOwn(width),
                          all.subspan(own_rows_.begin * width, own_rows_.count() * width));
}

void StageExchange::SumRows(float* data, int64_t width) {
  if (stage_.size() > 1) stage_.AllReduceSum(std::span<float>(data, row_count_ * width));
}

void StageExchange::MaxRows(int64_t* data) {
  if (stage_.size() > 1) stage_.AllReduceMax(std::span(data, row_count_));
}

// The others add the integer 0 to a value's bits, which changes nothing, not even -0 (a floating
// zero would).
void StageExchange::TakeFromHolders(float* values, int64_t width, int64_t* words) {
  if (stage_.size() == 1) return;
  const int64_t count = row_count_ * width;
  for (int64_t i = 0; i < count; ++i) words[i] = std::bit_cast<uint32_t>(values[i]);
  SumRows(words, width);
  for (int64_t i = own_rows_.begin * width; i < own_rows_.end * width; ++i) {
    values[i] = std::bit_cast<float>(static_cast<uint32_t>(words[i]));
  }
}

template <typename T>
void StageExchange::GatherRows(T* data, int64_t width) {
  if (!sequence_parallel_) return;
  const std::span<T> all(data, row_count_ * width);
  const std::span<T> own = all.subspan(own_rows_.begin * width, own_rows_.count() * width);
  const auto row_bytes = static_cast<int64_t>(width * sizeof(T));
  stage_.AllGather(std::as_bytes(own), CountOwn(row_bytes), std::as_writable_bytes(all));
}

template void StageExchange::GatherRows(float* data, int64_t width);
template void StageExchange::GatherRows(int8_t* data, int64_t width);
template void StageExchange::GatherRows(int32_t* data, int64_t width);

void StageExchange::GatherInput(std::span<const DType> readers, LayerRows& all) {
  if (!sequence_parallel_) return;
  const int64_t cols = options_.hidden_dim;
  for (const DType dtype : readers) {
    if (!IsQuantized(dtype)) {
      GatherRows(all.normed.data(), cols);
      continue;
    }
    const int64_t groups = InputGroups(dtype, cols);
    QuantizedRows& rows = all.Quantized(dtype);
    GatherRows(rows.quants.data(), cols);
    GatherRows(rows.scales.data(), groups);
    GatherRows(rows.sums.data(), groups);
  }
}

void StageExchange::ShareBadLayers(StepRows& rows) {
  if (stage_.size() == 1) return;
  const std::span<int64_t> numbers = std::span(bad_layers_).first(rows.count());
  rows.PutBadLayers(numbers);
  stage_.AllReduceMax(numbers);
  rows.TakeBadLayers(numbers);
}

void StageExchange::SendRows(const StepRows& rows, const float* residual) {
  const int32_t to = options_.rank + options_.ranks_per_stage;
  const int64_t width = options_.hidden_dim;
  for (int64_t r = own_rows_.begin; r < own_rows_.end; ++r) bad_layers_[r] = rows[r].bad_layer;
  group_.Send(
      std::as_bytes(std::span(residual + own_rows_.begin * width, own_rows_.count() * width)), to);
  group_.Send(std::as_bytes(std::span(bad_layers_).subspan(own_rows_.begin, own_rows_.count())),
              to);
}

void StageExchange::ReceiveRows(StepRows& rows, float* residual) {
  const int32_t from = options_.rank - options_.ranks_per_stage;
  const int64_t width = options_.hidden_dim;
  group_.Receive(std::as_writable_bytes(
                     std::span(residual + own_rows_.begin * width, own_rows_.count() * width)),
                 from);
  group_.Receive(
      std::as_writable_bytes(std::span(bad_layers_).subspan(own_rows_.begin, own_rows_.count())),
      from);
  for (int64_t r = own_rows_.begin; r < own_rows_.end; ++r) rows[r].bad_layer = bad_layers_[r];
}

void StageExchange::GatherPieces(std::span<const std::byte> own, std::span<std::byte> all) {
  if (stage_.size() == 1) {
    std::copy(own.begin(), own.end(), all.begin());
    return;
  }
  counts_.assign(stage_.size(), static_cast<int64_t>(own.size()));
  stage_.AllGather(own, counts_, all);
}

void StageExchange::GatherLogits(const float* logits, int64_t rows, std::byte* gathered,
                                 float* all) {
  const int64_t vocab_size = options_.vocab_rows.back().end;
  if (stage_.size() == 1) {
    std::copy_n(logits, rows * vocab_size, all);
    return;
  }
  for (int32_t rank = 0; rank < stage_.size(); ++rank) {
    counts_[rank] = rows * options_.vocab_rows[rank].count() * static_cast<int64_t>(sizeof(float));
  }
  const int64_t own = options_.vocab_rows[stage_.rank()].count();
  stage_.AllGather(std::as_bytes(std::span(logits, rows * own)), counts_,
                   std::span(gathered, rows * vocab_size * sizeof(float)));
  if (!is_first()) return;
  const auto* source = reinterpret_cast<const float*>(gathered);
  for (const plan::Range vocab : options_.vocab_rows) {
    for (int64_t i = 0; i < rows; ++i, source += vocab.count()) {
      std::copy_n(source, vocab.count(), all + i * vocab_size + vocab.begin);
    }
  }
}

}  // namespace shoal::forward
