#pragma once

// Upstream programs' generations: the RPC counterpart of the HTTP gateway.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "coordinator/gateway/text/text_service.h"
#include "coordinator/gateway/text/text_thread.h"
#include "transport/rpc/server/cluster_server.h"

namespace shoal::gateway {

// Threading: owned by the event loop. `generation`, and what `text` refers to, outlive it.
class RpcGateway : public rpc::UpstreamListener {
 public:
  // `random`: seeds of requests that bring none.
  RpcGateway(core::GenerationService& generation, TextService text,
             std::function<uint64_t()> random, kj::UnixEventPort& port);
  ~RpcGateway() noexcept override;

  kj::Promise<kj::Own<rpc::EncodedPrompt>> OnPrompt(const rpc::GenerateRequest& request) override;
  rpc::GenerateReply OnGenerate(const rpc::GenerateRequest& request, rpc::EncodedPrompt prompt,
                                rpc::GenerationSink& sink) override;
  void OnCancel(uint64_t generation) override;
  std::vector<ServedModel> OnModels() override;
  RegionStatus OnStatus() override;
  std::string OnDrainGroup(uint64_t group, bool restart) override;

 private:
  class Listener;

  core::GenerationService& generation_;
  const TextService text_;
  const std::function<uint64_t()> random_;
  uint64_t next_generation_ = 1;
  std::map<uint64_t, std::unique_ptr<Listener>> listeners_;  // By generation, as the port knows it.
  TextThreads text_threads_;
};

}  // namespace shoal::gateway
