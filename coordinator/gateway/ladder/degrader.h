#pragma once

// The ladder at work: its level, its rungs, and what is told of them.

#include <kj/async.h>
#include <kj/timer.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "coordinator/core/ladder/ladder.h"
#include "coordinator/gateway/ladder/answer_cache.h"
#include "coordinator/gateway/ladder/knowledge_base.h"
#include "coordinator/gateway/ladder/ladder_file.h"
#include "coordinator/gateway/ladder/rules_engine.h"
#include "coordinator/gateway/ladder/text_answer.h"
#include "coordinator/gateway/text/model_text.h"

namespace shoal::gateway {

// A model's rung, as it can be asked now.
struct ModelRung {
  ServedModel model{};
  TextService text{};
  bool same_vocabulary = false;  // Token ids mean the same as to the model that was asked for.
};

// Threading: owned by the event loop; the references outlive it.
class Degrader {
 public:
  // Reads models' text sides, rules and texts. `own`: of the region's own model. Errors:
  // kInvalidArgument.
  Degrader(const LadderSetup& setup, core::GenerationService& generation, TextService own,
           kj::Timer& timer);
  ~Degrader();

  // As core::Ladder::Order.
  std::vector<int32_t> Order(const RequestTerms& terms);
  // The reason of that name, if a lower rung may answer what was refused for it.
  std::optional<BusyReason> ReasonOf(std::string_view name) const;
  const core::Rung& rung(int32_t number) const;

  // None: no group of it is ready, or it is the very version that was refused.
  std::optional<ModelRung> FindModel(int32_t rung, const ServedModel& refused) const;
  // Of rules or knowledge.
  std::optional<TextAnswer> Ask(int32_t rung, const std::string& question) const;
  // Of a cache. Null: there is none.
  const CachedAnswer* FindCached(int32_t rung, const std::string& tenant, const Digest& request);
  // Whether there is a rung that wants to know of answers.
  bool remembers() const { return cache_ != nullptr; }
  void Remember(const std::string& tenant, const Digest& request, CachedAnswer answer);

  void NoteRefusal(int32_t rung, BusyReason reason, const RequestTerms& terms);
  // It answers that request. `why`: what the model said; none if it was not asked.
  void NoteAnswer(int32_t rung, const RequestTerms& terms, StreamId stream,
                  std::optional<BusyReason> why);
  // Appends its families to /metrics.
  void WriteMetrics(std::string& text) const;
  int32_t level() const { return ladder_.level(); }

 private:
  struct Engine {
    std::unique_ptr<ModelText> text;
    bool same_vocabulary = false;
    std::string numerics_id;
    std::unique_ptr<RulesEngine> rules;
    std::unique_ptr<KnowledgeBase> knowledge;
  };

  Engine Make(core::RungKind kind, const RungSource& source);
  const Engine& EngineOf(int32_t rung) const { return engines_[static_cast<size_t>(rung) - 1]; }
  kj::Promise<void> TickLoop();
  void Tick();
  void NoteChanges();
  TimeNs now() const;

  core::GenerationService& generation_;
  const TextService own_;
  kj::Timer& timer_;
  core::Ladder ladder_;
  std::vector<Engine> engines_;  // By rung.
  std::unique_ptr<AnswerCache> cache_;
  std::vector<uint64_t> degraded_;  // By rung: answers.
  uint64_t changes_ = 0;
  kj::Promise<void> ticking_;  // Last: it uses all of the above.
};

}  // namespace shoal::gateway
