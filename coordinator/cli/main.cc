// shoal: the command line. Which verb does what is in the file of its name.

#include <algorithm>
#include <array>
#include <csignal>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/cli/verbs.h"
#include "transport/base/error.h"
#include "transport/base/log.h"
#include "transport/config/options.h"

namespace {

struct Verb {
  std::string_view name;
  int (*run)(int argc, const char* const* argv);
  std::string_view summary;
};

constexpr std::array kVerbs = {
    Verb{"run", shoal::cli::RunVerb, "Serve a model from this machine over HTTP, on any cut."},
    Verb{"chat", shoal::cli::ChatVerb, "Talk with a model in the terminal."},
    Verb{"plan", shoal::cli::PlanVerb, "Show how a model would be cut over ranks."},
    Verb{"status", shoal::cli::StatusVerb, "Show a coordinator's groups, epochs and ranks."},
    Verb{"explain", shoal::cli::ExplainVerb, "Tell what became of one request, and why."},
    Verb{"postmortem", shoal::cli::PostmortemVerb, "Tell what happened lately, and what to turn."},
    Verb{"drain", shoal::cli::DrainVerb, "Take a group out of service and keep its streams."},
    Verb{"verify", shoal::cli::VerifyVerb, "Digest a model's answers; equal for every cut."},
    Verb{"bench", shoal::cli::BenchVerb, "Measure: the engine, a server under load."},
    Verb{"convert", shoal::cli::ConvertVerb, "Write a model in another weight format."},
    Verb{"doctor", shoal::cli::DoctorVerb, "Check this machine."},
    Verb{"version", shoal::cli::VersionVerb, "Say what was built, and from what."},
};

std::string Help() {
  std::string text =
      "Usage: shoal VERB [arguments]\n"
      "\n"
      "Serves one large language model, cut over the ranks of mpirun, with the same bits at every "
      "cut.\n\n";
  for (const Verb& verb : kVerbs) {
    text += "  " + std::string(verb.name) + std::string(12 - verb.name.size(), ' ') +
            std::string(verb.summary) + "\n";
  }
  text +=
      "\n`shoal VERB --help` says more.\n"
      "\n"
      "Exit status:\n"
      "  0  done\n"
      "  1  failed while running\n"
      "  2  wrong usage or configuration, a bad or oversized model, port in use\n"
      "  3  could not join or reach the cluster\n"
      "  4  the device or instruction set asked for is not there\n";
  return text;
}

int Run(int argc, const char* const* argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "--help" || name == "-h" || name == "help") {
    std::cout << Help() << std::flush;
    return 0;
  }
  if (name == "--version") return shoal::cli::VersionVerb(1, argv);
  const auto* verb = std::find_if(kVerbs.begin(), kVerbs.end(),
                                  [&](const Verb& known) { return known.name == name; });
  if (verb != kVerbs.end()) {
    const int status = verb->run(argc - 1, argv + 1);
    if (status == 0 && !std::cout.flush()) {
      shoal::Throw(shoal::ErrorCode::kFailed, name, ": stdout cannot be written");
    }
    return status;
  }
  std::vector<std::string> names;
  std::string list;
  for (const Verb& known : kVerbs) {
    names.emplace_back(known.name);
    list += (list.empty() ? "" : ", ") + std::string(known.name);
  }
  if (name.empty()) {
    shoal::Throw(shoal::ErrorCode::kInvalidArgument, "no verb; there are ", list,
                 ": see shoal --help");
  }
  shoal::Throw(shoal::ErrorCode::kInvalidArgument, "unknown verb '", name, "'",
               shoal::config::Suggestion(name, names), "; there are ", list, ": see shoal --help");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    shoal::StartLogging("shoal");
    // Writing to a closed pipe is an error of the call that writes, not the end of the process.
    std::signal(SIGPIPE, SIG_IGN);
    return Run(argc, argv);
  } catch (const shoal::Error& error) {
    std::cerr << "shoal: " << error.what() << "\n";
    return shoal::ExitStatus(error.code());
  } catch (const std::exception& error) {
    std::cerr << "shoal: " << error.what() << "\n";
    return 1;
  }
}
