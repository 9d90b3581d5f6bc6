#include "coordinator/gateway/ladder/degrader.h"

#include <glog/logging.h>

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

Degrader::Degrader(const LadderSetup& setup, core::GenerationService& generation, TextService own,
                   kj::Timer& timer)
    : generation_(generation),
      own_(std::move(own)),
      timer_(timer),
      ladder_(setup.policy),
      degraded_(setup.policy.rungs.size()),
      ticking_(nullptr) {
  for (size_t i = 0; i < setup.sources.size(); ++i) {
    engines_.push_back(Make(setup.policy.rungs[i].kind, setup.sources[i]));
  }
  ticking_ = TickLoop().eagerlyEvaluate(
      [](kj::Exception&& error) { LOG(ERROR) << "the ladder: " << error.getDescription().cStr(); });
}

Degrader::~Degrader() = default;

Degrader::Engine Degrader::Make(core::RungKind kind, const RungSource& source) {
  Engine engine;
  engine.numerics_id = source.numerics_id;
  switch (kind) {
    case core::RungKind::kModel:
      engine.text = std::make_unique<ModelText>(source.path);
      engine.same_vocabulary = HaveSameVocabulary(own_.tokenizer, engine.text->Service().tokenizer);
      break;
    case core::RungKind::kCache:
      cache_ = std::make_unique<AnswerCache>(source.cache);
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

std::optional<BusyReason> Degrader::ReasonOf(std::string_view name) const {
  for (const BusyReason reason : ladder_.policy().reasons) {
    if (ToString(reason) == name) return reason;
  }
  return std::nullopt;
}

const core::Rung& Degrader::rung(int32_t number) const {
  return ladder_.policy().rungs.at(static_cast<size_t>(number) - 1);
}

std::optional<ModelRung> Degrader::FindModel(int32_t rung, const ServedModel& refused) const {
  const Engine& engine = EngineOf(rung);
  for (const ServedModel& model : generation_.models()) {
    const bool is_it = model.model_name == engine.text->name() && model.groups_ready > 0 &&
                       (engine.numerics_id.empty() || model.numerics_id == engine.numerics_id);
    const bool is_refused =
        model.model_name == refused.model_name && model.numerics_id == refused.numerics_id;
    if (!is_it || is_refused) continue;
    const bool asked_own = refused.model_name == own_.model_name;
    return ModelRung{model, engine.text->Service(), engine.same_vocabulary && asked_own};
  }
  return std::nullopt;
}

std::optional<TextAnswer> Degrader::Ask(int32_t rung, const std::string& question) const {
  const Engine& engine = EngineOf(rung);
  if (engine.rules != nullptr) return engine.rules->Answer(question);
  if (engine.knowledge != nullptr) return engine.knowledge->Answer(question);
  return std::nullopt;
}

const CachedAnswer* Degrader::FindCached(int32_t rung, const std::string& tenant,
                                         const Digest& request) {
  SHOAL_CHECK(this->rung(rung).kind == core::RungKind::kCache);
  return cache_->Find(tenant, request, now());
}

void Degrader::Remember(const std::string& tenant, const Digest& request, CachedAnswer answer) {
  cache_->Put(tenant, request, std::move(answer), now());
}

void Degrader::NoteRefusal(int32_t rung, BusyReason reason, const RequestTerms& terms) {
  ladder_.NoteRefusal(rung, reason, now());
  VLOG(1) << terms.name << ": rung " << rung << " says " << ToString(reason);
  NoteChanges();
}

void Degrader::NoteAnswer(int32_t number, const RequestTerms& terms, StreamId stream,
                          std::optional<BusyReason> why) {
  const std::string session = terms.session.empty() ? "" : Str(terms.tenant, "\n", terms.session);
  ladder_.NoteAnswer(number, session, now());
  if (number == 0) return;
  ++degraded_[static_cast<size_t>(number) - 1];
  const core::Rung& what = rung(number);
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
