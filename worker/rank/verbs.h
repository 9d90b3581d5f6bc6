#pragma once

// The verbs of shoal-worker that run a group without a coordinator, under mpirun or as one rank.

namespace shoal::rank {

// Prints `digest NAME HEX` lines on rank 0; compares them if asked to. Result: the exit status.
int RunVerify(int argc, const char* const* argv);

// `bench engine`: prints one JSON object on rank 0. Result: the exit status.
int RunBenchEngine(int argc, const char* const* argv);

}  // namespace shoal::rank
