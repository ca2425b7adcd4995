#include "search/search_judge.h"

#include <algorithm>

#include "try.h"

namespace mcompress::tools {

Result<SearchQuality> SearchJudge::quality(Session& candidate) {
  MCOMPRESS_ASSIGN(EvaluateOptions options, evaluate_options(settings_, original_.model()));
  MCOMPRESS_ASSIGN(Session * original, original_.session());
  if (kept_ == nullptr) kept_ = std::make_unique<KeptAnswers>(*original);
  const bool labelled = !data_.labels().texts.empty() || data_.labels().numbers.has_value();
  options.metric = settled_metric(candidate, data_, options);
  const bool by_itself =
      options.metric == Metric::kPerplexity || options.metric == Metric::kRetrieval;
  const bool valued = by_itself || (labelled && options.metric != Metric::kAgreement);
  if (valued && !reference_) {
    MCOMPRESS_ASSIGN(reference_, evaluate(kept_->from_the_start(), data_, options, progress_));
  }
  options.reference = &kept_->from_the_start();
  MCOMPRESS_ASSIGN(const Evaluation after, evaluate(candidate, data_, options, progress_));
  metric_ = metric_name(after.metric);
  SearchQuality quality;
  quality.drop = valued ? drop_between(*reference_, after) : (1 - after.value) * 100;
  if (after.sqnr_db) {
    quality.sqnr_db = std::min(*after.sqnr_db, 200.0);
    return quality;
  }
  CompareOptions few;
  constexpr std::int64_t kFew = 16;
  few.limit = std::max(kFew, data_.fixed_batch());
  MCOMPRESS_ASSIGN(const Comparison comparison,
                   compare_outputs(*original, candidate, data_, few, progress_));
  quality.sqnr_db = 200;
  for (const OutputError& output : comparison.outputs) {
    if (output.values > 0) quality.sqnr_db = std::min(quality.sqnr_db, output.sqnr_db);
  }
  return quality;
}

Result<double> SearchJudge::latency(Runtime& runtime, const Model& candidate, int threads) {
  if (feeds_.empty()) {
    MCOMPRESS_ASSIGN(feeds_, bench_feeds(&data_, original_.model(), 0));
  }
  Judged judged(runtime, candidate, "candidate", threads);
  BenchOptions options;
  options.loads = 1;
  options.min_rounds = 30;
  options.seconds = 0.3;
  options.warm_up = 5;
  MCOMPRESS_ASSIGN(const std::vector<BenchTimes> times,
                   judge_latency(&original_, judged, feeds_, options, progress_));
  return times.back().p50_ms / std::max(times.front().p50_ms, 1e-9);
}

}  // namespace mcompress::tools
