#include "tests/transport/rpc/server_thread.h"
#include "tests/support/patience.h"

#include <utility>

namespace shoal::rpc {

ServerThread::ServerThread(ClusterServerOptions options, GenerateReply reply)
    : generate_reply_(std::move(reply)) {
  if (options.port == ClusterServerOptions().port) options.port = 0;
  register_reply_.epoch = 7;
  register_reply_.group = 3;
  std::promise<void> started;
  std::future<void> future = started.get_future();
  thread_ = std::thread([this, options, promise = std::move(started)]() mutable {
    Serve(std::move(options), std::move(promise));
  });
  future.get();
}

ServerThread::~ServerThread() noexcept {
  jobs_.Stop();
  thread_.join();
}

void ServerThread::Serve(ClusterServerOptions options, std::promise<void> started) {
  auto io = kj::setupAsyncIo();
  ClusterServer server(io, std::move(options), *this, *this);
  server_ = &server;
  port_ = server.port();
  started.set_value();
  jobs_.Serve(io);
}

bool ServerThread::Wait(const std::function<bool(const Heard&)>& done) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::milliseconds(test::kPatienceMs),
                           [&] { return done(heard_); });
}

void ServerThread::AnswerRegister(RegisterOutcome reply) {
  Note([&](Heard&) { register_reply_ = std::move(reply); });
}

void ServerThread::RefuseEpochs() {
  Note([&](Heard&) { refuse_epochs_ = true; });
}

void ServerThread::SubmitOnRegister(uint64_t id) {
  Note([&](Heard&) { submit_on_register_ = id; });
}

void ServerThread::AnswerGenerate(GenerateReply reply) {
  Note([&](Heard&) { generate_reply_ = std::move(reply); });
}

void ServerThread::Run(const std::function<void(ClusterServer&)>& what) {
  jobs_.Run([&] { what(*server_); });
}

RegisterOutcome ServerThread::OnRegister(uint64_t connection, const RankRegistration& rank) {
  RegisterOutcome reply;
  uint64_t id = 0;
  Note([&](Heard& heard) {
    heard.ranks.push_back(rank);
    heard.connections.push_back(connection);
    reply = register_reply_;
    id = submit_on_register_;
  });
  if (id != 0) server_->Submit(connection, reply.epoch, {id, {1}});
  return reply;
}

bool ServerThread::OnHeartbeat(uint64_t, uint64_t epoch, uint64_t progress, bool pending) {
  bool taken = false;
  Note([&](Heard& heard) {
    ++heard.heartbeats;
    heard.progress = progress;
    heard.pending = pending;
    taken = !refuse_epochs_ && epoch == register_reply_.epoch;
  });
  return taken;
}

bool ServerThread::OnUpdates(uint64_t, uint64_t epoch, std::vector<SequenceUpdate> updates,
                             const SchedulerStats& stats, const PrefixReport& prefixes) {
  bool taken = false;
  Note([&](Heard& heard) {
    for (SequenceUpdate& update : updates) heard.updates.push_back(std::move(update));
    heard.stats = stats;
    if (!prefixes.empty()) heard.prefixes.push_back(prefixes);
    taken = epoch == register_reply_.epoch;
  });
  return taken;
}

bool ServerThread::OnHandOver(uint64_t, uint64_t, std::vector<HeldStream> streams, bool last) {
  Note([&](Heard& heard) {
    for (HeldStream& held : streams) heard.held.push_back(std::move(held));
    heard.hand_overs_ended += last ? 1 : 0;
  });
  return true;
}

bool ServerThread::OnDrain(uint64_t, uint64_t) {
  Note([&](Heard& heard) {
    ++heard.drains;
    heard.hand_overs_before_drain = heard.hand_overs_ended;
  });
  return true;
}

bool ServerThread::OnFault(uint64_t, uint64_t, LossCause cause, const std::string& message) {
  Note([&](Heard& heard) { heard.faults.emplace_back(cause, message); });
  return true;
}

void ServerThread::OnDisconnected(uint64_t, const std::string& why) {
  Note([&](Heard& heard) { heard.disconnects.push_back(why); });
}

kj::Promise<kj::Own<EncodedPrompt>> ServerThread::OnPrompt(const GenerateRequest&, const Caller&) {
  return kj::heap<EncodedPrompt>();
}

GenerateReply ServerThread::OnGenerate(const GenerateRequest& request, EncodedPrompt,
                                       const Caller& caller, GenerationSink& sink) {
  sink_ = &sink;
  GenerateReply reply;
  Note([&](Heard& heard) {
    heard.requests.push_back(request);
    heard.callers.push_back(caller);
    reply = generate_reply_;
    heard.taken += reply.generation != 0 ? 1 : 0;
  });
  return reply;
}

void ServerThread::OnCancel(uint64_t generation) {
  Note([&](Heard& heard) { heard.cancels.push_back(generation); });
}

void ServerThread::OnReaderGone(uint64_t generation) {
  Note([&](Heard& heard) { heard.readers_gone.push_back(generation); });
}

std::vector<ServedModel> ServerThread::OnModels() {
  return {{"toy", "00ff", 64, 256, 512, 40, "toy", "ca4a", 2, 3}};
}

RegionStatus ServerThread::OnStatus() {
  RegionStatus status;
  status.models = OnModels();
  status.groups.push_back({2,
                           9,
                           "group 2",
                           "toy",
                           "00ff",
                           2,
                           3,
                           {{0, 41, "node1", "avx2", 2, "joined", "cpu"}, {1}},
                           GroupState::kDraining,
                           {1, 2, 3, 4, 5},
                           true,
                           6,
                           "rank 1 died",
                           7,
                           800});
  status.requests_waiting = 6;
  status.requests_total = 7;
  status.streams_live = 8;
  status.group_losses_total = 9;
  status.group_losses = {1, 2, 3, 4, 5, 6, 7, 8};
  status.streams_resumed = {8, 7, 6, 5, 4, 3, 2, 1};
  status.streams_adopted_total = 10;
  status.group_restarts_total = 11;
  status.stalls = {3, 2, 1};
  status.stall_seconds_sum = 1.5;
  return status;
}

RecordPage ServerThread::OnRecords(const RecordQuery& query) {
  Note([&](Heard& heard) { heard.record_queries.push_back(query); });
  return {};
}

std::string ServerThread::OnDrainGroup(uint64_t group, bool restart) {
  return group == 2 && restart ? "" : "there is no such group";
}

}  // namespace shoal::rpc
