#include <span>

#include "parallel/model/open.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/model/model_writer.h"
#include "transport/base/error.h"

// GGUF: from bytes to a model, and the bytes of every tensor it claims to have.

namespace shoal::test {
namespace {

ModelSpec TinySpec(DType dtype, int64_t vocab_size) {
  return {.name = "tiny",
          .dtype = dtype,
          .embedding_dtype = {},
          .layer_count = 1,
          .hidden_dim = 32,
          .head_count = 2,
          .kv_head_count = 1,
          .head_dim = 16,
          .ffn_dim = 32,
          .vocab_size = vocab_size,
          .tied = true,
          .llama3_rope = dtype == DType::kF16,
          .tokenizer = vocab_size >= 259,
          .seed = 1};
}

// Blocks of 256, and the formats of 5 and 6 bits.
ModelSpec KQuantSpec() {
  ModelSpec spec = TinySpec(DType::kQ5_0, 64);
  spec.ffn_dim = 256;
  spec.dtypes = {{"attn_q.weight", DType::kQ5_1},
                 {"attn_v.weight", DType::kIQ4_NL},
                 {"ffn_down.weight", DType::kQ6_K}};
  return spec;
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  return {MakeGgufFile(TinySpec(DType::kQ4_0, 64)).Bytes(),
          MakeGgufFile(TinySpec(DType::kQ4_1, 64)).Bytes(),
          MakeGgufFile(TinySpec(DType::kF16, 270)).Bytes(), MakeGgufFile(KQuantSpec()).Bytes()};
}

}  // namespace shoal::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto model =
        shoal::model::OpenGgufBytes(std::as_bytes(std::span(data, size)), "fuzz.gguf");
    for (const shoal::model::LayerTensors& layer : model->tensors().layers) {
      shoal::model::CheckScales(layer[shoal::model::TensorRole::kDown], 0,
                                layer[shoal::model::TensorRole::kDown].rows);
    }
    shoal::model::CheckScales(*model->tensors().output, 0, model->config().vocab_size);
  } catch (const shoal::Error& error) {
    // A refusal is the expected outcome; an error of another kind is a finding.
    if (error.code() != shoal::ErrorCode::kInvalidArgument) {
      throw;
    }
  }
  return 0;
}
