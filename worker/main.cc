// shoal-worker: one rank of a group, and the verbs that need kernels.

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string_view>

#include "kernels/cpu/table.h"
#include "transport/base/error.h"
#include "transport/base/host/descriptors.h"
#include "transport/base/log.h"
#include "worker/rank/rank_process.h"
#include "worker/rank/serving/parent_watch.h"
#include "worker/rank/serving/stop_signal.h"
#include "worker/tools/kernel_report.h"
#include "worker/tools/verbs.h"

namespace {

int PrintKernels() {
  const uint32_t features = shoal::cpu::DetectCpuFeatures();
  std::cout << shoal::rank::KernelReport(shoal::cpu::AllKernelTables(), features) << std::flush;
  // As any other verb would find.
  const char* force_isa = std::getenv("SHOAL_FORCE_ISA");
  shoal::cpu::SelectKernelTable(features, force_isa == nullptr ? "" : force_isa);
  return 0;
}

int RunRank(int argc, char** argv) {
  const shoal::rank::StopSignal stop;
  const shoal::rank::ProcessEnd end = shoal::rank::RunRankProcess(argc, argv, stop);
  if (end.abruptly) {
    std::cout.flush();
    _exit(end.status);
  }
  return end.status;
}

}  // namespace

int main(int argc, char** argv) {
  shoal::rank::EndWithLauncher();
  try {
    shoal::StartLogging("shoal-worker");
    shoal::RaiseDescriptorLimit();
    const std::string_view verb = argc > 1 ? argv[1] : "";
    if (verb == "kernels") return PrintKernels();
    if (verb == "verify") return shoal::rank::RunVerify(argc - 1, argv + 1);
    if (verb == "perplexity") return shoal::rank::RunPerplexity(argc - 1, argv + 1);
    if (verb == "convert") return shoal::rank::RunConvert(argc - 1, argv + 1);
    if (verb == "bench" && argc > 2 && std::string_view(argv[2]) == "engine") {
      return shoal::rank::RunBenchEngine(argc - 2, argv + 2);
    }
    return RunRank(argc, argv);
  } catch (const shoal::Error& error) {
    std::cerr << "shoal-worker: " << error.what() << std::endl;
    return shoal::ExitStatus(error.code());
  } catch (const std::exception& error) {
    std::cerr << "shoal-worker: " << error.what() << std::endl;
    return 1;
  }
}
