#pragma once

// Finds and runs the other programs of this build.

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/launch/program_path.h"

namespace shoal::cli {

using launch::ProgramPath;

struct ProgramOutput {
  int status = 0;                   // 128 plus the signal's number if a signal ended it.
  std::vector<std::string> lines;   // What it wrote to stdout.
  std::vector<std::string> errors;  // What it wrote to stderr.
};

// Runs a program to its end. Errors: kFailed if it cannot be started, kDeadlineExceeded.
ProgramOutput RunProgram(const std::vector<std::string>& command, int64_t timeout_ms);

// Names of the instruction sets that this machine can run, by `shoal-worker kernels`.
// Errors: as RunProgram, and kFailed if the worker cannot say.
std::vector<std::string> InstructionSetsHere();

}  // namespace shoal::cli
