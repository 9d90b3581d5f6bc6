#pragma once

// The coordinator's RPC port without a coordinator: takes every rank, and does to groups what the
// test says.

#include <kj/async-io.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/patience.h"
#include "transport/rpc/server/cluster_server.h"

namespace shoal::rank {

// Threading: everything on the test's thread; RunUntil lets the event loop turn.
class FakeCoordinator : public rpc::RankListener, public rpc::UpstreamListener {
 public:
  // `epoch`: of the one group that it takes.
  explicit FakeCoordinator(uint16_t port = 0, std::string group_token = "", uint64_t epoch = 3);
  ~FakeCoordinator() noexcept override;

  uint16_t port() const { return server_->port(); }
  std::string address() const;

  // Until `done` or the deadline. Result: whether it came true.
  bool RunUntil(const std::function<bool()>& done, int64_t timeout_ms = test::kPatienceMs);

  void Submit(uint64_t id, std::vector<int32_t> prompt, const GenerationParams& params);
  void Submit(const SequenceRequest& request);
  void Cancel(uint64_t id);
  void Release(uint64_t id);
  void Stop();
  // Breaks the connections of all ranks, which it takes back as those of the same group.
  void Break();
  // Closes on all ranks, and takes none of them any more.
  void GiveUp();

  // Not 0: a request for one token that the leader gets before it hears that it was taken.
  uint64_t canary = 0;
  RegisterOutcome terms;  // What ranks are told about times.
  bool stops_when_drained = true;
  bool breaks_in_hand_over = false;  // Breaks once, after the first message of a hand-over.

  // What it heard.
  std::map<int32_t, RankRegistration> ranks;   // By rank.
  std::map<uint64_t, SequenceUpdate> streams;  // Joined by id: what was told twice counts once.
  std::map<uint64_t, SequenceRequest> held;    // Of the streams that were handed over.
  int64_t gaps = 0;                            // Updates that came too early.
  int64_t changes = 0;                         // Tokens that were told twice, differently.
  int64_t held_messages = 0;
  int64_t hand_overs = 0;  // That came to their end.
  int64_t drains = 0;
  std::vector<std::pair<LossCause, std::string>> faults;
  SchedulerStats stats;
  std::vector<PrefixReport> prefixes;  // Without the empty ones.
  int64_t heartbeats = 0;
  int64_t disconnects = 0;

 private:
  RegisterOutcome OnRegister(uint64_t connection, const RankRegistration& rank) override;
  bool OnHeartbeat(uint64_t connection, uint64_t epoch, uint64_t progress, bool pending) override;
  bool OnUpdates(uint64_t connection, uint64_t epoch, std::vector<SequenceUpdate> updates,
                 const SchedulerStats& group_stats, const PrefixReport& group_prefixes) override;
  bool OnHandOver(uint64_t connection, uint64_t epoch, std::vector<HeldStream> streams,
                  bool last) override;
  bool OnDrain(uint64_t connection, uint64_t epoch) override;
  bool OnFault(uint64_t connection, uint64_t epoch, LossCause cause,
               const std::string& message) override;
  void OnDisconnected(uint64_t connection, const std::string& why) override;
  kj::Promise<kj::Own<rpc::EncodedPrompt>> OnPrompt(const rpc::GenerateRequest& request,
                                                    const rpc::Caller& caller) override;
  rpc::GenerateReply OnGenerate(const rpc::GenerateRequest& request, rpc::EncodedPrompt prompt,
                                const rpc::Caller& caller, rpc::GenerationSink& sink) override;
  void OnCancel(uint64_t generation) override;
  std::vector<ServedModel> OnModels() override;
  RegionStatus OnStatus() override;
  std::string OnDrainGroup(uint64_t group, bool restart) override;

  void Take(const SequenceUpdate& update);

  const uint64_t epoch_;
  kj::AsyncIoContext io_;
  std::unique_ptr<rpc::ClusterServer> server_;
  uint64_t leader_ = 0;  // Its connection.
  std::vector<uint64_t> connections_;
  bool given_up_ = false;
};

}  // namespace shoal::rank
