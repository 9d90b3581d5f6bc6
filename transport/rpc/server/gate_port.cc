#include "transport/rpc/server/gate_port.h"

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "transport/base/error.h"
#include "transport/rpc/convert/convert.h"
#include "transport/rpc/convert/error_map.h"
#include "transport/rpc/secret.h"

namespace shoal::rpc {

namespace {

void RequireEpoch(bool taken, uint64_t epoch) {
  if (!taken) Throw(ErrorCode::kPeerFailed, "epoch ", epoch, " is over: this group was given up");
}

// More of a rank's last words is cut off.
constexpr size_t kFaultBytesMax = 512;

// What a rank of another release may call otherwise is a rank that died; and so is one that says
// that it was drained, which is the coordinator's to say.
LossCause ReadCause(::capnp::Text::Reader name) {
  for (int i = 0; i < kLossCauses; ++i) {
    const auto cause = static_cast<LossCause>(i);
    if (ToString(name) == ToString(cause) && cause != LossCause::kDrained) return cause;
  }
  return LossCause::kRankDied;
}

// In whole characters.
std::string ReadFault(::capnp::Text::Reader message) {
  std::string text = ToString(message);
  if (text.size() <= kFaultBytesMax) return text;
  size_t end = kFaultBytesMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  text.resize(end);
  return text;
}

class RankSession : public wire::RankSession::Server {
 public:
  RankSession(PortHost& host, uint64_t connection) : host_(host), connection_(connection) {}

  kj::Promise<void> heartbeat(HeartbeatContext context) override {
    return TranslateErrors([&] {
      const auto params = context.getParams();
      RequireEpoch(host_.ranks().OnHeartbeat(connection_, params.getEpoch(), params.getProgress(),
                                             params.getPending()),
                   params.getEpoch());
      return kj::Promise<void>(kj::READY_NOW);
    });
  }

  kj::Promise<void> drain(DrainContext context) override {
    return TranslateErrors([&] {
      const uint64_t epoch = context.getParams().getEpoch();
      RequireEpoch(host_.ranks().OnDrain(connection_, epoch), epoch);
      return kj::Promise<void>(kj::READY_NOW);
    });
  }

  kj::Promise<void> fault(FaultContext context) override {
    return TranslateErrors([&] {
      const auto params = context.getParams();
      RequireEpoch(
          host_.ranks().OnFault(connection_, params.getEpoch(), ReadCause(params.getCause()),
                                ReadFault(params.getMessage())),
          params.getEpoch());
      return kj::Promise<void>(kj::READY_NOW);
    });
  }

 private:
  PortHost& host_;
  const uint64_t connection_;
};

class UpdateSink : public wire::UpdateSink::Server {
 public:
  UpdateSink(PortHost& host, uint64_t connection) : host_(host), connection_(connection) {}

  kj::Promise<void> update(UpdateContext context) override {
    return TranslateErrors([&] {
      const auto params = context.getParams();
      std::vector<SequenceUpdate> updates;
      for (const auto update : params.getSequences()) updates.push_back(Read(update));
      RequireEpoch(host_.ranks().OnUpdates(connection_, params.getEpoch(), std::move(updates),
                                           Read(params.getStats()), Read(params.getPrefixes())),
                   params.getEpoch());
      return kj::Promise<void>(kj::READY_NOW);
    });
  }

  kj::Promise<void> handOver(HandOverContext context) override {
    return TranslateErrors([&] {
      const auto params = context.getParams();
      std::vector<HeldStream> streams;
      for (const auto held : params.getStreams()) streams.push_back(Read(held));
      RequireEpoch(host_.ranks().OnHandOver(connection_, params.getEpoch(), std::move(streams),
                                            params.getLast()),
                   params.getEpoch());
      return kj::Promise<void>(kj::READY_NOW);
    });
  }

  kj::Promise<void> done(DoneContext) override { return kj::READY_NOW; }

 private:
  PortHost& host_;
  const uint64_t connection_;
};

wire::Refusal::Reason ToWire(RegisterOutcome::Kind kind) {
  switch (kind) {
    case RegisterOutcome::Kind::kMismatch:
      return wire::Refusal::Reason::MISMATCH;
    case RegisterOutcome::Kind::kStale:
      return wire::Refusal::Reason::STALE;
    case RegisterOutcome::Kind::kAccepted:
    case RegisterOutcome::Kind::kRetry:
      break;
  }
  return wire::Refusal::Reason::RETRY;
}

class WorkerPort : public wire::WorkerPort::Server {
 public:
  WorkerPort(PortHost& host, uint64_t connection) : host_(host), connection_(connection) {}

  // `register` in the schema; the generated name avoids the keyword.
  kj::Promise<void> register_(RegisterContext context) override {
    return TranslateErrors([&] {
      const RankRegistration rank = Read(context.getParams().getRank());
      kj::Maybe<wire::Leader::Client> leader;
      if (rank.rank == 0) {
        if (!context.getParams().hasLeader()) {
          Throw(ErrorCode::kInvalidArgument, "rank 0 registered without a leader capability");
        }
        leader = context.getParams().getLeader();
      }
      if (!host_.BeginRegistration(connection_, kj::mv(leader))) {
        Throw(ErrorCode::kInvalidArgument, "this connection has registered a rank already");
      }
      const RegisterOutcome reply = host_.ranks().OnRegister(connection_, rank);
      const bool accepted = reply.kind == RegisterOutcome::Kind::kAccepted;
      host_.EndRegistration(connection_, accepted);
      auto outcome = context.getResults().initOutcome();
      if (!accepted) {
        auto refused = outcome.initRefused();
        refused.setReason(ToWire(reply.kind));
        refused.setMessage(ToText(reply.message));
        return kj::Promise<void>(kj::READY_NOW);
      }
      auto answer = outcome.initAccepted();
      answer.setEpoch(reply.epoch);
      answer.setGroup(reply.group);
      answer.setSession(kj::heap<RankSession>(host_, connection_));
      if (rank.rank == 0) answer.setUpdates(kj::heap<UpdateSink>(host_, connection_));
      answer.setHeartbeatMs(static_cast<uint32_t>(host_.options().heartbeat_ms));
      answer.setContinued(reply.continued);
      answer.setOrphanGraceMs(static_cast<uint32_t>(reply.orphan_grace_ms));
      answer.setDrainTimeoutMs(static_cast<uint32_t>(reply.drain_timeout_ms));
      return kj::Promise<void>(kj::READY_NOW);
    });
  }

 private:
  PortHost& host_;
  const uint64_t connection_;
};

class Gate : public wire::Gate::Server {
 public:
  Gate(PortHost& host, uint64_t connection) : host_(host), connection_(connection) {}

  kj::Promise<void> joinAsWorker(JoinAsWorkerContext context) override {
    const auto params = context.getParams();
    const auto token = params.getGroupToken().asChars();
    const std::string refusal = FindRefusal(
        params.getProtocol(),
        SecretsEqual(std::string_view(token.begin(), token.size()), host_.options().group_token),
        "the group token is wrong: give workers and coordinator the same --group-token-file");
    if (refusal.empty()) {
      host_.Authenticated(connection_);
      context.getResults().setPort(kj::heap<WorkerPort>(host_, connection_));
    } else {
      context.getResults().setRefusal(refusal);
    }
    return kj::READY_NOW;
  }

  kj::Promise<void> openService(OpenServiceContext context) override {
    const auto params = context.getParams();
    const FindCaller& find = host_.options().find_caller;
    std::string api_key = ToString(params.getApiKey());
    const std::string refusal =
        FindRefusal(params.getProtocol(), !find || find(api_key), "the API key is unknown");
    if (refusal.empty()) {
      host_.Authenticated(connection_);
      context.getResults().setCoordinator(host_.MakeService(connection_, std::move(api_key)));
    } else {
      context.getResults().setRefusal(refusal);
    }
    return kj::READY_NOW;
  }

 private:
  static std::string FindRefusal(uint32_t protocol, bool known, std::string_view unknown) {
    if (!known) return std::string(unknown);
    if (protocol == wire::PROTOCOL_VERSION) return "";
    return Str("protocol version ", protocol, " met version ", uint32_t{wire::PROTOCOL_VERSION},
               ": use programs of one release");
  }

  PortHost& host_;
  const uint64_t connection_;
};

}  // namespace

wire::Gate::Client MakeGate(PortHost& host, uint64_t connection) {
  return kj::heap<Gate>(host, connection);
}

}  // namespace shoal::rpc
