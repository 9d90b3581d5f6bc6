#include "tests/worker/rank/fake_coordinator.h"

#include <kj/timer.h>

#include <utility>

#include "transport/base/check.h"
#include "transport/base/clock.h"

// Turns the event loop in slices, so that a test can look at child processes between them.

namespace shoal::rank {

FakeCoordinator::FakeCoordinator(uint16_t port, std::string group_token) : io_(kj::setupAsyncIo()) {
  rpc::ClusterServerOptions options;
  options.port = port;
  options.group_token = std::move(group_token);
  server_ = std::make_unique<rpc::ClusterServer>(io_, options, *this, *this);
}

FakeCoordinator::~FakeCoordinator() noexcept = default;

std::string FakeCoordinator::address() const { return Str("127.0.0.1:", port()); }

bool FakeCoordinator::RunUntil(const std::function<bool()>& done, int64_t timeout_ms) {
  const SteadyClock clock;
  const Deadline deadline = Deadline::After(clock, timeout_ms);
  while (!done()) {
    if (deadline.Passed(clock)) return false;
    io_.provider->getTimer().afterDelay(5 * kj::MILLISECONDS).wait(io_.waitScope);
  }
  return true;
}

void FakeCoordinator::Submit(uint64_t id, std::vector<int32_t> prompt,
                             const GenerationParams& params) {
  server_->Submit(leader_, kEpoch, {id, std::move(prompt), params});
}

void FakeCoordinator::Cancel(uint64_t id) { server_->Cancel(leader_, kEpoch, id); }

void FakeCoordinator::Stop() { server_->Stop(leader_, kEpoch); }

void FakeCoordinator::GiveUp() {
  given_up_ = true;
  for (const uint64_t connection : connections_) server_->Close(connection);
}

RegisterOutcome FakeCoordinator::OnRegister(uint64_t connection, const RankRegistration& rank) {
  RegisterOutcome reply;
  reply.epoch = kEpoch;
  reply.group = 1;
  if (given_up_) {
    reply.kind = RegisterOutcome::Kind::kStale;
    reply.message = "it was given up";
    return reply;
  }
  ranks[rank.rank] = rank;
  connections_.push_back(connection);
  if (rank.rank == 0) {
    leader_ = connection;
    GenerationParams params;
    params.tokens_max = 1;
    if (canary != 0) Submit(canary, {1, 2, 3}, params);
  }
  return reply;
}

bool FakeCoordinator::OnHeartbeat(uint64_t, uint64_t epoch, uint64_t, bool) {
  ++heartbeats;
  return epoch == kEpoch;
}

bool FakeCoordinator::OnUpdates(uint64_t, uint64_t epoch, std::vector<SequenceUpdate> updates,
                                const SchedulerStats& group_stats) {
  for (const SequenceUpdate& update : updates) {
    SequenceUpdate& stream = streams[update.id];
    stream.tokens.insert(stream.tokens.end(), update.tokens.begin(), update.tokens.end());
    stream.finish = update.finish;
    stream.detail = update.detail;
  }
  stats = group_stats;
  return epoch == kEpoch;
}

bool FakeCoordinator::OnHandOver(uint64_t, uint64_t epoch, std::vector<HeldStream>, bool) {
  return epoch == kEpoch;
}

bool FakeCoordinator::OnDrain(uint64_t, uint64_t epoch) { return epoch == kEpoch; }

bool FakeCoordinator::OnFault(uint64_t, uint64_t epoch, LossCause, const std::string&) {
  return epoch == kEpoch;
}

void FakeCoordinator::OnDisconnected(uint64_t, const std::string&) { ++disconnects; }

kj::Promise<kj::Own<rpc::EncodedPrompt>> FakeCoordinator::OnPrompt(const rpc::GenerateRequest&) {
  return kj::heap<rpc::EncodedPrompt>();
}

rpc::GenerateReply FakeCoordinator::OnGenerate(const rpc::GenerateRequest&, rpc::EncodedPrompt,
                                               rpc::GenerationSink&) {
  return {};
}

void FakeCoordinator::OnCancel(uint64_t) {}

std::vector<ServedModel> FakeCoordinator::OnModels() { return {}; }

RegionStatus FakeCoordinator::OnStatus() { return {}; }

std::string FakeCoordinator::OnDrainGroup(uint64_t, bool) { return ""; }

}  // namespace shoal::rank
