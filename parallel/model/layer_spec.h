#pragma once

// The tensors of one layer as a table: their names, their shapes, how a cut divides them and what
// they read. Whoever finds, counts, cuts, packs or converts tensors goes through this table; a
// family of models is a file that fills it (families/), and its keys in the readers of config/.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/model/config/config.h"

namespace shoal::model {

enum class TensorRole : uint8_t {
  kAttentionNorm,
  kQuery,
  kKey,
  kValue,
  kAttentionOutput,
  kMlpNorm,
  kGate,
  kUp,
  kDown,
};
constexpr size_t kTensorRoles = 9;

// What a layer's matrices multiply, each as many columns wide as they are.
enum class LayerInput : uint8_t {
  kAttention,        // Read by query, key and value.
  kAttentionOutput,  // The heads' outputs.
  kMlp,              // Read by gate and up.
  kDown,             // silu(gate) * up.
};
constexpr size_t kLayerInputs = 4;

// How the ranks of a stage divide a tensor.
enum class TensorCut : uint8_t {
  kWhole,           // Not at all: each holds all of it.
  kColumnParallel,  // By rows: each computes some outputs of all inputs.
  kRowParallel,     // By columns: each computes its part of all outputs, a row-parallel sum.
};

// What the divided side of a tensor consists of.
enum class CutUnit : uint8_t { kNone, kHeads, kKvHeads, kMlpColumns };

struct TensorNames {
  std::string_view gguf;
  std::string_view hugging_face;
};

struct TensorSpec {
  TensorRole role;
  TensorNames names;  // Without the layer's prefix, "blk.N." or "model.layers.N.".
  int64_t rows = 1;   // Outputs; 1: a vector.
  int64_t cols = 0;   // Inputs.
  TensorCut cut = TensorCut::kWhole;
  CutUnit unit = CutUnit::kNone;
  int64_t unit_size = 1;  // Rows, respectively columns, of a unit.
  // What a matrix multiplies. None: a norm, which scales the residual channel by channel.
  std::optional<LayerInput> reads = std::nullopt;
  // The input whose channels are proportional to this tensor's outputs, one by one: factors can
  // move between these and the matrices that read the input. Query heads read their key/value
  // head's.
  std::optional<LayerInput> scales = std::nullopt;
  // Rows are heads that rope rotates: GGUF files hold them as adjacent pairs, folders as halves.
  bool is_rotated = false;

  bool is_norm() const { return !reads.has_value(); }
};

// What a position keeps in the cache for each key/value head. Units: numbers.
struct KvWidths {
  int64_t key = 0;
  int64_t value = 0;
};

struct LayerSpec {
  KvWidths kv;
  // In the order in which a step reads them, which is their order in packed memory and in files.
  std::vector<TensorSpec> tensors;

  // Row-parallel sums of a row: what ranks exchange.
  int64_t sum_count() const;
};

// Columns of one leaf of a row-parallel matrix; 0 for all others.
int64_t LeafCols(const TensorSpec& tensor, const LeafGeometry& leaves);

// A kind of model that is served.
struct Family {
  std::string_view name;          // `general.architecture` of GGUF, `model_type` of config.json.
  std::string_view hugging_face;  // The one of config.json's `architectures`.
  LayerSpec (*layer)(const ModelConfig& config, int64_t layer);
};

// Null if the name is no family's.
const Family* FindFamily(std::string_view name);
// As a message lists them: "llama", in quotes.
std::string FamilyNames();

}  // namespace shoal::model
