#include <signal.h>

#include <cstdio>
#include <exception>
#include <functional>
#include <string>

#include "parallel/comm/make_communicator.h"
#include "tests/parallel/comm/comm_suite.h"
#include "tests/support/patience.h"
#include "transport/base/error.h"

// mpi_suite_main shm|tcp|mpi suite|killed|stopped [mark]: run by mpirun. `suite` ends with 0 if
// this rank saw every promise kept. `killed` kills the last rank and `stopped` stops it; the others
// end with 0 only if nothing came of that. The mark does nothing: it lets tests find the processes.

namespace shoal::test {
namespace {

constexpr int64_t kDeadlineMs = test::kPatienceMs;

void RunSuite(comm::MpiEnvironment& environment, const comm::CommunicatorPlan& plan) {
  {
    const auto comm = comm::MakeCommunicator(environment, plan);
    for (const int64_t bytes : {0, 1, 7, 4 << 10, 64 << 10, 1 << 20}) {
      for (const SuiteCase& suite_case : SuiteCases()) suite_case.run(*comm, bytes);
    }
    RunRandomSequence(*comm, 3, 100);
  }
  RunAbort(*comm::MakeCommunicator(environment, plan));
  RunSplitAbort(*comm::MakeCommunicator(environment, plan));
  // A group that failed does not keep the job from starting another.
  comm::MakeCommunicator(environment, plan)->Barrier();
}

void RunWithout(comm::MpiEnvironment& environment, const comm::CommunicatorPlan& plan, int signal) {
  const auto comm = comm::MakeCommunicator(environment, plan);
  comm->Barrier();
  if (comm->rank() == comm->size() - 1) raise(signal);
  comm->SetDeadline(Deadline::After(SteadyClock(), signal == SIGSTOP ? 300 : kDeadlineMs));
  comm->Barrier();
}

comm::CommKind KindOf(const std::string& name) {
  if (name == "auto") return comm::CommKind::kAuto;
  if (name == "shm") return comm::CommKind::kShm;
  if (name == "tcp") return comm::CommKind::kTcp;
  SHOAL_CHECK(name == "mpi", "no such kind: ", name);
  return comm::CommKind::kMpi;
}

void Run(const std::string& kind, const std::string& mode) {
  comm::MpiEnvironment environment;
  comm::CommunicatorPlan plan{.kind = KindOf(kind), .token = "the suite's"};
  plan.deadline = Deadline::After(SteadyClock(), kDeadlineMs);
  if (mode == "suite") {
    RunSuite(environment, plan);
  } else {
    RunWithout(environment, plan, mode == "stopped" ? SIGSTOP : SIGKILL);
  }
}

}  // namespace
}  // namespace shoal::test

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr,
                 "usage: mpirun ... mpi_suite_main shm|tcp|mpi suite|killed|stopped [mark]\n");
    return 2;
  }
  try {
    shoal::test::Run(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
