#pragma once

// `perplexity`: how well a model predicts a text.

#include <cstdint>
#include <string>
#include <vector>

#include "worker/rank/group_setup.h"
#include "worker/rank/worker_options.h"

namespace shoal::rank {

// A text cut into windows, each predicted by itself from its first token on.
struct ScoredText {
  std::vector<int32_t> ids;
  int64_t window = 512;
};

// A JSON object with "ids" and, optionally, "window". Errors: kInvalidArgument, naming the file.
ScoredText ReadScoredText(const std::string& path);

// A text file, by the model's tokenizer and without BOS, in windows that the context holds. Errors:
// kInvalidArgument, naming the file.
ScoredText TokenizeScoredText(const std::string& path, const GroupSetup& setup);

struct Perplexity {
  int64_t tokens = 0;     // Predicted: all but the first of each window.
  double mean_nll = 0;    // The mean of their negative log-likelihoods, in nats.
  double perplexity = 0;  // exp(mean_nll)
};

// Collective. Result: on the leader. Errors: kInvalidArgument for ids outside the vocabulary and
// for windows that the context does not hold; kFailed if the model's numbers are not finite.
Perplexity ComputePerplexity(GroupSetup& setup, const WorkerOptions& options,
                             const ScoredText& text);

}  // namespace shoal::rank
