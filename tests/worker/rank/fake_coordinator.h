#pragma once

// The coordinator's RPC port without a coordinator: takes every rank, and does to groups what the
// test says.

#include <kj/async-io.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "tests/support/patience.h"
#include "transport/rpc/server/cluster_server.h"

namespace shoal::rank {

// Threading: everything on the test's thread; RunUntil lets the event loop turn.
class FakeCoordinator : public rpc::RankListener, public rpc::UpstreamListener {
 public:
  explicit FakeCoordinator(uint16_t port = 0, std::string group_token = "");
  ~FakeCoordinator() noexcept override;

  uint16_t port() const { return server_->port(); }
  std::string address() const;

  // Until `done` or the deadline. Result: whether it came true.
  bool RunUntil(const std::function<bool()>& done, int64_t timeout_ms = test::kPatienceMs);

  void Submit(uint64_t id, std::vector<int32_t> prompt, const GenerationParams& params);
  void Cancel(uint64_t id);
  void Stop();
  // Closes on all ranks, and takes none of them any more.
  void GiveUp();

  // Not 0: a request for one token that the leader gets before it hears that it was taken.
  uint64_t canary = 0;

  // What it heard.
  std::map<int32_t, RankRegistration> ranks;   // By rank.
  std::map<uint64_t, SequenceUpdate> streams;  // Joined by id.
  SchedulerStats stats;
  int64_t heartbeats = 0;
  int64_t disconnects = 0;

 private:
  RegisterOutcome OnRegister(uint64_t connection, const RankRegistration& rank) override;
  bool OnHeartbeat(uint64_t connection, uint64_t epoch, uint64_t progress, bool pending) override;
  bool OnUpdates(uint64_t connection, uint64_t epoch, std::vector<SequenceUpdate> updates,
                 const SchedulerStats& group_stats) override;
  bool OnHandOver(uint64_t connection, uint64_t epoch, std::vector<HeldStream> streams,
                  bool last) override;
  bool OnDrain(uint64_t connection, uint64_t epoch) override;
  bool OnFault(uint64_t connection, uint64_t epoch, LossCause cause,
               const std::string& message) override;
  void OnDisconnected(uint64_t connection, const std::string& why) override;
  kj::Promise<kj::Own<rpc::EncodedPrompt>> OnPrompt(const rpc::GenerateRequest& request) override;
  rpc::GenerateReply OnGenerate(const rpc::GenerateRequest& request, rpc::EncodedPrompt prompt,
                                rpc::GenerationSink& sink) override;
  void OnCancel(uint64_t generation) override;
  std::vector<ServedModel> OnModels() override;
  RegionStatus OnStatus() override;
  std::string OnDrainGroup(uint64_t group, bool restart) override;

  static constexpr uint64_t kEpoch = 3;

  kj::AsyncIoContext io_;
  std::unique_ptr<rpc::ClusterServer> server_;
  uint64_t leader_ = 0;  // Its connection.
  std::vector<uint64_t> connections_;
  bool given_up_ = false;
};

}  // namespace shoal::rank
