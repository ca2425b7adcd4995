// Perplexity on token sequences, and how far the next-token distributions are from a reference's.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "runtime/decisions.h"
#include "runtime/language_metrics.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Logits of one run: 64 MiB of float32.
constexpr std::int64_t kMostLogits = 16 << 20;
constexpr std::int64_t kMostRows = 16;

Location at(std::string_view subject) {
  Location where;
  where.subject = subject;
  return where;
}

// log(sum(exp(x))) in double, the largest taken out first.
double log_sum_exp(std::span<const float> logits) {
  float largest = logits[0];
  for (const float value : logits) largest = std::max(largest, value);
  const auto offset = static_cast<double>(largest);
  if (!std::isfinite(offset)) return std::numeric_limits<double>::quiet_NaN();
  double sum = 0;
  for (const float value : logits) sum += std::exp(static_cast<double>(value) - offset);
  return offset + std::log(sum);
}

// sum(p (log p - log q)) in nats, p the reference's distribution.
double divergence(std::span<const float> reference, double reference_norm,
                  std::span<const float> candidate, double candidate_norm) {
  double sum = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double log_p = static_cast<double>(reference[i]) - reference_norm;
    const double p = std::exp(log_p);
    if (p == 0) continue;
    sum += p * (log_p - (static_cast<double>(candidate[i]) - candidate_norm));
  }
  return std::max(sum, 0.0);  // rounding alone takes it below
}

// Mean and its standard error, by Welford's updates.
class RunningMean {
 public:
  void add(double value) {
    ++count_;
    const double step = value - mean_;
    mean_ += step / static_cast<double>(count_);
    squares_ += step * (value - mean_);
  }
  double mean() const { return mean_; }
  double error() const {
    if (count_ < 2) return 0;
    const auto n = static_cast<double>(count_);
    return std::sqrt(squares_ / (n - 1) / n);
  }

 private:
  std::int64_t count_ = 0;
  double mean_ = 0, squares_ = 0;
};

class Scores {
 public:
  Scores(const EvaluateOptions& options, std::string output)
      : options_(options), output_(std::move(output)) {}

  // `other`: the reference's logits of the same run, or empty.
  Status add(const TokenRows& tokens, std::int64_t seen, std::span<const float> logits,
             std::span<const float> other, std::size_t vocabulary) {
    const auto length = static_cast<std::size_t>(tokens.length);
    const auto from = static_cast<std::size_t>(std::max<std::int64_t>(options_.context_tokens, 1));
    for (auto row = static_cast<std::size_t>(seen); row < static_cast<std::size_t>(tokens.rows);
         ++row) {
      for (std::size_t t = from; t < length; ++t) {
        const std::size_t index = row * length + t;
        if (tokens.real[index] == 0 || tokens.real[index - 1] == 0) continue;
        const std::int64_t target = tokens.ids[index];
        if (target < 0 || target >= static_cast<std::int64_t>(vocabulary)) {
          return Error(Code::kInput, "token-out-of-range",
                       "token " + std::to_string(target) + " is none of the " +
                           std::to_string(vocabulary) + " of the output",
                       at(output_));
        }
        const auto position = (index - 1) * vocabulary;
        add_token(logits.subspan(position, vocabulary),
                  other.empty() ? other : other.subspan(position, vocabulary),
                  static_cast<std::size_t>(target));
      }
    }
    return ok_status();
  }

  Result<Evaluation> finish(std::int64_t samples, std::optional<Evaluation>* reference) {
    if (count_ == 0) {
      return Error(Code::kInput, "no-tokens", "the data hold no token with one in front of it", {},
                   "sequences need two tokens at least, and more than are context alone");
    }
    Evaluation own = summary(samples, own_);
    if (options_.reference == nullptr) return own;
    own.agreement = static_cast<double>(equal_) / static_cast<double>(count_);
    std::ranges::sort(divergences_);
    const auto rank =
        static_cast<std::size_t>(std::ceil(0.99 * static_cast<double>(divergences_.size())));
    own.figures["kl_mean"] = divergence_.mean();
    own.figures["kl_p99"] = divergences_[std::max<std::size_t>(rank, 1) - 1];
    own.figures["kl_max"] = divergences_.back();
    if (reference != nullptr) *reference = summary(samples, other_);
    return own;
  }

 private:
  void add_token(std::span<const float> logits, std::span<const float> other, std::size_t target) {
    ++count_;
    const double norm = log_sum_exp(logits);
    own_.add(norm - static_cast<double>(logits[target]));
    if (other.empty()) return;
    const double other_norm = log_sum_exp(other);
    other_.add(other_norm - static_cast<double>(other[target]));
    if (argmax(logits) == argmax(other)) ++equal_;
    const double distance = divergence(other, other_norm, logits, norm);
    divergence_.add(distance);
    // What is no number sorts behind all others.
    divergences_.push_back(std::isnan(distance) ? std::numeric_limits<double>::infinity()
                                                : distance);
  }

  Evaluation summary(std::int64_t samples, const RunningMean& nll) const {
    Evaluation result;
    result.metric = Metric::kPerplexity;
    result.output = output_;
    result.samples = samples;
    result.value = std::exp(nll.mean());
    result.decisions = count_;
    result.figures["nll"] = nll.mean();
    result.figures["nll_error"] = nll.error();
    return result;
  }

  const EvaluateOptions& options_;
  std::string output_;
  std::int64_t count_ = 0, equal_ = 0;
  RunningMean own_, other_, divergence_;
  std::vector<double> divergences_;
};

// The logits of a run, decoded where they are no float32.
Status with_logits(Session& session, std::span<const NamedTensor> feeds, const std::string& output,
                   const TokenRows& tokens,
                   const std::function<Status(std::span<const float>, std::size_t)>& use) {
  bool seen = false;
  MCOMPRESS_TRY(
      session.run(feeds, {&output, 1}, [&](std::size_t, const TensorView& view) -> Status {
        seen = true;
        const auto& dims = view.dims;
        if (dims.size() != 3 || dims[0] != tokens.rows || dims[1] != tokens.length || dims[2] < 1) {
          std::string shape;
          for (const std::int64_t size : dims)
            shape += (shape.empty() ? "" : ",") + std::to_string(size);
          return Error(Code::kInput, "logits-shape",
                       "the output is [" + shape + "], and the token ids [" +
                           std::to_string(tokens.rows) + "," + std::to_string(tokens.length) +
                           "]: that is no distribution for each token",
                       at(output), "name the output with the logits");
        }
        MCOMPRESS_ASSIGN(const std::vector<float> values, view_values(view, output));
        return use(values, static_cast<std::size_t>(dims[2]));
      }));
  if (!seen) return Error(Code::kInput, "output-no-tensor", "the output is no tensor", at(output));
  return ok_status();
}

std::int64_t rows_per_run(const Session& session, const std::string& output,
                          const EvaluateOptions& options, std::int64_t length) {
  if (options.batch > 0) return options.batch;
  for (const PortInfo& port : session.outputs()) {
    if (port.name != output || !port.type.shape || port.type.shape->empty()) continue;
    const std::int64_t vocabulary = port.type.shape->back().size.value_or(0);
    if (vocabulary < 1) break;
    const std::int64_t tokens = kMostLogits / vocabulary;
    return std::clamp<std::int64_t>(tokens / std::max<std::int64_t>(length, 1), 1, kMostRows);
  }
  return 1;
}

}  // namespace

Result<Evaluation> evaluate_perplexity(Session& session, DataSource& data,
                                       const EvaluateOptions& options, Progress& progress,
                                       std::optional<Evaluation>* reference) {
  const std::vector<LanguageInput> roles = session_roles(session, options.language);
  MCOMPRESS_ASSIGN(const std::string output, pick_logits(session, roles, options.output));
  const std::int64_t samples =
      options.limit > 0 ? std::min(options.limit, data.count()) : data.count();
  Scores scores(options, output);
  std::int64_t length = 1;
  if (data.count() > 0 && data.fixed_batch() == 0) {
    MCOMPRESS_ASSIGN(const auto feeds, data.sample(0));
    MCOMPRESS_ASSIGN(const TokenRows tokens, token_rows(feeds, roles, options.pad_id));
    length = tokens.length;
  }
  for (const RunRange& range :
       run_ranges(data, samples, rows_per_run(session, output, options, length))) {
    if (progress.cancelled()) return Error(Code::kCancelled, "cancelled", "stopped on request");
    progress.update("evaluate", static_cast<std::uint64_t>(range.start),
                    static_cast<std::uint64_t>(samples), "samples");
    MCOMPRESS_ASSIGN(const auto feeds, data.batch(range.start, range.count));
    MCOMPRESS_ASSIGN(const TokenRows tokens, token_rows(feeds, roles, options.pad_id));
    std::vector<float> other;
    std::size_t classes = 0;
    if (options.reference != nullptr) {
      MCOMPRESS_ASSIGN(const auto own, fitted_feeds(*options.reference, feeds, tokens));
      MCOMPRESS_TRY(with_logits(*options.reference, own, output, tokens,
                                [&](std::span<const float> values, std::size_t vocabulary) {
                                  other.assign(values.begin(), values.end());
                                  classes = vocabulary;
                                  return ok_status();
                                }));
    }
    MCOMPRESS_TRY(with_logits(session, feeds, output, tokens,
                              [&](std::span<const float> values, std::size_t vocabulary) -> Status {
                                if (options.reference != nullptr && classes != vocabulary) {
                                  return Error(Code::kInput, "output-shapes-differ",
                                               "the two models have vocabularies of " +
                                                   std::to_string(classes) + " and " +
                                                   std::to_string(vocabulary) + " tokens",
                                               at(output));
                                }
                                return scores.add(tokens, range.seen, values, other, vocabulary);
                              }));
  }
  return scores.finish(samples, reference);
}

}  // namespace mcompress
