#include "worker/forward/rows/stage_exchange.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "transport/base/error.h"

namespace shoal::forward {

StageExchange::StageExchange(comm::Communicator& group, comm::Communicator& stage,
                             StageExchangeOptions options)
    : group_(group),
      stage_(stage),
      options_(std::move(options)),
      counts_(stage.size()),
      bad_layers_(options_.rows_max),
      digests_(options_.rank / options_.ranks_per_stage + 1),
      all_digests_(digests_.size() * stage.size()) {
  bad_layers_.resize(bad_layers_.size() + digests_.size());
}

void StageExchange::BeginStep(uint64_t step) {
  step_ = step;
  compared_ = false;
  digest_.Begin();
}

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
// zero would). A word has them twice, so that its receiver sees if it was damaged on the way.
void StageExchange::TakeFromHolders(float* values, int64_t width, int64_t* words) {
  if (stage_.size() == 1) return;
  const int64_t count = row_count_ * width;
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t bits = std::bit_cast<uint32_t>(values[i]);
    words[i] = static_cast<int64_t>(bits << 32 | bits);
  }
  SumRows(words, width);
  uint32_t difference = 0;
  for (int64_t i = own_rows_.begin * width; i < own_rows_.end * width; ++i) {
    const auto word = static_cast<uint64_t>(words[i]);
    values[i] = std::bit_cast<float>(static_cast<uint32_t>(word));
    difference |= static_cast<uint32_t>(word) ^ static_cast<uint32_t>(word >> 32);
  }
  if (difference != 0) digest_.MarkWrongSum();
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
  const auto gather = [this](auto* data, int64_t width) {
    GatherRows(data, width);
    digest_.Add(std::as_bytes(std::span(data, row_count_ * width)));
  };
  for (const DType dtype : readers) {
    if (!IsQuantized(dtype)) {
      gather(all.normed.data(), cols);
      continue;
    }
    const int64_t groups = InputGroups(dtype, cols);
    QuantizedRows& rows = all.Quantized(dtype);
    gather(rows.quants.data(), cols);
    gather(rows.scales.data(), groups);
    gather(rows.sums.data(), groups);
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
  int64_t count = own_rows_.count();
  if (compares()) {
    for (const uint64_t digest : CloseDigests()) {
      bad_layers_[own_rows_.begin + count++] = std::bit_cast<int64_t>(digest);
    }
  }
  group_.Send(std::as_bytes(std::span(bad_layers_).subspan(own_rows_.begin, count)), to);
}

void StageExchange::ReceiveRows(StepRows& rows, float* residual) {
  const int32_t from = options_.rank - options_.ranks_per_stage;
  const int64_t width = options_.hidden_dim;
  group_.Receive(std::as_writable_bytes(
                     std::span(residual + own_rows_.begin * width, own_rows_.count() * width)),
                 from);
  const size_t before = compares() ? digests_.size() - 1 : 0;
  const auto message = std::span(bad_layers_).subspan(own_rows_.begin, own_rows_.count() + before);
  group_.Receive(std::as_writable_bytes(message), from);
  for (int64_t r = own_rows_.begin; r < own_rows_.end; ++r) rows[r].bad_layer = bad_layers_[r];
  for (size_t stage = 0; stage < before; ++stage) {
    digests_[stage] = std::bit_cast<uint64_t>(bad_layers_[own_rows_.end + stage]);
  }
}

void StageExchange::DigestRows(const StepRows& rows, const float* residual) {
  if (compares()) digest_.AddRows(rows, residual, options_.hidden_dim);
}

std::span<const uint64_t> StageExchange::CloseDigests() {
  digests_.back() = digest_.value();
  return digests_;
}

void StageExchange::CompareDigests() {
  if (!compares() || compared_) return;
  const std::span<const std::byte> own = std::as_bytes(CloseDigests());
  counts_.assign(stage_.size(), static_cast<int64_t>(own.size()));
  stage_.AllGather(own, counts_, std::as_writable_bytes(std::span(all_digests_)));
  CheckDigests();
}

void StageExchange::CheckDigests() {
  compared_ = true;
  const std::string difference = FindDigestDifference(step_, all_digests_, digests_.size());
  if (!difference.empty()) Throw(ErrorCode::kWrongAnswer, difference);
}

void StageExchange::GatherPieces(std::span<const std::byte> own, std::span<std::byte> all) {
  if (stage_.size() == 1) {
    std::copy(own.begin(), own.end(), all.begin());
    return;
  }
  if (compared_) {
    counts_.assign(stage_.size(), static_cast<int64_t>(own.size()));
    return stage_.AllGather(own, counts_, all);
  }
  const std::span<const std::byte> digests = std::as_bytes(CloseDigests());
  const size_t piece = own.size() + digests.size();
  counts_.assign(stage_.size(), static_cast<int64_t>(piece));
  staged_.resize(piece * counts_.size());
  std::byte* place = staged_.data() + piece * static_cast<size_t>(stage_.rank());
  std::copy(own.begin(), own.end(), place);
  std::copy(digests.begin(), digests.end(), place + own.size());
  stage_.AllGather({place, piece}, counts_, staged_);
  for (size_t rank = 0; rank < counts_.size(); ++rank) {
    const std::byte* from = staged_.data() + rank * piece;
    std::copy_n(from, own.size(), all.data() + rank * own.size());
    std::memcpy(all_digests_.data() + rank * digests_.size(), from + own.size(), digests.size());
  }
  CheckDigests();
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
