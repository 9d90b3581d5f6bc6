#pragma once

// The numerics id: everything that can change a bit of an answer, in 128 bits.

#include <span>
#include <string>
#include <vector>

#include "kernels/format/packed.h"
#include "parallel/comm/communicator.h"
#include "parallel/model/digest.h"
#include "parallel/model/model.h"

namespace shoal::forward {

// How sums that cross a tensor-parallel cut are added. kExact: as integers, with the same bits for
// every cut. kFast: each rank's part becomes f32, and those are added in rank order: half the bytes
// between ranks, and other bits for every cut.
enum class Numerics : uint8_t { kExact, kFast };

// What every entry of a rope table is multiplied by; no model that is served scales it.
constexpr double kRopeGain = 1.0;

// The double-precision rope frequencies of a model, scaling included. Shape: [head_dim / 2].
std::vector<double> ModelRopeFrequencies(const model::ModelConfig& config);

// Refuses frequencies that a folder holds as tensors and that are others than these, which its
// configuration says, by more than rounding; those before linear scaling will do as well. Errors:
// kInvalidArgument, naming the tensor.
void CheckStoredFrequencies(const model::Model& model, std::span<const double> frequencies);

// The sum of all ranks' digests, on every rank. Collective.
model::WeightDigest SumOverRanks(const model::WeightDigest& part, comm::Communicator& group);

// XXH3-128, in hex, of a line of text with the contract's version, the weights' digest, the
// formats, the shape of the heads, the norms' epsilon, leaf and segment sizes, the cache's dtype,
// the rope's layout, frequencies and gain, and how sums cross a cut. Independent of the context's
// length and, unless sums are fast, of the cut: floats of another number of ranks are other sums.
std::string NumericsId(const model::Model& model, const model::WeightDigest& weights,
                       KvDType kv_dtype, std::span<const double> rope_frequencies,
                       Numerics numerics, int32_t tensor_parallel);

}  // namespace shoal::forward
