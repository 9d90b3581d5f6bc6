// Two passes over the same list of pieces: the first adds up their packed sizes, the second packs
// and digests them, split over the team by output panels.

#include "worker/forward/shard_weights.h"

#include <algorithm>
#include <mutex>
#include <string>

#include "kernels/format/pack.h"
#include "parallel/model/files/mapped_file.h"
#include "transport/base/error.h"

namespace shoal::forward {
namespace {

// A rectangle of a tensor that becomes a packed matrix.
struct Piece {
  const model::Tensor* tensor;
  plan::Range rows;
  plan::Range cols;
  PackedMatrix* packed;
  // Rows that this rank counts in the weight digest; replicated ones belong to the lowest owner.
  plan::Range digest_rows;
  int64_t leaf_cols;  // Row-parallel: a digest unit is one leaf of a row. 0: it is the whole row.
};

// By role.
constexpr const float* LayerWeights::*kNorms[model::kTensorRoles] = {
    &LayerWeights::attention_norm, nullptr, nullptr, nullptr, nullptr,
    &LayerWeights::ffn_norm,       nullptr, nullptr, nullptr};
constexpr PackedMatrix LayerWeights::*kMatrices[model::kTensorRoles] = {
    nullptr,
    &LayerWeights::query,
    &LayerWeights::key,
    &LayerWeights::value,
    &LayerWeights::attention_output,
    nullptr,
    &LayerWeights::gate,
    &LayerWeights::up,
    &LayerWeights::down};

}  // namespace

class ShardWeights::Packer {
 public:
  Packer(const model::Model& model, std::span<const plan::RankShard> shards, int32_t rank,
         ShardWeights& out)
      : model_(model), shard_(shards[rank]), out_(out) {
    for (const plan::RankShard& other : shards) {
      if (other.stage != shard_.stage) continue;
      if (other.rank >= rank) break;
      first_of_stage_ = false;
      unowned_kv_begin_ = std::max(unowned_kv_begin_, other.kv_heads.end);
    }
    last_stage_ = shard_.stage == shards.back().stage;
  }

  void Run(device::ThreadTeam& team) {
    out_.layers_.resize(shard_.layers.count());
    for (int64_t layer = shard_.layers.begin; layer < shard_.layers.end; ++layer) AddLayer(layer);
    const model::ModelTensors& tensors = model_.tensors();
    if (last_stage_) {
      out_.output_norm_ = AddNorm(*tensors.output_norm);
      // A tied head's rows are counted as the embedding's, by the first stage.
      const bool tied = tensors.output == tensors.token_embedding;
      pieces_.push_back({tensors.output,
                         shard_.vocab_rows,
                         {0, tensors.output->cols},
                         &out_.output_,
                         tied ? plan::Range{} : shard_.vocab_rows,
                         /*leaf_cols=*/0});
    }
    Allocate();
    PackAll(team);
    if (shard_.stage == 0) DigestEmbedding(team);
    // Reading a row can map two megabytes around it, other ranks' rows too.
    for (const Piece& piece : pieces_) Release(*piece.tensor, {0, piece.tensor->rows});
  }

 private:
  void AddLayer(int64_t layer) {
    const model::LayerTensors& source = model_.tensors().layers[layer];
    LayerWeights& target = out_.layers_[layer - shard_.layers.begin];
    for (const model::TensorSpec& spec : source.spec.tensors) {
      const model::Tensor& tensor = source[spec.role];
      const auto role = static_cast<size_t>(spec.role);
      if (spec.is_norm()) {
        target.*kNorms[role] = AddNorm(tensor);
        continue;
      }
      const plan::TensorPart part = plan::PartOf(spec, layer, shard_);
      plan::Range digest_rows = part.rows;
      if (spec.unit == model::CutUnit::kKvHeads) {
        digest_rows.begin = std::max(digest_rows.begin, unowned_kv_begin_ * spec.unit_size);
      }
      pieces_.push_back({&tensor, part.rows, part.cols, &(target.*kMatrices[role]), digest_rows,
                         model::LeafCols(spec, model_.leaves())});
    }
  }

  const float* AddNorm(const model::Tensor& tensor) {
    std::vector<float>& values = out_.norms_.emplace_back(tensor.cols);
    DequantizeRow(tensor.dtype, tensor.data, tensor.cols, values.data());
    if (first_of_stage_) {
      out_.digest_.AddUnit(tensor.name, 0, {tensor.data, static_cast<size_t>(tensor.bytes())});
    }
    return values.data();
  }

  void Allocate() {
    std::vector<int64_t> offsets;
    int64_t bytes = 0;
    for (const Piece& piece : pieces_) {
      offsets.push_back(bytes);
      bytes += PanelCount(piece.rows.count()) * PanelBytes(piece.tensor->dtype, piece.cols.count());
    }
    out_.memory_ = device::Buffer(bytes);
    for (size_t i = 0; i < pieces_.size(); ++i) {
      const Piece& piece = pieces_[i];
      *piece.packed = {.dtype = piece.tensor->dtype,
                       .rows = piece.rows.count(),
                       .cols = piece.cols.count(),
                       .data = out_.memory_.data() + offsets[i],
                       .block_offset = piece.cols.begin % BlockWeights(piece.tensor->dtype)};
    }
  }

  void PackAll(device::ThreadTeam& team) {
    // An Error cannot leave a team's thread: the first one is kept and thrown from here.
    std::mutex mutex;
    std::string failure;
    for (const Piece& piece : pieces_) {
      const int64_t panels = PanelCount(piece.rows.count());
      team.ParallelFor(panels, std::max<int64_t>(1, panels / 64),
                       [&](int64_t begin, int64_t end, int32_t) {
                         model::WeightDigest digest;
                         std::string problem;
                         try {
                           PackPanels(piece, begin, end, digest);
                         } catch (const Error& error) {
                           problem = error.what();
                         }
                         const std::lock_guard lock(mutex);
                         out_.digest_ += digest;
                         if (failure.empty()) failure = problem;
                       });
      if (!failure.empty()) throw Error(ErrorCode::kInvalidArgument, failure);
      Release(*piece.tensor, piece.rows);
    }
  }

  // The packed copy is what is read from now on; two of everything would be twice the memory.
  static void Release(const model::Tensor& tensor, plan::Range rows) {
    model::ReleasePages(
        {tensor.row(rows.begin), static_cast<size_t>(rows.count() * tensor.row_bytes())});
  }

  void PackPanels(const Piece& piece, int64_t begin, int64_t end,
                  model::WeightDigest& digest) const {
    const model::Tensor& tensor = *piece.tensor;
    const int64_t output_begin = begin * kPanelRows;
    const int64_t output_end = std::min(end * kPanelRows, piece.rows.count());
    const plan::Range rows = {piece.rows.begin + output_begin, piece.rows.begin + output_end};
    model::CheckScales(tensor, rows.begin, rows.end, model_.path());
    PackRows(tensor.dtype, tensor.row(rows.begin), tensor.row_bytes(), rows.count(),
             piece.cols.begin, piece.cols.count(), output_begin,
             const_cast<std::byte*>(piece.packed->data));
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      if (row < piece.digest_rows.begin || row >= piece.digest_rows.end) continue;
      DigestRow(piece, row, digest);
    }
  }

  static void DigestRow(const Piece& piece, int64_t row, model::WeightDigest& digest) {
    const model::Tensor& tensor = *piece.tensor;
    if (piece.leaf_cols == 0) {
      digest.AddUnit(tensor.name, row, {tensor.row(row), static_cast<size_t>(tensor.row_bytes())});
      return;
    }
    const int64_t leaf_count = (tensor.cols + piece.leaf_cols - 1) / piece.leaf_cols;
    for (int64_t leaf = piece.cols.begin / piece.leaf_cols; leaf * piece.leaf_cols < piece.cols.end;
         ++leaf) {
      const int64_t col = leaf * piece.leaf_cols;
      // A block that several leaves share counts in each of their units.
      const ByteRange bytes =
          BlocksOf(tensor.dtype, col, std::min(col + piece.leaf_cols, tensor.cols));
      digest.AddUnit(tensor.name, row * leaf_count + leaf,
                     {tensor.row(row) + bytes.begin, static_cast<size_t>(bytes.end - bytes.begin)});
    }
  }

  void DigestEmbedding(device::ThreadTeam& team) {
    const model::Tensor& tensor = *model_.tensors().token_embedding;
    std::mutex mutex;
    std::string failure;
    team.ParallelFor(shard_.vocab_rows.count(), 1024, [&](int64_t begin, int64_t end, int32_t) {
      const plan::Range rows = {shard_.vocab_rows.begin + begin, shard_.vocab_rows.begin + end};
      model::WeightDigest digest;
      std::string problem;
      try {
        model::CheckScales(tensor, rows.begin, rows.end, model_.path());
      } catch (const Error& error) {
        problem = error.what();
      }
      for (int64_t row = rows.begin; row < rows.end; ++row) {
        digest.AddUnit(tensor.name, row,
                       {tensor.row(row), static_cast<size_t>(tensor.row_bytes())});
      }
      const std::lock_guard lock(mutex);
      out_.digest_ += digest;
      if (failure.empty()) failure = problem;
    });
    if (!failure.empty()) throw Error(ErrorCode::kInvalidArgument, failure);
    Release(tensor, shard_.vocab_rows);
  }

  const model::Model& model_;
  const plan::RankShard& shard_;
  ShardWeights& out_;
  bool first_of_stage_ = true;
  bool last_stage_ = false;
  int64_t unowned_kv_begin_ = 0;  // Key/value heads below this are counted by a lower rank.
  std::vector<Piece> pieces_;
};

std::span<const std::byte> MemoryOf(const PackedMatrix& first, const PackedMatrix& last) {
  const std::byte* end = last.panel(PanelCount(last.rows));
  return {first.data, static_cast<size_t>(end - first.data)};
}

ShardWeights::ShardWeights(const model::Model& model, std::span<const plan::RankShard> shards,
                           int32_t rank, device::ThreadTeam& team) {
  Packer(model, shards, rank, *this).Run(team);
}

}  // namespace shoal::forward
