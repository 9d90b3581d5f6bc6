#pragma once

// The verbs of `shoal`. Each takes the arguments from its own name on (argv[0] is the verb) and
// gives the program's exit status. Errors: throws Error, which main() prints.

namespace shoal::cli {

int RunVerb(int argc, const char* const* argv);
int ChatVerb(int argc, const char* const* argv);
int PlanVerb(int argc, const char* const* argv);
int DrainVerb(int argc, const char* const* argv);
int ExplainVerb(int argc, const char* const* argv);
int PostmortemVerb(int argc, const char* const* argv);
int StatusVerb(int argc, const char* const* argv);
int VerifyVerb(int argc, const char* const* argv);
int BenchVerb(int argc, const char* const* argv);
int ConvertVerb(int argc, const char* const* argv);
int DoctorVerb(int argc, const char* const* argv);
int VersionVerb(int argc, const char* const* argv);

}  // namespace shoal::cli
