#pragma once

// The coordinator's RPC port: Cap'n Proto on one side, plain calls on the other.

#include <kj/async-io.h>
#include <kj/memory.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "transport/base/clock.h"
#include "transport/base/generation/generation.h"
#include "transport/base/generation/prefix_hash.h"
#include "transport/base/generation/sequence_request.h"
#include "transport/base/generation/stream_error.h"
#include "transport/base/group.h"
#include "transport/rpc/caller.h"
#include "transport/rpc/client.h"

namespace shoal::rpc {

// Hears what ranks do. Connections are numbered from 1 and a number is never used again.
// Threading, for all of this file: the event loop of the server.
class RankListener {
 public:
  virtual ~RankListener() = default;
  virtual RegisterOutcome OnRegister(uint64_t connection, const RankRegistration& rank) = 0;
  // False: the epoch is over, the message is refused.
  virtual bool OnHeartbeat(uint64_t connection, uint64_t epoch, uint64_t progress,
                           bool pending) = 0;
  virtual bool OnUpdates(uint64_t connection, uint64_t epoch, std::vector<SequenceUpdate> updates,
                         const SchedulerStats& stats, const PrefixReport& prefixes) = 0;
  // From a leader; as worker.capnp says.
  virtual bool OnHandOver(uint64_t connection, uint64_t epoch, std::vector<HeldStream> streams,
                          bool last) = 0;
  virtual bool OnDrain(uint64_t connection, uint64_t epoch) = 0;
  // From any rank, before it ends.
  virtual bool OnFault(uint64_t connection, uint64_t epoch, LossCause cause,
                       const std::string& message) = 0;
  // A registered rank's connection is gone, and not by Close.
  virtual void OnDisconnected(uint64_t connection, const std::string& why) = 0;
};

// Where one upstream generation's tokens go. Takes any amount: what a slow reader has not read is
// merged, and bounded by the generation's own length.
class GenerationSink {
 public:
  virtual ~GenerationSink() = default;
  virtual void Tokens(const SequenceUpdate& update, const std::string& text) = 0;
  virtual void Finish(const SequenceUpdate& update, const std::string& text) = 0;
  virtual void Fail(const StreamError& error) = 0;
};

struct GenerateReply {
  uint64_t generation = 0;  // 0: refused, and `refusal` says why.
  int64_t prompt_tokens = 0;
  uint64_t seed = 0;
  StreamError refusal{};
  std::string cursor{};      // Of a resumable generation.
  bool recomputing = false;  // It goes on, and nobody knew it any more.
  std::string model_used{};  // If another model answers than was asked for.
  int32_t rung = 0;          // 0: the one that was asked for answers.
};

// A request in tokens, as a group takes it, or why it cannot be.
struct EncodedPrompt {
  std::vector<int32_t> tokens{};
  std::string numerics_id{};  // Of the version of the model that they are for.
  GenerationParams params{};
  std::optional<StreamError> refusal{};
  TimeNs arrived = 0;  // The request, by the listener's own clock. Its deadline counts from there.
};

// Answers upstream programs.
class UpstreamListener {
 public:
  virtual ~UpstreamListener() = default;
  // The request, which need not outlive the call, in tokens. Long texts take their time. `caller`,
  // also below: who asks; request.terms.tenant is empty.
  virtual kj::Promise<kj::Own<EncodedPrompt>> OnPrompt(const GenerateRequest& request,
                                                       const Caller& caller) = 0;
  // On success the sink lives until its Finish or Fail, or until OnCancel or OnReaderGone, and is
  // called later, never from inside OnGenerate.
  virtual GenerateReply OnGenerate(const GenerateRequest& request, EncodedPrompt prompt,
                                   const Caller& caller, GenerationSink& sink) = 0;
  virtual void OnCancel(uint64_t generation) = 0;
  // Its reader is gone, and may come back for a resumable one.
  virtual void OnReaderGone(uint64_t generation) { OnCancel(generation); }
  virtual std::vector<ServedModel> OnModels() = 0;
  virtual RegionStatus OnStatus() = 0;
  // As core::GenerationService::FindRecords.
  virtual RecordPage OnRecords(const RecordQuery& /*query*/) { return {}; }
  // As core::GenerationService::Drain.
  virtual std::string OnDrainGroup(uint64_t group, bool restart) = 0;
};

struct ClusterServerOptions {
  std::string bind = "127.0.0.1";
  uint16_t port = 7400;       // 0: any free one.
  std::string group_token{};  // Ranks must show it. Empty: none is asked for.
  // Whose the API keys of upstream programs are; asked with each of their calls. Null: none is
  // asked for.
  FindCaller find_caller{};
  int64_t heartbeat_ms = 100;        // What ranks are told.
  int64_t call_timeout_ms = 10'000;  // A leader that leaves a call unanswered so long is lost.
  int64_t authenticate_timeout_ms = 10'000;
  // An upstream program that takes nothing of what a generation has for it for so long reads it no
  // more. Many times what HTTP waits, for it may have taken much at once.
  int64_t sink_timeout_ms = 600'000;
  // One more takes the place of one that has not authenticated, or of an upstream program's that
  // has nothing under way, or is closed at once.
  size_t connections_max = 4'096;
};

class ClusterServer {
 public:
  // Listens. Errors: kInvalidArgument, naming address and port, if that cannot be had.
  ClusterServer(kj::AsyncIoContext& io, ClusterServerOptions options, RankListener& ranks,
                UpstreamListener& service);
  ~ClusterServer();

  uint16_t port() const;  // The real one.

  // To the leader on that connection; one that is gone is ignored, its OnDisconnected is under way.
  void Submit(uint64_t connection, uint64_t epoch, const SequenceRequest& request);
  void Cancel(uint64_t connection, uint64_t epoch, uint64_t id);
  void Release(uint64_t connection, uint64_t epoch, uint64_t id);
  void Stop(uint64_t connection, uint64_t epoch);

  // Closes a rank's connection soon, not from inside this call.
  void Close(uint64_t connection);

 private:
  class Impl;
  kj::Own<Impl> impl_;
};

}  // namespace shoal::rpc
