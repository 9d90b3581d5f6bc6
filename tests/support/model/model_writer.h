#pragma once

// Random models of the llama family, the same bytes on every machine, for tests that need shapes
// and formats no published model has.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/format/dtype.h"
#include "tests/support/model/model_files.h"

namespace shoal::test {

enum class Container : uint8_t { kGguf, kSafetensors };

struct ModelSpec {
  std::string name;  // File (without .gguf) or folder.
  Container container = Container::kGguf;
  DType dtype = DType::kQ4_1;            // Of the layers' matrices, except those in `dtypes`.
  std::optional<DType> embedding_dtype;  // Of embedding and output head; absent: as dtype.
  int64_t layer_count = 3;
  int64_t hidden_dim = 256;
  int64_t head_count = 8;
  int64_t kv_head_count = 4;
  int64_t head_dim = 32;
  int64_t ffn_dim = 1024;
  int64_t vocab_size = 520;
  int64_t context_tokens = 256;
  bool tied = false;
  double rope_theta = 10000;
  // Llama 3's frequencies: rope_scaling in a folder, rope_freqs.weight in a GGUF file.
  bool llama3_rope = false;
  // GGUF: a byte-level tokenizer in which every id is some text, and a chat template. Needs a
  // vocabulary of 259 to 475487. The last three ids are <|endoftext|>, <|im_start|> and <|im_end|>.
  bool tokenizer = true;
  uint64_t seed = 1;
  // Matrices of another format, by their GGUF name after "blk.N.": "attn_v.weight".
  std::map<std::string, DType> dtypes = {};
  std::vector<int64_t> ffn_dims = {};  // Of each layer, instead of ffn_dim.
};

// Logits have a standard deviation of about 2. Quantised weights use their whole range (-128 and
// negative scales included); norm weights lie between 0.75 and 1.25.
GgufFile MakeGgufFile(const ModelSpec& spec);
std::vector<SafetensorsTensor> MakeSafetensorsTensors(const ModelSpec& spec);
std::string MakeConfigJson(const ModelSpec& spec);

// Writes FOLDER/NAME.gguf or the folder FOLDER/NAME and returns its path. Errors: kFailed.
std::string WriteModel(const ModelSpec& spec, const std::string& folder);

// At least 8 attention leaves, 8 MLP leaves, 8 vocabulary units and 3 layers.
ModelSpec Q4_1Spec();
ModelSpec Q4_0Spec();  // Tied.
ModelSpec Q8_0Spec();
ModelSpec F16Spec();         // GGUF, with rope_freqs.weight.
ModelSpec Bf16FolderSpec();  // Safetensors, tied.
ModelSpec F32FolderSpec();   // Safetensors, llama3 rope.
ModelSpec NineHeadsSpec();   // 9 query and 3 key/value heads; the last MLP leaf is short. Q4_1.
ModelSpec HeadDim80Spec();   // 16 heads of 80: leaves of two heads. Q4_0.
ModelSpec LongSpec();        // 520 positions: three attention segments. Q8_0, two heads a leaf.
// 8448 positions: two spans. 1 layer, 2 heads of 16, F16: at most 2 tensor-parallel ranks.
ModelSpec VeryLongSpec();
// Eight formats in one model, and matrices of one input that want it in scale groups of 16 and of
// 32. The leaves of row-parallel sums cut the K-quants' blocks of 256.
ModelSpec KQuantsSpec();
// 1.1 billion weights, for benchmarks: hidden 2048, 22 layers, 32 and 4 heads. Q4_0, 620 MB.
ModelSpec Llama1BSpec();
// The specs of the matrix of cuts: all those above except Llama1BSpec, in this order.
std::vector<ModelSpec> MatrixSpecs();
// Formats of shoal's own, not in the matrix: INT8, whose activations have one scale for each leaf,
// beside matrices that want the same input in scale groups; and leaves of four heads, because scale
// groups are 128 wide.
ModelSpec Int8Spec();
ModelSpec GroupsOf128Spec();

}  // namespace shoal::test
