#include "transport/link/tcp/tcp_socket.h"

#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "transport/base/error.h"

// Socket options and addresses. A peer whose machine vanishes is noticed within kDeadPeerMs.

namespace shoal::link {
namespace {

constexpr int kBacklog = 1024;
constexpr int kDeadPeerMs = 10'000;       // Unacknowledged data.
constexpr int kKeepaliveIdleSeconds = 4;  // An idle connection: 4 + 3 * 2 seconds, the same bound.
constexpr int kKeepaliveIntervalSeconds = 2;
constexpr int kKeepaliveProbes = 3;

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

AddressList Resolve(const std::string& host, const std::string& port, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  if (error != 0) {
    Throw(ErrorCode::kInvalidArgument, "address ", host, ":", port, ": ", gai_strerror(error));
  }
  return {found, &freeaddrinfo};
}

void SetOption(int fd, int level, int name, int value) {
  if (setsockopt(fd, level, name, &value, sizeof(value)) != 0) {
    Throw(ErrorCode::kFailed, "socket option ", name, ": ", strerror(errno));
  }
}

void SetDataOptions(int fd) {
  SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  SetOption(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kDeadPeerMs);
  SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdleSeconds);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveIntervalSeconds);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes);
}

Socket NewSocket(const addrinfo& address) {
  Socket socket(::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) Throw(ErrorCode::kFailed, "socket: ", strerror(errno));
  return socket;
}

// Whether a failed read or write may be tried again once poll() says so.
bool IsPending(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

std::string JoinAddress(const std::string& host, uint16_t port) {
  return host.find(':') == std::string::npos ? Str(host, ":", port) : Str("[", host, "]:", port);
}

}  // namespace

Socket::Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

Socket& Socket::operator=(Socket&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Socket::~Socket() {
  if (fd_ >= 0) close(fd_);
}

TcpListener::TcpListener(Socket socket, std::string host, std::string address)
    : socket_(std::move(socket)), host_(std::move(host)), address_(std::move(address)) {}

TcpListener TcpListener::Bind(const std::string& host) {
  const AddressList addresses = Resolve(host, "0", AI_PASSIVE);
  Socket socket = NewSocket(*addresses);
  sockaddr_storage bound{};
  socklen_t length = sizeof(bound);
  if (bind(socket.fd(), addresses->ai_addr, addresses->ai_addrlen) != 0 ||
      listen(socket.fd(), kBacklog) != 0 ||
      getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&bound), &length) != 0) {
    Throw(ErrorCode::kInvalidArgument, "listen address ", host, ": ", strerror(errno),
          ": name an address of this machine");
  }
  const uint16_t port =
      ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(bound).sin6_port
                                        : reinterpret_cast<const sockaddr_in&>(bound).sin_port);
  return {std::move(socket), host, JoinAddress(host, port)};
}

Socket TcpListener::TryAccept() {
  Socket socket(accept4(socket_.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (socket.is_open()) {
    SetDataOptions(socket.fd());
  } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
    // The connection stays in the backlog, so polling would report it at once, for ever.
    Throw(ErrorCode::kFailed, "accept on ", address_, ": ", strerror(errno),
          ": raise the limit of open files (ulimit -n) or run fewer ranks on this machine");
  }
  return socket;
}

Socket TryDial(const std::string& address, Deadline deadline) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0) {
    Throw(ErrorCode::kInvalidArgument, "address '", address, "': expected host:port");
  }
  std::string host = address.substr(0, colon);
  if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  const AddressList addresses = Resolve(host, address.substr(colon + 1), 0);
  Socket socket = NewSocket(*addresses);
  SetDataOptions(socket.fd());
  if (connect(socket.fd(), addresses->ai_addr, addresses->ai_addrlen) == 0) return socket;
  int error = errno;
  if (error == EINPROGRESS && WaitForEvents(socket.fd(), POLLOUT, deadline)) {
    socklen_t length = sizeof(error);
    getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &length);
  }
  return error == 0 ? std::move(socket) : Socket();
}

bool HasRoom(const Socket& socket, int64_t bytes) {
  // Linux gives every connection's send buffer room for twice the initial window of ten segments,
  // which is more.
  constexpr int64_t kEmptyBufferBytes = 16 << 10;
  int unacknowledged = 0;
  return bytes <= kEmptyBufferBytes && ioctl(socket.fd(), SIOCOUTQ, &unacknowledged) == 0 &&
         unacknowledged == 0;
}

bool WaitForEvents(int fd, int16_t events, Deadline deadline) {
  const SteadyClock clock;
  while (!deadline.Passed(clock)) {
    pollfd entry{fd, events, 0};
    const int64_t timeout = std::min<int64_t>(deadline.RemainingMs(clock) + 1, 1000);
    if (poll(&entry, 1, static_cast<int>(timeout)) > 0) return true;
  }
  return false;
}

bool TryReadAll(const Socket& socket, std::span<std::byte> data, Deadline deadline) {
  while (!data.empty()) {
    const ssize_t count = recv(socket.fd(), data.data(), data.size(), 0);
    if (count == 0 || (count < 0 && !IsPending(errno))) return false;
    if (count > 0) data = data.subspan(static_cast<size_t>(count));
    if (count < 0 && !WaitForEvents(socket.fd(), POLLIN, deadline)) return false;
  }
  return true;
}

bool TryWriteAll(const Socket& socket, std::span<const std::byte> data, Deadline deadline) {
  while (!data.empty()) {
    const ssize_t count = send(socket.fd(), data.data(), data.size(), MSG_NOSIGNAL);
    if (count < 0 && !IsPending(errno)) return false;
    if (count > 0) data = data.subspan(static_cast<size_t>(count));
    if (count < 0 && !WaitForEvents(socket.fd(), POLLOUT, deadline)) return false;
  }
  return true;
}

}  // namespace shoal::link
