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
  std::shared_ptr<const ModelText> owner{};  // `text` refers to it.
};

// A ladder file and what its rungs are made of. Immutable: requests that it began with keep it when
// the file is read again.
class LadderRungs {
 public:
  // Reads models' text sides, rules and texts, on any thread. `own`: of the region's own model, not
  // needed later. Errors: kInvalidArgument.
  LadderRungs(const LadderSetup& setup, const TextService& own);
  ~LadderRungs();

  const core::LadderPolicy& policy() const { return policy_; }
  const core::Rung& rung(int32_t number) const;
  // The reason of that name, if a lower rung may answer what was refused for it.
  std::optional<BusyReason> ReasonOf(std::string_view name) const;
  // None: no group of it is ready, or it is the very version that was refused.
  std::optional<ModelRung> FindModel(int32_t rung, const ServedModel& refused,
                                     const std::vector<ServedModel>& models) const;
  // Of rules or knowledge.
  std::optional<TextAnswer> Ask(int32_t rung, const std::string& question) const;
  const std::optional<AnswerCacheOptions>& cache() const { return cache_; }

 private:
  struct Engine {
    std::shared_ptr<const ModelText> text;
    bool same_vocabulary = false;
    std::string numerics_id;
    std::unique_ptr<RulesEngine> rules;
    std::unique_ptr<KnowledgeBase> knowledge;
  };

  Engine Make(core::RungKind kind, const RungSource& source, const TextService& own);
  const Engine& EngineOf(int32_t rung) const { return engines_[static_cast<size_t>(rung) - 1]; }

  const core::LadderPolicy policy_;
  const std::string own_name_;
  std::optional<AnswerCacheOptions> cache_;
  std::vector<Engine> engines_;  // By rung.
};

// One for a coordinator: both doors ask it, so there is one level. Threading: owned by the event
// loop; the references outlive it.
class Degrader {
 public:
  Degrader(std::shared_ptr<const LadderRungs> rungs, core::GenerationService& generation,
           kj::Timer& timer);
  ~Degrader();

  // Of new requests. What is noted below of a request that began with earlier ones is counted and
  // recorded, and moves the ladder no more.
  const std::shared_ptr<const LadderRungs>& rungs() const { return rungs_; }
  // The file has changed. The level stays, if the ladder still reaches down to it, and so do
  // earlier answers, if the cache's bounds are the same.
  void SetRungs(std::shared_ptr<const LadderRungs> rungs);

  // As core::Ladder::Order.
  std::vector<int32_t> Order(const RequestTerms& terms);
  // Null: there is none.
  const CachedAnswer* FindCached(const std::string& tenant, const Digest& request);
  // Whether there is a rung that wants to know of answers.
  bool remembers() const { return cache_ != nullptr; }
  void Remember(const std::string& tenant, const Digest& request, CachedAnswer answer);

  void NoteRefusal(const LadderRungs& rungs, int32_t rung, BusyReason reason,
                   const RequestTerms& terms);
  // It answers that request. `why`: what the model said; none if it was not asked.
  void NoteAnswer(const LadderRungs& rungs, int32_t rung, const RequestTerms& terms,
                  StreamId stream, std::optional<BusyReason> why);
  // Appends its families to /metrics.
  void WriteMetrics(std::string& text) const;
  int32_t level() const { return ladder_.level(); }

 private:
  void MakeCache();
  kj::Promise<void> TickLoop();
  void Tick();
  void NoteChanges();
  TimeNs now() const;

  core::GenerationService& generation_;
  kj::Timer& timer_;
  std::shared_ptr<const LadderRungs> rungs_;
  core::Ladder ladder_;
  std::unique_ptr<AnswerCache> cache_;
  std::vector<uint64_t> degraded_;  // By rung, of the longest ladder that there was: answers.
  uint64_t changes_ = 0;
  kj::Promise<void> ticking_;  // Last: it uses all of the above.
};

}  // namespace shoal::gateway
