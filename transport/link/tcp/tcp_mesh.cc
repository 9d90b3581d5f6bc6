#include "transport/link/tcp/tcp_mesh.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <list>
#include <span>
#include <utility>

#include "transport/base/error.h"
#include "transport/link/tcp/tcp_hello.h"

// Dialling comes first, accepting second. That cannot deadlock: rank 0 only accepts, and each rank
// needs only ranks below it before it accepts.

namespace shoal::link {
namespace {

constexpr size_t kStrangersMax = 64;  // Connections that have not said who they are.
constexpr int kRedialMs = 20;
constexpr int kHelloMs = 5000;  // A listener that does not confirm within this is dialled again.

template <typename T>
std::span<std::byte> BytesOf(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

// Waits at most `timeout_ms` for any of `polls`; the first stands for plan.wake_fd.
void WaitUnlessWoken(std::vector<pollfd>& polls, int64_t timeout_ms) {
  poll(polls.data(), polls.size(), static_cast<int>(std::min<int64_t>(timeout_ms + 1, 1000)));
  if ((polls[0].revents & POLLIN) != 0) {
    Throw(ErrorCode::kPeerLost, "the group was aborted while its ranks connected: start it again");
  }
}

enum class HelloEnd : uint8_t { kConfirmed, kClosed, kRefused };

HelloEnd SayHello(const Socket& socket, const MeshPlan& plan, int32_t to, Deadline deadline) {
  HelloChallenge challenge;
  if (!TryReadAll(socket, BytesOf(challenge), deadline)) return HelloEnd::kClosed;
  if (!IsChallenge(challenge)) return HelloEnd::kRefused;
  HelloAnswer answer = MakeAnswer(plan.token, challenge, plan.rank, to);
  HelloConfirmation confirmation;
  if (!TryWriteAll(socket, BytesOf(answer), deadline) ||
      !TryReadAll(socket, BytesOf(confirmation), deadline)) {
    return HelloEnd::kClosed;
  }
  return IsConfirmation(plan.token, challenge, answer, confirmation) ? HelloEnd::kConfirmed
                                                                     : HelloEnd::kRefused;
}

Socket DialRank(const MeshPlan& plan, int32_t to, Deadline deadline) {
  const SteadyClock clock;
  const std::string& address = plan.addresses[static_cast<size_t>(to)];
  while (!deadline.Passed(clock)) {
    const Deadline attempt{std::min(deadline.at, Deadline::After(clock, kHelloMs).at)};
    Socket socket = TryDial(address, attempt);
    if (socket.is_open()) {
      const HelloEnd end = SayHello(socket, plan, to, attempt);
      if (end == HelloEnd::kConfirmed) return socket;
      if (end == HelloEnd::kRefused) {
        Throw(ErrorCode::kFailed, "rank ", to, " at ", address,
              ": expected a rank of this group, found something that does not know its token");
      }
    }
    std::vector<pollfd> polls{{plan.wake_fd, POLLIN, 0}};
    WaitUnlessWoken(polls, kRedialMs);
  }
  Throw(ErrorCode::kDeadlineExceeded, "rank ", plan.rank, ": rank ", to, " at ", address,
        " did not answer: check that it runs and that nothing blocks the connection");
}

// A connection that has been sent a challenge and has not answered it completely.
struct Stranger {
  Socket socket;
  HelloChallenge challenge;
  HelloAnswer answer{};
  size_t answered = 0;
};

// Accepts the ranks above this one.
class Reception {
 public:
  Reception(const MeshPlan& plan, TcpListener& listener, std::vector<Socket>& sockets)
      : plan_(plan), listener_(listener), sockets_(sockets) {}

  void Run(Deadline deadline) {
    const SteadyClock clock;
    while (const int32_t missing = Missing()) {
      if (deadline.Passed(clock)) {
        Throw(ErrorCode::kDeadlineExceeded, "rank ", plan_.rank, ": rank ", missing,
              " did not connect to ", listener_.address(),
              ": check that it runs and that nothing blocks the connection");
      }
      Wait(deadline.RemainingMs(clock));
      std::erase_if(strangers_, [&](Stranger& stranger) { return Serve(stranger); });
      Accept();
    }
  }

 private:
  // The first rank above that has not connected; 0 if all have.
  int32_t Missing() const {
    for (size_t rank = static_cast<size_t>(plan_.rank) + 1; rank < sockets_.size(); ++rank) {
      if (!sockets_[rank].is_open()) return static_cast<int32_t>(rank);
    }
    return 0;
  }

  void Wait(int64_t remaining_ms) {
    std::vector<pollfd> polls{{plan_.wake_fd, POLLIN, 0}, {listener_.fd(), POLLIN, 0}};
    for (const Stranger& stranger : strangers_) {
      polls.push_back({stranger.socket.fd(), POLLIN, 0});
    }
    WaitUnlessWoken(polls, remaining_ms);
  }

  void Accept() {
    Socket socket = listener_.TryAccept();
    if (!socket.is_open()) return;
    // Whoever has been silent longest makes room.
    if (strangers_.size() == kStrangersMax) strangers_.pop_front();
    Stranger stranger{.socket = std::move(socket), .challenge = MakeChallenge()};
    // It fits into the empty send buffer of a fresh connection.
    send(stranger.socket.fd(), &stranger.challenge, sizeof(HelloChallenge), MSG_NOSIGNAL);
    strangers_.push_back(std::move(stranger));
  }

  // Reads what the stranger sent. True if it is no stranger any more, or gone.
  bool Serve(Stranger& stranger) {
    const std::span<std::byte> rest = BytesOf(stranger.answer).subspan(stranger.answered);
    const ssize_t count = recv(stranger.socket.fd(), rest.data(), rest.size(), 0);
    if (count < 0) return errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR;
    if (count == 0) return true;
    stranger.answered += static_cast<size_t>(count);
    if (stranger.answered < sizeof(HelloAnswer)) return false;
    const HelloAnswer& answer = stranger.answer;
    const bool expected = answer.to == plan_.rank && answer.from > plan_.rank &&
                          static_cast<size_t>(answer.from) < sockets_.size();
    if (!expected || !IsAnswer(plan_.token, stranger.challenge, answer)) return true;
    const HelloConfirmation confirmation =
        MakeConfirmation(plan_.token, stranger.challenge, answer);
    send(stranger.socket.fd(), &confirmation, sizeof(confirmation), MSG_NOSIGNAL);
    // A second connection replaces the first: the dialling rank gave that one up.
    sockets_[static_cast<size_t>(answer.from)] = std::move(stranger.socket);
    return true;
  }

  const MeshPlan& plan_;
  TcpListener& listener_;
  std::vector<Socket>& sockets_;
  std::list<Stranger> strangers_;
};

}  // namespace

std::vector<Socket> ConnectMesh(const MeshPlan& plan, TcpListener& listener, Deadline deadline) {
  std::vector<Socket> sockets(plan.addresses.size());
  for (int32_t to = 0; to < plan.rank; ++to) {
    sockets[static_cast<size_t>(to)] = DialRank(plan, to, deadline);
  }
  Reception(plan, listener, sockets).Run(deadline);
  return sockets;
}

}  // namespace shoal::link
