// That a rank's scratch memory is what its budget says.

#include "worker/forward/activations.h"

#include <gtest/gtest.h>

#include "parallel/plan/plan.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"

namespace shoal::forward {
namespace {

template <typename... Vectors>
int64_t BytesOf(const Vectors&... vectors) {
  return (static_cast<int64_t>(vectors.size() * sizeof(vectors[0])) + ...);
}

int64_t BytesOf(const LayerRows& rows) {
  int64_t bytes = BytesOf(rows.normed, rows.gate, rows.up, rows.fixed);
  for (const QuantizedRows& quantized : rows.quantized) {
    bytes += BytesOf(quantized.quants, quantized.scales, quantized.sums);
  }
  return bytes;
}

int64_t BytesOf(const Activations& all) {
  int64_t bytes =
      BytesOf(all.all) + BytesOf(all.residual, all.query, all.key, all.value, all.attention,
                                 all.invalid, all.largest_bits, all.kv_overflows, all.logits,
                                 all.gathered, all.all_logits, all.attention_scratch);
  for (const LayerRows& tile : all.tiles) bytes += BytesOf(tile);
  return bytes;
}

TEST(Activations, TakeTheMemoryThatTheyAreSaidTo) {
  const test::ScratchFolder folder;
  for (const test::ModelSpec& spec :
       {test::Q4_1Spec(), test::F16Spec(), test::Q8_0Spec(), test::NineHeadsSpec()}) {
    const auto model = model::Model::Open(test::WriteModel(spec, folder.path()));
    for (const int32_t tensor_parallel : {1, 2}) {
      const auto shards = plan::PlanCut(*model, {.cut = {tensor_parallel, 1}, .rank_speeds = {}});
      for (const int64_t rows : {5, 100, 544}) {
        for (const int32_t threads : {1, 3}) {
          const Activations made(*model, shards[0], rows, threads, tensor_parallel);
          EXPECT_EQ(Activations::MemoryBytes(*model, shards[0], rows, threads, tensor_parallel,
                                             /*fast=*/false),
                    BytesOf(made))
              << spec.name << ", " << rows << " rows, " << threads << " threads";
        }
      }
    }
  }
}

}  // namespace
}  // namespace shoal::forward
