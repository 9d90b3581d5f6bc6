#include "parallel/comm/make_communicator.h"

#include <string>
#include <utility>
#include <vector>

#include "parallel/comm/mpi/mpi_communicator.h"
#include "parallel/comm/shm/shm_communicator.h"
#include "parallel/comm/tcp/tcp_communicator.h"
#include "transport/base/error.h"
#include "transport/link/tcp/tcp_hello.h"

// Lets the ranks of one MPI job find each other.

namespace shoal::comm {
namespace {

bool OnOneMachine(const MpiEnvironment& environment) {
  return environment.local_size() == environment.size();
}

std::unique_ptr<Communicator> MakeShm(MpiEnvironment& environment, const CommunicatorPlan& plan) {
  const int32_t size = environment.size();
  if (!OnOneMachine(environment)) {
    Throw(ErrorCode::kInvalidArgument, "--comm shm: expected all ", size,
          " ranks on one machine, found ", environment.local_size(),
          " on this one: use --comm tcp");
  }
  const bool makes = environment.rank() == 0;
  std::shared_ptr<ShmGroup> group;
  const std::string own_token = makes ? link::RandomToken() : std::string();
  if (makes) group = ShmGroup::MakeNamed(size, own_token);
  // Only rank 0's texts matter.
  const std::vector<std::string> paths =
      environment.AllGather(makes ? group->path() : std::string(), plan.deadline);
  const std::vector<std::string> tokens = environment.AllGather(own_token, plan.deadline);
  if (!makes) group = ShmGroup::Open(paths[0], size, tokens[0]);
  auto comm = std::make_unique<ShmCommunicator>(group, environment.rank(), plan.threads_per_rank);
  comm->SetDeadline(plan.deadline);
  comm->Barrier();
  group->Seal();
  return comm;
}

std::unique_ptr<Communicator> MakeTcp(MpiEnvironment& environment, const CommunicatorPlan& plan) {
  if (plan.listen_host.empty() && !OnOneMachine(environment)) {
    Throw(ErrorCode::kInvalidArgument,
          "--comm tcp: the ranks are on several machines: name the "
          "address on which this one listens for the others");
  }
  link::TcpListener listener =
      link::TcpListener::Bind(plan.listen_host.empty() ? "127.0.0.1" : plan.listen_host);
  link::MeshPlan mesh{.rank = environment.rank(), .addresses = {}, .token = {}};
  mesh.addresses = environment.AllGather(listener.address(), plan.deadline);
  const std::vector<std::string> tokens =
      environment.AllGather(environment.rank() == 0 ? link::RandomToken() : "", plan.deadline);
  mesh.token = plan.token + "/" + tokens[0];
  return TcpCommunicator::Connect(mesh, listener, environment.local_size(), plan.threads_per_rank,
                                  plan.deadline);
}

}  // namespace

std::unique_ptr<Communicator> MakeCommunicator(MpiEnvironment& environment,
                                               const CommunicatorPlan& plan) {
  if (environment.size() == 1) {
    auto comm =
        std::make_unique<ShmCommunicator>(ShmGroup::MakeAnonymous(1), 0, plan.threads_per_rank);
    comm->SetDeadline(plan.deadline);
    return comm;
  }
  switch (plan.kind) {
    case CommKind::kAuto:
      return OnOneMachine(environment) ? MakeShm(environment, plan) : MakeTcp(environment, plan);
    case CommKind::kShm:
      return MakeShm(environment, plan);
    case CommKind::kTcp:
      return MakeTcp(environment, plan);
    case CommKind::kMpi:
      return MakeMpiCommunicator(environment, plan.deadline);
  }
  Throw(ErrorCode::kInvalidArgument, "communicator kind ", static_cast<int>(plan.kind));
}

}  // namespace shoal::comm
