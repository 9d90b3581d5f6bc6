#pragma once

// TCP sockets for the data path: never blocking, never delayed, noticing dead peers.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "transport/base/clock.h"

namespace shoal::link {

// Owns a file descriptor.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();

  int fd() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// Waits for connections on one address.
class TcpListener {
 public:
  // Binds `host`, a numeric address or a name, to a port that the system chooses.
  // Errors: kInvalidArgument if this machine does not have that address.
  static TcpListener Bind(const std::string& host);

  // "host:port" for TryDial; an IPv6 host stands in brackets.
  const std::string& address() const { return address_; }
  const std::string& host() const { return host_; }
  int fd() const { return socket_.fd(); }
  // A connection, if one is there.
  Socket TryAccept();

 private:
  TcpListener(Socket socket, std::string host, std::string address);

  Socket socket_;
  std::string host_;
  std::string address_;
};

// A connection to "host:port", or a closed socket if nobody listens there now or until the
// deadline. Errors: kInvalidArgument for an address that cannot be read or resolved.
Socket TryDial(const std::string& address, Deadline deadline);

// Reads or writes all of `data` of a non-blocking socket; false if the connection or the time ends
// first.
bool TryReadAll(const Socket& socket, std::span<std::byte> data, Deadline deadline);
bool TryWriteAll(const Socket& socket, std::span<const std::byte> data, Deadline deadline);

// True if the kernel takes so many bytes whether the peer reads or not. May be false where it
// would.
bool HasRoom(const Socket& socket, int64_t bytes);

// Waits until poll() would report `events` for the descriptor, at most until the deadline.
bool WaitForEvents(int fd, int16_t events, Deadline deadline);

}  // namespace shoal::link
