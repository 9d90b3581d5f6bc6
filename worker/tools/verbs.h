#pragma once

// The verbs of shoal-worker that need no coordinator. All but `convert` run a group, under mpirun
// or as one rank.

namespace shoal::rank {

// Prints `digest NAME HEX` lines on rank 0; compares them if asked to. Result: the exit status.
int RunVerify(int argc, const char* const* argv);

// `bench engine`: prints one JSON object on rank 0. Result: the exit status.
int RunBenchEngine(int argc, const char* const* argv);

// Prints the model's perplexity over a text on rank 0. Result: the exit status.
int RunPerplexity(int argc, const char* const* argv);

// Writes a model in another weight format. Result: 0. Errors: throws Error.
int RunConvert(int argc, const char* const* argv);

}  // namespace shoal::rank
