#include "transport/rpc/server/cluster_server.h"

#include <capnp/rpc-twoparty.h>
#include <glog/logging.h>
#include <kj/timer.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "transport/base/error.h"
#include "transport/rpc/connection.h"
#include "transport/rpc/convert/convert.h"
#include "transport/rpc/convert/error_map.h"
#include "transport/rpc/coordinator_link.h"
#include "transport/rpc/server/accept_loop.h"
#include "transport/rpc/server/gate_port.h"
#include "transport/rpc/server/service_port.h"

namespace shoal::rpc {

// Owns all connections. One ends when its peer hangs up, when it has not authenticated in time, or
// by Close; it is taken down in a turn of the event loop of its own, never inside a call of its
// own.
class ClusterServer::Impl : public PortHost, private kj::TaskSet::ErrorHandler {
 public:
  Impl(kj::AsyncIoContext& io, ClusterServerOptions options, RankListener& ranks,
       UpstreamListener& service)
      : timer_(io.provider->getTimer()),
        options_(std::move(options)),
        ranks_(ranks),
        service_(service),
        tasks_(*this) {
    kj::Own<kj::ConnectionReceiver> listener;
    try {
      listener = io.provider->getNetwork()
                     .parseAddress(options_.bind, options_.port)
                     .then([](kj::Own<kj::NetworkAddress>&& address) { return address->listen(); })
                     .wait(io.waitScope);
    } catch (const kj::Exception& exception) {  // The RPC boundary.
      const std::string_view why = exception.getDescription().cStr();
      if (why.find(strerror(EADDRINUSE)) != std::string_view::npos) {
        Throw(ErrorCode::kInvalidArgument, "port ", options_.port, " on ", options_.bind,
              " is in use: stop the other program or choose another --rpc-port");
      }
      Throw(ErrorCode::kInvalidArgument, "cannot listen for workers on ", options_.bind, " port ",
            options_.port, ": ", exception.getDescription().cStr(),
            "; choose another --rpc-port or --bind");
    }
    port_ = static_cast<uint16_t>(listener->getPort());
    accepting_ =
        kj::heap<AcceptLoop>(kj::mv(listener), timer_, "RPC port",
                             [this](kj::Own<kj::AsyncIoStream> stream) { Accept(kj::mv(stream)); });
  }

  // Generations that are dropped with their connections still need tasks_.
  ~Impl() noexcept override { connections_.clear(); }

  uint16_t port() const { return port_; }

  // Calls a leader, if it is still there; one that fails or does not answer is lost.
  template <typename MakeCall>
  void CallLeader(uint64_t id, MakeCall&& make_call) {
    const auto found = connections_.find(id);
    if (found == connections_.end()) return;
    KJ_IF_MAYBE (leader, found->second->leader) {
      tasks_.add(
          timer_.timeoutAfter(options_.call_timeout_ms * kj::MILLISECONDS, make_call(*leader))
              .catch_([this, id](kj::Exception&& exception) {
                Lose(id, Str("a call to it failed: ", FromKj(exception).what()));
              }));
    }
  }

  void Close(uint64_t id) {
    const auto found = connections_.find(id);
    if (found == connections_.end()) return;
    found->second->registered = false;  // Whoever closes it need not be told.
    found->second->closing = true;
    found->second->closer->fulfill();
  }

  const ClusterServerOptions& options() const override { return options_; }
  RankListener& ranks() override { return ranks_; }

  void Authenticated(uint64_t id) override { connections_.at(id)->authenticated = true; }

  bool BeginRegistration(uint64_t id, kj::Maybe<wire::Leader::Client> leader) override {
    Connection& connection = *connections_.at(id);
    if (connection.registered) return false;
    connection.registered = true;
    connection.leader = kj::mv(leader);
    return true;
  }

  void EndRegistration(uint64_t id, bool accepted) override {
    if (accepted) {
      // Others, which may read slowly, keep the time of a call.
      TuneSocket(*connections_.at(id)->stream, kRankSocketTimeoutMs);
      return;
    }
    connections_.at(id)->registered = false;
    connections_.at(id)->leader = nullptr;
  }

  wire::Coordinator::Client MakeService(uint64_t id, std::string api_key) override {
    auto use = std::make_shared<ServiceUse>();
    use->last_call = timer_.now();
    connections_.at(id)->use = use;
    return MakeServicePort(service_, tasks_, options_, timer_, std::move(api_key), std::move(use));
  }

 private:
  struct Connection {
    Connection(kj::Own<kj::AsyncIoStream> accepted, wire::Gate::Client gate,
               kj::Own<kj::PromiseFulfiller<void>> close)
        : stream(kj::mv(accepted)),
          network(*stream, ::capnp::rpc::twoparty::Side::SERVER, MessageLimits()),
          system(::capnp::makeRpcServer(network, kj::mv(gate))),
          closer(kj::mv(close)) {
      system.setFlowLimit(kFlowBytesMax / sizeof(::capnp::word));
    }

    kj::Own<kj::AsyncIoStream> stream;
    ::capnp::TwoPartyVatNetwork network;
    ::capnp::RpcSystem<::capnp::rpc::twoparty::VatId> system;
    kj::Own<kj::PromiseFulfiller<void>> closer;
    bool authenticated = false;
    bool closing = false;  // It ends in a turn of the event loop to come.
    bool registered = false;
    std::shared_ptr<ServiceUse> use;  // Null: it is no upstream program's.
    kj::Maybe<wire::Leader::Client> leader;

    // Whether it can go without harm to anything under way.
    bool is_idle() const { return use != nullptr && use->live == 0 && !registered && !closing; }
  };

  void Accept(kj::Own<kj::AsyncIoStream> stream) {
    if (connections_.size() >= options_.connections_max && !MakeRoom()) {
      LOG_EVERY_T(WARNING, 10) << "RPC port: " << connections_.size()
                               << " connections, one more is refused";
      return;
    }
    TuneSocket(*stream, options_.call_timeout_ms);
    const uint64_t id = next_connection_++;
    auto closing = kj::newPromiseAndFulfiller<void>();
    auto connection =
        kj::heap<Connection>(kj::mv(stream), MakeGate(*this, id), kj::mv(closing.fulfiller));
    auto ended = connection->network.onDisconnect().exclusiveJoin(kj::mv(closing.promise));
    connections_[id] = kj::mv(connection);
    tasks_.add(ended.then(
        [this, id] { Remove(id, "its connection closed"); },
        [this, id](kj::Exception&& exception) { Remove(id, exception.getDescription().cStr()); }));
    tasks_.add(
        timer_.afterDelay(options_.authenticate_timeout_ms * kj::MILLISECONDS).then([this, id] {
          const auto found = connections_.find(id);
          if (found != connections_.end() && !found->second->authenticated) Close(id);
        }));
  }

  // Closes the stranger that came first, or else the upstream program's connection that has been
  // idle longest. Result: false if all are ranks', or in use.
  bool MakeRoom() {
    // The ids are the order in which they came.
    const auto stranger = std::ranges::find_if(connections_, [](const auto& entry) {
      return !entry.second->authenticated && !entry.second->closing;
    });
    if (stranger != connections_.end()) {
      Close(stranger->first);
      return true;
    }
    std::optional<uint64_t> idle;
    for (const auto& [id, connection] : connections_) {
      if (!connection->is_idle()) continue;
      if (!idle || connection->use->last_call < connections_.at(*idle)->use->last_call) idle = id;
    }
    if (idle) Close(*idle);
    return idle.has_value();
  }

  void Remove(uint64_t id, const std::string& why) {
    const auto found = connections_.find(id);
    const kj::Own<Connection> connection = kj::mv(found->second);
    connections_.erase(found);
    if (connection->registered) ranks_.OnDisconnected(id, why);
  }

  // Reports a rank's end and drops its connection.
  void Lose(uint64_t id, const std::string& why) {
    const auto found = connections_.find(id);
    if (found == connections_.end()) return;
    const bool registered = found->second->registered;
    Close(id);
    if (registered) ranks_.OnDisconnected(id, why);
  }

  void taskFailed(kj::Exception&& exception) override {
    LOG(ERROR) << "RPC port: " << exception.getDescription().cStr();
  }

  kj::Timer& timer_;
  const ClusterServerOptions options_;
  RankListener& ranks_;
  UpstreamListener& service_;
  uint16_t port_ = 0;
  uint64_t next_connection_ = 1;
  std::map<uint64_t, kj::Own<Connection>> connections_;
  kj::TaskSet tasks_;
  kj::Own<AcceptLoop> accepting_;
};

ClusterServer::ClusterServer(kj::AsyncIoContext& io, ClusterServerOptions options,
                             RankListener& ranks, UpstreamListener& service)
    : impl_(kj::heap<Impl>(io, std::move(options), ranks, service)) {}

ClusterServer::~ClusterServer() = default;

uint16_t ClusterServer::port() const { return impl_->port(); }

void ClusterServer::Submit(uint64_t connection, uint64_t epoch, const SequenceRequest& request) {
  impl_->CallLeader(connection, [&](wire::Leader::Client& leader) {
    auto message = leader.submitRequest();
    message.setEpoch(epoch);
    Write(request, message);
    return message.send().ignoreResult();
  });
}

void ClusterServer::Release(uint64_t connection, uint64_t epoch, uint64_t id) {
  impl_->CallLeader(connection, [&](wire::Leader::Client& leader) {
    auto request = leader.releaseRequest();
    request.setEpoch(epoch);
    request.setId(id);
    return request.send().ignoreResult();
  });
}

void ClusterServer::Cancel(uint64_t connection, uint64_t epoch, uint64_t id) {
  impl_->CallLeader(connection, [&](wire::Leader::Client& leader) {
    auto request = leader.cancelRequest();
    request.setEpoch(epoch);
    request.setId(id);
    return request.send().ignoreResult();
  });
}

void ClusterServer::Stop(uint64_t connection, uint64_t epoch) {
  impl_->CallLeader(connection, [&](wire::Leader::Client& leader) {
    auto request = leader.stopRequest();
    request.setEpoch(epoch);
    return request.send().ignoreResult();
  });
}

void ClusterServer::Close(uint64_t connection) { impl_->Close(connection); }

}  // namespace shoal::rpc
