// shoal-coordinator: the region's front door. Everything it does is in coordinator/shell; here
// are its flags and its one line of output.

#include <exception>
#include <iostream>
#include <string>
#include <utility>

#include "coordinator/shell/serve.h"
#include "transport/base/error.h"
#include "transport/base/log.h"
#include "transport/config/options.h"

namespace {

// Leaves the groups time to end, inside the 5 s that a stop may take in all.
constexpr int64_t kStopGraceMs = 3'000;

shoal::config::ProgramText Text() {
  return {.program = "shoal-coordinator",
          .usage = "--model PATH [options]",
          .summary =
              "Serves a model that groups of workers compute: takes requests over HTTP and "
              "Cap'n Proto and hands them to the groups that have joined. Prints one line, "
              "`ready http://127.0.0.1:PORT`, once a token has passed through all ranks of "
              "a first group.",
          .epilog =
              "Environment:\n"
              "  SHOAL_LOG  comma list of a level (debug, info, warn, error) and json. [info]\n"
              "\n"
              "Exit status:\n"
              "  0  SIGINT or SIGTERM\n"
              "  1  failed while running\n"
              "  2  wrong usage or configuration, bad model, port in use\n"
              "\n"
              "Example:\n"
              "  shoal-coordinator --model models/SmolLM2-135M-Instruct.Q4_1.gguf\n"
              "  mpirun -np 2 shoal-worker --model models/SmolLM2-135M-Instruct.Q4_1.gguf \\\n"
              "      --coordinator 127.0.0.1:7400 --tensor-parallel 2\n"};
}

int Run(int argc, char** argv) {
  shoal::gateway::CoordinatorOptions options;
  shoal::config::OptionTable table(Text());
  shoal::gateway::AddCoordinatorOptions(table, options);
  if (table.Parse(argc, argv) == shoal::config::ParseOutcome::kPrinted) return 0;

  std::string url;
  bool said_ready = false;
  bool heard = true;
  shoal::gateway::ServeHooks hooks;
  hooks.on_listening = [&](const shoal::gateway::Listening& where) { url = where.url; };
  hooks.region.on_group_ready = [&](const std::string&) {
    if (said_ready) return;
    said_ready = true;
    std::cout << "ready " << url << std::endl;
    heard = std::cout.good();
  };
  hooks.go_on = [&] { return heard; };
  shoal::gateway::Serve(options, kStopGraceMs, std::move(hooks));
  if (!heard) shoal::Throw(shoal::ErrorCode::kFailed, "stdout cannot be written");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  shoal::gateway::EndOnSignals();
  try {
    shoal::StartLogging("shoal-coordinator");
    return Run(argc, argv);
  } catch (const shoal::Error& error) {
    std::cerr << "shoal-coordinator: " << error.what() << "\n";
    return shoal::ExitStatus(error.code());
  } catch (const std::exception& error) {
    std::cerr << "shoal-coordinator: " << error.what() << "\n";
    return 1;
  }
}
