#pragma once

// The verbs of `shoal bench`. Each takes the arguments from its own name on and gives the program's
// exit status. Errors: throws Error.

namespace shoal::cli {

int BenchServe(int argc, const char* const* argv);
int BenchExactness(int argc, const char* const* argv);
int BenchPlan(int argc, const char* const* argv);
int BenchEngineVerb(int argc, const char* const* argv);
int BenchOverload(int argc, const char* const* argv);
int BenchRouter(int argc, const char* const* argv);

}  // namespace shoal::cli
