#pragma once

// Calibration of `convert`: channels of a layer's inputs that are much larger than others cost a
// format with one scale for all of them most of its precision. Factors move their size into the
// weights that read them, where each output has its own scale.
//
// Source: SmoothQuant (Xiao et al., 2022), with powers of two, so that the model's function in f32
// keeps every bit: only narrower types see a difference.

#include <array>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "parallel/model/model.h"
#include "worker/forward/rank_options.h"

namespace shoal::rank {

// A number for each channel of each of a layer's inputs, by model::LayerInput.
using LayerChannels = std::array<std::vector<float>, model::kLayerInputs>;

// The largest magnitudes that a group of one rank meets.
class InputRanges {
 public:
  // The sink to set the group up with: its threads call it at once. The object outlives the group.
  forward::InputSink sink();
  // By layer. Not while the group computes.
  const std::vector<LayerChannels>& largest() const { return largest_; }

 private:
  std::mutex mutex_;
  std::vector<LayerChannels> largest_;  // Guarded by mutex_.
};

// For each layer what the columns of the matrices that read an input are to be multiplied with, and
// the channels of what produces it divided by. Powers of two from 2^-12 to 2^12; 1 for channels
// that are never used. Query heads that share a value head share its factors.
// Errors: those of CheckScales.
std::vector<LayerChannels> BalanceFactors(const model::Model& model,
                                          const std::vector<LayerChannels>& largest);

// Runs the model over a text file, alone and on `threads` threads (0: one for each core), and
// returns its BalanceFactors. Errors: those of SetUpGroup and TokenizeScoredText; kFailed if the
// model's numbers are not finite.
std::vector<LayerChannels> Calibrate(const std::string& model, const std::string& text,
                                     int32_t threads);

}  // namespace shoal::rank
