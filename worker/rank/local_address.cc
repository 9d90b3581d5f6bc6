// Asks the kernel for its choice of source address by connecting a datagram socket.

#include "worker/rank/local_address.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>

#include "transport/base/error.h"

namespace shoal::rank {

std::string LocalAddressTowards(const std::string& peer) {
  const size_t colon = peer.rfind(':');
  const std::string host = peer.substr(0, colon);
  const std::string port = colon == std::string::npos ? "" : peer.substr(colon + 1);
  addrinfo hints = {};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  const int result = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  if (result != 0) {
    Throw(ErrorCode::kInvalidArgument, "--coordinator ", peer, ": ", gai_strerror(result));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  const int fd = socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, 0);
  sockaddr_storage own = {};
  socklen_t own_bytes = sizeof own;
  const bool known = fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) == 0 &&
                     getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_bytes) == 0;
  if (fd >= 0) close(fd);
  char text[NI_MAXHOST];
  if (!known || getnameinfo(reinterpret_cast<sockaddr*>(&own), own_bytes, text, sizeof text,
                            nullptr, 0, NI_NUMERICHOST) != 0) {
    Throw(ErrorCode::kInvalidArgument, "--coordinator ", peer, ": no network leads there");
  }
  return text;
}

std::string HostName() {
  char name[256] = {};
  if (gethostname(name, sizeof name - 1) != 0) return "unknown";
  return name;
}

}  // namespace shoal::rank
