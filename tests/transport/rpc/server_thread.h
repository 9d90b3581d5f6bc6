#pragma once

// A ClusterServer on a thread and event loop of its own, with handlers that write down what they
// hear, for tests that sit at the other end.

#include <kj/async-io.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <future>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/trial/loop_jobs.h"
#include "transport/rpc/server/cluster_server.h"

namespace shoal::rpc {

class ServerThread : private RankListener, private UpstreamListener {
 public:
  // On any free port, unless options.port is another than the default.
  // `reply`: what AnswerGenerate would set.
  explicit ServerThread(ClusterServerOptions options = {}, GenerateReply reply = {.generation = 1});
  ~ServerThread() noexcept override;

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  uint16_t port() const { return port_; }

  // What was heard; read it under Wait or after all is quiet.
  struct Heard {
    std::vector<RankRegistration> ranks;
    std::vector<uint64_t> connections;  // Of the ranks.
    int heartbeats = 0;
    uint64_t progress = 0;
    bool pending = false;
    std::vector<SequenceUpdate> updates;
    SchedulerStats stats;
    std::vector<PrefixReport> prefixes;  // Without the empty ones.
    std::vector<HeldStream> held;
    int hand_overs_ended = 0;
    int drains = 0;
    int hand_overs_before_drain = 0;
    std::vector<std::pair<LossCause, std::string>> faults;
    std::vector<std::string> disconnects;
    std::vector<GenerateRequest> requests;
    std::vector<Caller> callers;  // Of the requests.
    int taken = 0;                // Of the requests, those that were not refused.
    std::vector<uint64_t> cancels;
    std::vector<uint64_t> readers_gone;
    std::vector<RecordQuery> record_queries;
  };

  // Waits until `done`, for test::kPatienceMs at most. Result: whether it came to be.
  bool Wait(const std::function<bool(const Heard&)>& done);

  // What the handlers answer from now on.
  void AnswerRegister(RegisterOutcome reply);
  void RefuseEpochs();
  // A request for each rank that registers, before it is told whether it was taken. 0: none.
  void SubmitOnRegister(uint64_t id);
  void AnswerGenerate(GenerateReply reply);

  // Runs on the server's loop, and waits for it.
  void Run(const std::function<void(ClusterServer&)>& what);
  // The newest rank's; use it inside Run.
  uint64_t last_connection() const { return heard_.connections.back(); }
  // The sink of the newest generation; use it inside Run.
  GenerationSink& sink() { return *sink_; }

 private:
  void Serve(ClusterServerOptions options, std::promise<void> started);
  RegisterOutcome OnRegister(uint64_t connection, const RankRegistration& rank) override;
  bool OnHeartbeat(uint64_t connection, uint64_t epoch, uint64_t progress, bool pending) override;
  bool OnUpdates(uint64_t connection, uint64_t epoch, std::vector<SequenceUpdate> updates,
                 const SchedulerStats& stats, const PrefixReport& prefixes) override;
  bool OnHandOver(uint64_t connection, uint64_t epoch, std::vector<HeldStream> streams,
                  bool last) override;
  bool OnDrain(uint64_t connection, uint64_t epoch) override;
  bool OnFault(uint64_t connection, uint64_t epoch, LossCause cause,
               const std::string& message) override;
  void OnDisconnected(uint64_t connection, const std::string& why) override;
  kj::Promise<kj::Own<EncodedPrompt>> OnPrompt(const GenerateRequest& request,
                                               const Caller& caller) override;
  GenerateReply OnGenerate(const GenerateRequest& request, EncodedPrompt prompt,
                           const Caller& caller, GenerationSink& sink) override;
  void OnCancel(uint64_t generation) override;
  void OnReaderGone(uint64_t generation) override;
  std::vector<ServedModel> OnModels() override;
  RegionStatus OnStatus() override;
  RecordPage OnRecords(const RecordQuery& query) override;
  std::string OnDrainGroup(uint64_t group, bool restart) override;

  template <typename Change>
  void Note(Change&& change) {
    {
      const std::lock_guard lock(mutex_);
      change(heard_);
    }
    changed_.notify_all();
  }

  uint16_t port_ = 0;
  test::LoopJobs jobs_;
  ClusterServer* server_ = nullptr;
  GenerationSink* sink_ = nullptr;

  std::mutex mutex_;  // Guards what follows up to changed_.
  Heard heard_;
  RegisterOutcome register_reply_;
  uint64_t submit_on_register_ = 0;
  bool refuse_epochs_ = false;
  GenerateReply generate_reply_;
  std::condition_variable changed_;
  std::thread thread_;
};

}  // namespace shoal::rpc
