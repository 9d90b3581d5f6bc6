#pragma once

// A TCP connection whose every wait has an end and can be broken off. POSIX and the standard
// library only; no TLS.

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace shoal::client {

inline int64_t SteadyNowMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Breaks off whatever waits with it, for good. Now() may be called from any thread and from a
// signal handler.
class Cancel {
 public:
  Cancel() {
    if (pipe2(fds_.data(), O_CLOEXEC | O_NONBLOCK) != 0) {
      throw std::system_error(errno, std::generic_category(), "pipe2");
    }
  }
  ~Cancel() {
    close(fds_[0]);
    close(fds_[1]);
  }
  Cancel(const Cancel&) = delete;
  Cancel& operator=(const Cancel&) = delete;

  void Now() const {
    // A full pipe has said it already.
    [[maybe_unused]] const ssize_t written = write(fds_[1], "x", 1);
  }
  int fd() const { return fds_[0]; }

 private:
  std::array<int, 2> fds_{};
};

enum class Waited : uint8_t { kReady, kTimedOut, kCancelled };

// Until `fd` (-1: nothing) is ready for `events`, or that time has come.
inline Waited WaitFor(int fd, int16_t events, int64_t until_ms, const Cancel* cancel) {
  while (true) {
    std::array<pollfd, 2> waited = {{{fd, events, 0}, {cancel ? cancel->fd() : -1, POLLIN, 0}}};
    const int64_t left_ms = std::clamp<int64_t>(until_ms - SteadyNowMs(), 0, INT32_MAX);
    const int count = poll(waited.data(), waited.size(), static_cast<int>(left_ms));
    if (count < 0 && errno != EINTR)
      throw std::system_error(errno, std::generic_category(), "poll");
    if (count > 0 && waited[1].revents != 0) return Waited::kCancelled;
    if (count > 0 && waited[0].revents != 0) return Waited::kReady;
    if (SteadyNowMs() >= until_ms) return Waited::kTimedOut;
  }
}

// Why a socket gave up.
struct SocketError : std::runtime_error {
  SocketError(Waited outcome, const std::string& message)
      : std::runtime_error(message), waited(outcome) {}

  Waited waited;  // kReady: the other side ended it, or is not there.
};

using SocketAddresses = std::shared_ptr<addrinfo>;

// A number is read at once. For a name the system's resolver is asked on a thread of its own,
// because it knows no deadline: one that is given up ends when the resolver does.
inline SocketAddresses ResolveAddress(const std::string& host, const std::string& port,
                                      int64_t until_ms) {
  const auto ask = [host, port](int flags) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = flags | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
    return std::pair(error, SocketAddresses(error == 0 ? found : nullptr, [](addrinfo* list) {
                       if (list != nullptr) freeaddrinfo(list);
                     }));
  };
  auto [error, addresses] = ask(AI_NUMERICHOST);
  if (error != 0) {
    std::promise<std::pair<int, SocketAddresses>> promise;
    auto future = promise.get_future();
    std::thread([ask, promise = std::move(promise)]() mutable {
      promise.set_value(ask(0));
    }).detach();
    const auto left = std::chrono::milliseconds(std::max<int64_t>(0, until_ms - SteadyNowMs()));
    if (future.wait_for(left) != std::future_status::ready) {
      throw SocketError(Waited::kTimedOut, host + ": the name was not resolved in time");
    }
    std::tie(error, addresses) = future.get();
  }
  if (error != 0) throw SocketError(Waited::kReady, host + ": " + gai_strerror(error));
  return addresses;
}

class HttpSocket {
 public:
  // Tries every address of the host. Errors of all: SocketError.
  HttpSocket(const std::string& host, const std::string& port, int64_t until_ms,
             const Cancel* cancel)
      : name_(host + ":" + port), cancel_(cancel) {
    const SocketAddresses addresses = ResolveAddress(host, port, until_ms);
    int error = ECONNREFUSED;
    for (const addrinfo* at = addresses.get(); at != nullptr; at = at->ai_next) {
      error = Connect(*at, until_ms);
      if (error == 0) return;
    }
    throw SocketError(Waited::kReady, name_ + ": " + std::strerror(error));
  }
  ~HttpSocket() { Close(); }
  HttpSocket(const HttpSocket&) = delete;
  HttpSocket& operator=(const HttpSocket&) = delete;

  // Result: false if the other side takes no more; it may have said why.
  bool Write(std::string_view bytes, int64_t silence_ms, int64_t end_ms) {
    while (!bytes.empty()) {
      const ssize_t size = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (size >= 0) {
        bytes.remove_prefix(static_cast<size_t>(size));
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        Wait(POLLOUT, std::min(end_ms, SteadyNowMs() + silence_ms), "it takes no more");
      } else if (errno != EINTR) {
        return false;
      }
    }
    return true;
  }
  // Result: empty once the other side has closed.
  std::string_view Read(int64_t silence_ms, int64_t end_ms) {
    const int64_t until_ms = std::min(end_ms, SteadyNowMs() + silence_ms);
    while (true) {
      const ssize_t size = recv(fd_, buffer_.data(), buffer_.size(), 0);
      if (size >= 0) return {buffer_.data(), static_cast<size_t>(size)};
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        Wait(POLLIN, until_ms, "it says nothing");
      } else if (errno != EINTR) {
        throw SocketError(Waited::kReady, name_ + ": " + std::strerror(errno));
      }
    }
  }

 private:
  // Result: an errno, 0 if it is connected.
  int Connect(const addrinfo& address, int64_t until_ms) {
    Close();
    fd_ = socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd_ < 0) return errno;
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(fd_, address.ai_addr, address.ai_addrlen) == 0) return 0;
    if (errno != EINPROGRESS && errno != EINTR) return errno;
    Wait(POLLOUT, until_ms, "no connection");
    int error = 0;
    socklen_t size = sizeof(error);
    return getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
  }
  void Wait(int16_t events, int64_t until_ms, const char* what) {
    const Waited waited = WaitFor(fd_, events, until_ms, cancel_);
    if (waited == Waited::kReady) return;
    throw SocketError(waited, name_ + (waited == Waited::kCancelled
                                           ? std::string(": cancelled")
                                           : std::string(": ") + what + ", and the time is over"));
  }
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

  const std::string name_;
  const Cancel* const cancel_;
  int fd_ = -1;
  std::vector<char> buffer_ = std::vector<char>(64 << 10);
};

}  // namespace shoal::client
