// What a search asks about its candidates: quality and time against the original.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gates.h"
#include "judge.h"
#include "mcompress/search.h"

namespace mcompress::tools {

class SearchJudge {
 public:
  SearchJudge(Judged& original, DataSource& data, EvalSettings settings, Progress& progress)
      : original_(original), data_(data), settings_(std::move(settings)), progress_(progress) {}

  // One run of the data. The original's answers are kept.
  Result<SearchQuality> quality(Session& candidate);
  // Median time of a run over the original's, both run in turn.
  Result<double> latency(Runtime& runtime, const Model& candidate, int threads);

  // "top1"; empty before the first call.
  const std::string& metric() const { return metric_; }
  // Of the original; empty where only agreement with it is asked.
  const std::optional<Evaluation>& reference() const { return reference_; }

 private:
  Judged& original_;
  DataSource& data_;
  EvalSettings settings_;
  Progress& progress_;
  std::unique_ptr<KeptAnswers> kept_;
  std::optional<Evaluation> reference_;
  std::string metric_;
  std::vector<std::vector<NamedTensor>> feeds_;
};

}  // namespace mcompress::tools
