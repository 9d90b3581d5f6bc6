#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/patience.h"
#include "transport/base/error.h"
#include "transport/link/tcp/tcp_exchange.h"
#include "transport/link/tcp/tcp_hello.h"
#include "transport/link/tcp/tcp_mesh.h"
#include "transport/link/tcp/tcp_socket.h"

// TCP between threads of this process, over loopback.

namespace shoal::link {
namespace {

Deadline Soon(int64_t milliseconds = test::kPatienceMs) {
  return Deadline::After(SteadyClock(), milliseconds);
}

ErrorCode CodeOf(const std::function<void()>& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::kFailed;
}

struct Pair {
  Socket a;
  Socket b;
};

Pair Connect() {
  int fds[2];
  SHOAL_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
  return {Socket(fds[0]), Socket(fds[1])};
}

TEST(Hello, ProvesTheTokenToBothSides) {
  const HelloChallenge challenge = MakeChallenge();
  const HelloAnswer answer = MakeAnswer("token", challenge, 1, 0);
  EXPECT_TRUE(IsChallenge(challenge));
  EXPECT_TRUE(IsAnswer("token", challenge, answer));
  const HelloConfirmation confirmation = MakeConfirmation("token", challenge, answer);
  EXPECT_TRUE(IsConfirmation("token", challenge, answer, confirmation));
  EXPECT_FALSE(IsAnswer("other", challenge, answer));
  EXPECT_FALSE(IsConfirmation("other", challenge, answer, confirmation));
}

TEST(Hello, IsWorthNothingForAnotherRankOrConnection) {
  const HelloChallenge challenge = MakeChallenge();
  HelloAnswer answer = MakeAnswer("token", challenge, 1, 0);
  EXPECT_FALSE(IsAnswer("token", MakeChallenge(), answer));
  EXPECT_FALSE(IsConfirmation("token", challenge, answer, {answer.code}));
  answer.from = 2;
  EXPECT_FALSE(IsAnswer("token", challenge, answer));
}

TEST(RandomToken, DiffersEachTime) {
  EXPECT_EQ(RandomToken().size(), 32);
  EXPECT_NE(RandomToken(), RandomToken());
}

TEST(TryDial, NamesAnAddressItCannotRead) {
  EXPECT_EQ(CodeOf([] { TryDial("nowhere", Soon()); }), ErrorCode::kInvalidArgument);
}

TEST(TcpListener, NamesAnAddressThisMachineLacks) {
  // A documentation address (RFC 5737): no machine has it.
  EXPECT_EQ(CodeOf([] { TcpListener::Bind("192.0.2.1"); }), ErrorCode::kInvalidArgument);
}

TEST(HasRoom, IsTrueOnlyForWhatTheKernelTakesFromAPeerThatDoesNotRead) {
  TcpListener listener = TcpListener::Bind("127.0.0.1");
  const Socket writer = TryDial(listener.address(), Soon());
  ASSERT_TRUE(WaitForEvents(listener.fd(), POLLIN, Soon()));
  const Socket reader = listener.TryAccept();
  EXPECT_FALSE(HasRoom(writer, 1 << 30));
  // Until both ends' buffers are full. The kernel acknowledges in its own time, so that a false in
  // between is none of the end.
  const std::vector<std::byte> bytes(16 << 10);
  const Deadline passed{0};
  EXPECT_TRUE(HasRoom(writer, static_cast<int64_t>(bytes.size())));
  bool full = false;
  for (int i = 0; i < 4096 && !full; ++i) {
    const bool room = HasRoom(writer, static_cast<int64_t>(bytes.size()));
    full = !TryWriteAll(writer, bytes, passed);
    EXPECT_FALSE(room && full) << "after " << i << " writes";
  }
  EXPECT_TRUE(full);
  EXPECT_FALSE(HasRoom(writer, 1));
}

TEST(ConnectMesh, ConnectsRanksPastStrangers) {
  TcpListener listeners[2] = {TcpListener::Bind("127.0.0.1"), TcpListener::Bind("127.0.0.1")};
  const std::vector<std::string> addresses = {listeners[0].address(), listeners[1].address()};
  // One says nothing, one talks nonsense, one knows another token.
  const Socket silent = TryDial(addresses[0], Soon());
  const Socket loud = TryDial(addresses[0], Soon());
  const std::vector<std::byte> nonsense(sizeof(HelloAnswer), std::byte{7});
  ASSERT_TRUE(TryWriteAll(loud, nonsense, Soon()));
  std::vector<Socket> sockets[2];
  std::thread rank1([&] {
    EXPECT_EQ(CodeOf([&] {
                ConnectMesh({.rank = 1, .addresses = addresses, .token = "wrong"}, listeners[1],
                            Soon(300));
              }),
              ErrorCode::kDeadlineExceeded);
    sockets[1] =
        ConnectMesh({.rank = 1, .addresses = addresses, .token = "token"}, listeners[1], Soon());
  });
  sockets[0] =
      ConnectMesh({.rank = 0, .addresses = addresses, .token = "token"}, listeners[0], Soon());
  rank1.join();
  const std::byte sent{42};
  std::byte received{};
  ASSERT_TRUE(TryWriteAll(sockets[0][1], {&sent, 1}, Soon()));
  ASSERT_TRUE(TryReadAll(sockets[1][0], {&received, 1}, Soon()));
  EXPECT_EQ(received, sent);
  // The connection that sent nonsense was closed.
  std::vector<std::byte> challenge(sizeof(HelloChallenge) + 1);
  EXPECT_FALSE(TryReadAll(loud, challenge, Soon()));
}

TEST(ConnectMesh, NamesTheRankThatIsMissing) {
  TcpListener listener = TcpListener::Bind("127.0.0.1");
  try {
    ConnectMesh({.rank = 0, .addresses = {listener.address(), "127.0.0.1:1"}, .token = "token"},
                listener, Soon(50));
    FAIL() << "connected to nobody";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDeadlineExceeded);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("rank 1 did not connect"));
  }
}

TEST(ConnectMesh, EndsWhenWoken) {
  TcpListener listener = TcpListener::Bind("127.0.0.1");
  const Socket wake(eventfd(1, EFD_CLOEXEC));
  const MeshPlan plan{.rank = 0,
                      .addresses = {listener.address(), "127.0.0.1:1"},
                      .token = "token",
                      .wake_fd = wake.fd()};
  EXPECT_EQ(CodeOf([&] { ConnectMesh(plan, listener, Soon()); }), ErrorCode::kPeerLost);
}

// Runs one exchange with a single peer.
ExchangeOutcome ExchangeWith(const Socket& socket, std::span<const std::byte> send,
                             std::span<std::byte> receive, const ExchangeOptions& options) {
  PeerTransfer transfer{.peer = 5, .fd = socket.fd(), .send = send, .receive = receive};
  return Exchange({&transfer, 1}, options);
}

TEST(Exchange, MovesMoreThanTheBuffersHoldBothWaysAtOnce) {
  const Pair pair = Connect();
  const std::vector<std::byte> a(5'000'000, std::byte{1});
  const std::vector<std::byte> b(5'000'000, std::byte{2});
  std::vector<std::byte> from_a(b.size());
  std::vector<std::byte> from_b(a.size());
  const ExchangeOptions options{.tag = 1, .deadline = Soon(), .wake_fd = -1, .policy = {}};
  std::thread other(
      [&] { EXPECT_EQ(ExchangeWith(pair.b, b, from_a, options).end, ExchangeEnd::kDone); });
  EXPECT_EQ(ExchangeWith(pair.a, a, from_b, options).end, ExchangeEnd::kDone);
  other.join();
  EXPECT_EQ(from_a, a);
  EXPECT_EQ(from_b, b);
}

TEST(Exchange, TellsWhyItEnded) {
  std::byte one{};
  const ExchangeOptions options{.tag = 1, .deadline = Soon(), .wake_fd = -1, .policy = {}};
  {
    Pair pair = Connect();
    pair.b = Socket();
    const ExchangeOutcome outcome = ExchangeWith(pair.a, {}, {&one, 1}, options);
    EXPECT_EQ(outcome.end, ExchangeEnd::kPeerLost);
    EXPECT_EQ(outcome.peer, 5);
  }
  {
    const Pair pair = Connect();
    const MessageHeader other_tag{.tag = 2, .bytes = 1};
    ASSERT_TRUE(TryWriteAll(pair.b, std::as_bytes(std::span(&other_tag, 1)), Soon()));
    EXPECT_EQ(ExchangeWith(pair.a, {}, {&one, 1}, options).end, ExchangeEnd::kMismatch);
  }
  {
    const Pair pair = Connect();
    ExchangeOptions late = options;
    late.deadline = Soon(20);
    EXPECT_EQ(ExchangeWith(pair.a, {}, {&one, 1}, late).end, ExchangeEnd::kDeadlineExceeded);
  }
  {
    const Pair pair = Connect();
    const Socket wake(eventfd(1, EFD_CLOEXEC));
    ExchangeOptions woken = options;
    woken.wake_fd = wake.fd();
    EXPECT_EQ(ExchangeWith(pair.a, {}, {&one, 1}, woken).end, ExchangeEnd::kWoken);
  }
}

}  // namespace
}  // namespace shoal::link
