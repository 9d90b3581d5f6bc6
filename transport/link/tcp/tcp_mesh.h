#pragma once

// One connection between each two ranks of a group.

#include <cstdint>
#include <string>
#include <vector>

#include "transport/link/tcp/tcp_socket.h"

namespace shoal::link {

struct MeshPlan {
  int32_t rank = 0;
  std::vector<std::string> addresses;  // host:port of every rank's listener, in rank order.
  std::string token;                   // A secret of this group alone.
  int wake_fd = -1;                    // Readable: give up with kPeerLost. -1: nobody wakes us.
};

// The connections to all ranks, in rank order; this rank's own is closed. Each rank dials those
// below it and accepts those above. Connections that do not know the token are closed and
// forgotten. Errors: kDeadlineExceeded, naming a rank that is missing; kPeerLost when woken;
// kFailed if a dialled rank does not know the token.
std::vector<Socket> ConnectMesh(const MeshPlan& plan, TcpListener& listener, Deadline deadline);

}  // namespace shoal::link
