#include "tests/worker/rank/fake_coordinator.h"

#include <kj/timer.h>

#include <algorithm>
#include <utility>

#include "transport/base/check.h"
#include "transport/base/clock.h"

// Turns the event loop in slices, so that a test can look at child processes between them.

namespace shoal::rank {

namespace {

// Appends what `to`, which began after `to_before`, does not have. Result: whether the rest is the
// same.
template <typename T>
bool Join(const std::vector<T>& from, int64_t skipped, std::vector<T>& to) {
  const auto known = std::min<size_t>(static_cast<size_t>(skipped), from.size());
  const auto begin = to.end() - static_cast<ptrdiff_t>(skipped);
  const bool same = std::equal(from.begin(), from.begin() + static_cast<ptrdiff_t>(known), begin);
  to.insert(to.end(), from.begin() + static_cast<ptrdiff_t>(known), from.end());
  return same;
}

}  // namespace

FakeCoordinator::FakeCoordinator(uint16_t port, std::string group_token, uint64_t epoch)
    : epoch_(epoch), io_(kj::setupAsyncIo()) {
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
  server_->Submit(leader_, epoch_, {id, std::move(prompt), params});
}

void FakeCoordinator::Submit(const SequenceRequest& request) {
  server_->Submit(leader_, epoch_, request);
}

void FakeCoordinator::Release(uint64_t id) { server_->Release(leader_, epoch_, id); }

void FakeCoordinator::Break() {
  for (const uint64_t connection : std::exchange(connections_, {})) server_->Close(connection);
}

void FakeCoordinator::Cancel(uint64_t id) { server_->Cancel(leader_, epoch_, id); }

void FakeCoordinator::Stop() { server_->Stop(leader_, epoch_); }

void FakeCoordinator::GiveUp() {
  given_up_ = true;
  for (const uint64_t connection : connections_) server_->Close(connection);
}

RegisterOutcome FakeCoordinator::OnRegister(uint64_t connection, const RankRegistration& rank) {
  RegisterOutcome reply = terms;
  reply.epoch = epoch_;
  reply.group = 1;
  reply.continued = rank.last_epoch == epoch_;
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
  return epoch == epoch_;
}

bool FakeCoordinator::OnUpdates(uint64_t, uint64_t epoch, std::vector<SequenceUpdate> updates,
                                const SchedulerStats& group_stats,
                                const PrefixReport& group_prefixes) {
  for (const SequenceUpdate& update : updates) Take(update);
  stats = group_stats;
  if (!group_prefixes.empty()) prefixes.push_back(group_prefixes);
  return epoch == epoch_;
}

void FakeCoordinator::Take(const SequenceUpdate& update) {
  SequenceUpdate& stream = streams[update.id];
  if (stream.id != update.id) {  // The first of it; a test that looked for it may have made it.
    stream.id = update.id;
    stream.tokens_before = update.tokens_before;
    stream.prompt_logprobs_before = update.prompt_logprobs_before;
  }
  const auto skipped =
      stream.tokens_before + static_cast<int64_t>(stream.tokens.size()) - update.tokens_before;
  const auto prompt_skipped = stream.prompt_logprobs_before +
                              static_cast<int64_t>(stream.prompt_logprobs.size()) -
                              update.prompt_logprobs_before;
  if (skipped < 0 || prompt_skipped < 0) {
    ++gaps;
    return;
  }
  const bool same = Join(update.tokens, skipped, stream.tokens) &&
                    (update.logprobs.empty() || Join(update.logprobs, skipped, stream.logprobs)) &&
                    (update.prompt_logprobs.empty() ||
                     Join(update.prompt_logprobs, prompt_skipped, stream.prompt_logprobs));
  if (!same) ++changes;
  stream.finish = update.finish;
  stream.detail = update.detail;
  stream.no_room = update.no_room;
}

bool FakeCoordinator::OnHandOver(uint64_t, uint64_t epoch, std::vector<HeldStream> handed,
                                 bool last) {
  ++held_messages;
  for (const HeldStream& part : handed) {
    if (!part.request.prompt.empty()) held[part.request.id] = part.request;
    Take(part.all);
  }
  if (std::exchange(breaks_in_hand_over, false)) {
    held.clear();
    streams.clear();
    Break();
    return false;
  }
  if (last) ++hand_overs;
  return epoch == epoch_;
}

bool FakeCoordinator::OnDrain(uint64_t, uint64_t epoch) {
  ++drains;
  if (stops_when_drained) Stop();
  return epoch == epoch_;
}

bool FakeCoordinator::OnFault(uint64_t, uint64_t epoch, LossCause cause,
                              const std::string& message) {
  faults.emplace_back(cause, message);
  return epoch == epoch_;
}

void FakeCoordinator::OnDisconnected(uint64_t, const std::string&) { ++disconnects; }

kj::Promise<kj::Own<rpc::EncodedPrompt>> FakeCoordinator::OnPrompt(const rpc::GenerateRequest&,
                                                                   const rpc::Caller&) {
  return kj::heap<rpc::EncodedPrompt>();
}

rpc::GenerateReply FakeCoordinator::OnGenerate(const rpc::GenerateRequest&, rpc::EncodedPrompt,
                                               const rpc::Caller&, rpc::GenerationSink&) {
  return {};
}

void FakeCoordinator::OnCancel(uint64_t) {}

std::vector<ServedModel> FakeCoordinator::OnModels() { return {}; }

RegionStatus FakeCoordinator::OnStatus() { return {}; }

std::string FakeCoordinator::OnDrainGroup(uint64_t, bool) { return ""; }

}  // namespace shoal::rank
