// pipeline_main MODEL FILE STAGES ROWS: a rank of a gated pipeline over MPI, run by mpirun. FILE
// holds what the ranks share. Rank 0 prints "digest HEX".

#include <fcntl.h>
#include <sys/mman.h>

#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "parallel/comm/make_communicator.h"
#include "tests/support/trial/gated_pipeline.h"
#include "transport/base/check.h"

namespace shoal::test {
namespace {

void Run(const char* const* arguments) {
  comm::MpiEnvironment environment;
  const auto model = model::Model::Open(arguments[0]);
  const int fd = open(arguments[1], O_RDWR);
  void* memory =
      mmap(nullptr, sizeof(std::atomic<int64_t>), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  SHOAL_CHECK(memory != MAP_FAILED, arguments[1]);
  const auto group = comm::MakeCommunicator(environment, {.kind = comm::CommKind::kMpi});
  const std::string digest =
      RunGatedPipeline(*model, *group, *static_cast<std::atomic<int64_t>*>(memory),
                       {.stages = std::stoi(arguments[2]), .rows = std::stoi(arguments[3])});
  if (environment.rank() == 0) std::printf("digest %s\n", digest.c_str());
}

}  // namespace
}  // namespace shoal::test

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  try {
    shoal::test::Run(argv + 1);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
