#include "coordinator/gateway/ladder/degrader.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "coordinator/gateway/http/http_server.h"
#include "transport/base/check.h"

namespace shoal::gateway {
namespace {

constexpr auto kTickPause = 250 * kj::MILLISECONDS;

// Whether each id is the same bytes to both.
bool HaveSameVocabulary(const text::Tokenizer* one, const text::Tokenizer* other) {
  if (one == nullptr || other == nullptr || one->vocab_size() != other->vocab_size()) return false;
  for (int32_t id = 0; id < one->vocab_size(); ++id) {
    if (one->IsSpecial(id) != other->IsSpecial(id) ||
        one->TokenBytes(id, false) != other->TokenBytes(id, false)) {
      return false;
    }
  }
  return true;
}

}  // namespace

LadderRungs::LadderRungs(const LadderSetup& setup, const TextService& own)
    : policy_(setup.policy), own_name_(own.model_name) {
  for (size_t i = 0; i < setup.sources.size(); ++i) {
    engines_.push_back(Make(setup.policy.rungs[i].kind, setup.sources[i], own));
  }
}

LadderRungs::~LadderRungs() = default;

LadderRungs::Engine LadderRungs::Make(core::RungKind kind, const RungSource& source,
                                      const TextService& own) {
  Engine engine;
  engine.numerics_id = source.numerics_id;
  switch (kind) {
    case core::RungKind::kModel:
      engine.text = std::make_shared<const ModelText>(source.path);
      engine.same_vocabulary = HaveSameVocabulary(own.tokenizer, engine.text->Service().tokenizer);
      break;
    case core::RungKind::kCache:
      cache_ = source.cache;
      break;
    case core::RungKind::kRules:
      engine.rules = std::make_unique<RulesEngine>(RulesEngine::ReadFile(source.rules_file));
      LOG(INFO) << source.rules_file << ": " << engine.rules->size() << " rules";
      break;
    case core::RungKind::kKnowledge:
      engine.knowledge = std::make_unique<KnowledgeBase>(
          KnowledgeBase::ReadFolder(source.folder, source.knowledge));
      LOG(INFO) << source.folder << ": " << engine.knowledge->size() << " paragraphs";
      break;
  }
  return engine;
}

std::optional<BusyReason> LadderRungs::ReasonOf(std::string_view name) const {
  for (const BusyReason reason : policy_.reasons) {
    if (ToString(reason) == name) return reason;
  }
  return std::nullopt;
}

const core::Rung& LadderRungs::rung(int32_t number) const {
  return policy_.rungs.at(static_cast<size_t>(number) - 1);
}

std::optional<ModelRung> LadderRungs::FindModel(int32_t rung, const ServedModel& refused,
                                                const std::vector<ServedModel>& models) const {
  const Engine& engine = EngineOf(rung);
  for (const ServedModel& model : models) {
    const bool is_it = model.model_name == engine.text->name() && model.groups_ready > 0 &&
                       (engine.numerics_id.empty() || model.numerics_id == engine.numerics_id);
    const bool is_refused =
        model.model_name == refused.model_name && model.numerics_id == refused.numerics_id;
    if (!is_it || is_refused) continue;
    const bool asked_own = refused.model_name == own_name_;
    return ModelRung{model, engine.text->Service(), engine.same_vocabulary && asked_own,
                     engine.text};
  }
  return std::nullopt;
}

std::optional<TextAnswer> LadderRungs::Ask(int32_t rung, const std::string& question) const {
  const Engine& engine = EngineOf(rung);
  if (engine.rules != nullptr) return engine.rules->Answer(question);
  if (engine.knowledge != nullptr) return engine.knowledge->Answer(question);
  return std::nullopt;
}

Degrader::Degrader(std::shared_ptr<const LadderRungs> rungs, core::GenerationService& generation,
                   kj::Timer& timer)
    : generation_(generation),
      timer_(timer),
      rungs_(std::move(rungs)),
      ladder_(rungs_->policy()),
      degraded_(rungs_->policy().rungs.size()),
      ticking_(nullptr) {
  MakeCache();
  ticking_ = TickLoop().eagerlyEvaluate(
      [](kj::Exception&& error) { LOG(ERROR) << "the ladder: " << error.getDescription().cStr(); });
}

Degrader::~Degrader() = default;

void Degrader::MakeCache() {
  cache_ = rungs_->cache() ? std::make_unique<AnswerCache>(*rungs_->cache()) : nullptr;
}

void Degrader::SetRungs(std::shared_ptr<const LadderRungs> rungs) {
  const bool same_cache = rungs->cache() == rungs_->cache();
  rungs_ = std::move(rungs);
  if (!same_cache) MakeCache();
  ladder_.Configure(rungs_->policy(), now());
  degraded_.resize(std::max(degraded_.size(), rungs_->policy().rungs.size()));
  NoteChanges();
}

TimeNs Degrader::now() const { return Now(timer_); }

kj::Promise<void> Degrader::TickLoop() {
  return timer_.afterDelay(kTickPause).then([this] {
    Tick();
    return TickLoop();
  });
}

void Degrader::Tick() {
  ladder_.Tick(generation_.DegradeAsked(), now());
  NoteChanges();
}

std::vector<int32_t> Degrader::Order(const RequestTerms& terms) {
  const std::string session = terms.session.empty() ? "" : Str(terms.tenant, "\n", terms.session);
  return ladder_.Order(generation_.ClassOf(terms), session, now());
}

const CachedAnswer* Degrader::FindCached(const std::string& tenant, const Digest& request) {
  return cache_ == nullptr ? nullptr : cache_->Find(tenant, request, now());
}

void Degrader::Remember(const std::string& tenant, const Digest& request, CachedAnswer answer) {
  if (cache_ != nullptr) cache_->Put(tenant, request, std::move(answer), now());
}

void Degrader::NoteRefusal(const LadderRungs& rungs, int32_t rung, BusyReason reason,
                           const RequestTerms& terms) {
  if (&rungs == rungs_.get()) ladder_.NoteRefusal(rung, reason, now());
  VLOG(1) << terms.name << ": rung " << rung << " says " << ToString(reason);
  NoteChanges();
}

void Degrader::NoteAnswer(const LadderRungs& rungs, int32_t number, const RequestTerms& terms,
                          StreamId stream, std::optional<BusyReason> why) {
  const std::string session = terms.session.empty() ? "" : Str(terms.tenant, "\n", terms.session);
  if (&rungs == rungs_.get()) ladder_.NoteAnswer(number, session, now());
  if (number == 0) return;
  ++degraded_[static_cast<size_t>(number) - 1];
  const core::Rung& what = rungs.rung(number);
  generation_.NoteRecord({.kind = core::RecordKind::kDegraded,
                          .stream = stream,
                          .request = terms.name,
                          .tenant = terms.tenant,
                          .service_class = generation_.ClassOf(terms),
                          .reason = why,
                          .detail = Str("rung ", number, ", ", core::ToString(what.kind), " ",
                                        what.name, ", answers instead of the model"),
                          .figures = {{"rung", static_cast<double>(number), "the ladder"},
                                      {"level", static_cast<double>(ladder_.level()), "the ladder"},
                                      {"quality", what.quality, "the ladder file"},
                                      {"cost", what.cost, "the ladder file"}}});
}

void Degrader::NoteChanges() {
  while (const auto change = ladder_.TakeChange()) {
    ++changes_;
    const std::string detail =
        Str("the ladder goes from rung ", change->from, " to rung ", change->to, ": ", change->why);
    LOG(WARNING) << detail;
    generation_.NoteRecord({.kind = core::RecordKind::kRungChanged,
                            .detail = detail,
                            .figures = {{"from", static_cast<double>(change->from), "the ladder"},
                                        {"to", static_cast<double>(change->to), "the ladder"}}});
  }
}

void Degrader::WriteMetrics(std::string& text) const {
  text +=
      "# HELP shoal_degraded_total Answers of a lower rung of the ladder.\n"
      "# TYPE shoal_degraded_total counter\n";
  for (size_t i = 0; i < degraded_.size(); ++i) {
    text += Str("shoal_degraded_total{rung=\"", i + 1, "\"} ", degraded_[i], "\n");
  }
  text +=
      Str("# HELP shoal_ladder_rung The rung that requests begin at; 0: the model itself.\n"
          "# TYPE shoal_ladder_rung gauge\nshoal_ladder_rung ",
          ladder_.level(),
          "\n# HELP shoal_ladder_changes_total How often it changed.\n"
          "# TYPE shoal_ladder_changes_total counter\nshoal_ladder_changes_total ",
          changes_, "\n");
}

}  // namespace shoal::gateway
