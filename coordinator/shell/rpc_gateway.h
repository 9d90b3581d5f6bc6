#pragma once

// Upstream programs' generations: the RPC counterpart of the HTTP gateway.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "coordinator/gateway/ladder/degrader.h"
#include "coordinator/gateway/resume/cursor.h"
#include "coordinator/gateway/text/text_service.h"
#include "coordinator/gateway/text/text_thread.h"
#include "transport/rpc/server/cluster_server.h"

namespace shoal::gateway {

// Threading: owned by the event loop. `generation`, and what `text` refers to, outlive it.
class RpcGateway : public rpc::UpstreamListener {
 public:
  // `random`: seeds of requests that bring none, and ids. `cursor_key`, `unix_seconds` and `ladder`
  // as in HttpGatewayOptions.
  RpcGateway(core::GenerationService& generation, TextService text,
             std::function<uint64_t()> random, kj::UnixEventPort& port,
             const std::string& cursor_key = {}, std::function<int64_t()> unix_seconds = nullptr,
             Degrader* ladder = nullptr);
  ~RpcGateway() noexcept override;

  kj::Promise<kj::Own<rpc::EncodedPrompt>> OnPrompt(const rpc::GenerateRequest& request,
                                                    const rpc::Caller& caller) override;
  rpc::GenerateReply OnGenerate(const rpc::GenerateRequest& request, rpc::EncodedPrompt prompt,
                                const rpc::Caller& caller, rpc::GenerationSink& sink) override;
  void OnCancel(uint64_t generation) override;
  void OnReaderGone(uint64_t generation) override;
  std::vector<ServedModel> OnModels() override;
  RegionStatus OnStatus() override;
  RecordPage OnRecords(const RecordQuery& query) override;
  std::string OnDrainGroup(uint64_t group, bool restart) override;

 private:
  class Listener;

  // As OnPrompt, without when it came.
  kj::Promise<kj::Own<rpc::EncodedPrompt>> ReadPrompt(const rpc::GenerateRequest& request,
                                                      const rpc::Caller& caller);
  // The stream that the model itself gives the request, or else one of a model's rung of the
  // ladder; then `reply` says so. `what`: as the model itself takes it.
  std::variant<core::StreamId, StreamError> Begin(const rpc::GenerateRequest& request,
                                                  core::Request what, rpc::GenerationSink& sink,
                                                  std::unique_ptr<Listener>& listener,
                                                  rpc::GenerateReply& reply);
  // As that rung takes it; none if it cannot.
  std::optional<core::Request> MakeRungRequest(const rpc::GenerateRequest& request,
                                               const core::Request& what, const ModelRung& rung);

  // Where a resumable request's answer begins, or the one that it goes on with.
  std::variant<Cursor, StreamError> MakeCursor(const rpc::GenerateRequest& request,
                                               const rpc::EncodedPrompt& prompt,
                                               const std::string& owner);
  // What the request wants to go on with; with a refusal if that is none of ours.
  std::variant<Cursor, StreamError> ReadCursor(const std::string& text) const;
  // Another connection goes on with the answer: the one that has it has it no more.
  void GiveUp(const core::StreamId& stream);

  core::GenerationService& generation_;
  const TextService text_;
  const std::function<uint64_t()> random_;
  const CursorCodec cursors_;
  const std::function<int64_t()> unix_seconds_;
  Degrader* const ladder_;  // Null: nothing is degraded.
  kj::Timer& timer_;
  uint64_t next_generation_ = 1;
  std::map<uint64_t, std::unique_ptr<Listener>> listeners_;  // By generation, as the port knows it.
  TextThreads text_threads_;
};

}  // namespace shoal::gateway
