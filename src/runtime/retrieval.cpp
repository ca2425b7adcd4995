// Embeddings judged by what they find.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

#include "runtime/decisions.h"
#include "runtime/feeds.h"
#include "runtime/language_metrics.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::int64_t kRowsPerRun = 16;
constexpr std::size_t kFirst = 10;

Location at(std::string_view subject) {
  Location where;
  where.subject = subject;
  return where;
}

// Rows of unit length.
struct Embeddings {
  std::size_t width = 0;
  std::vector<float> values;

  std::size_t rows() const { return width == 0 ? 0 : values.size() / width; }
  std::span<const float> row(std::size_t i) const {
    return std::span(values).subspan(i * width, width);
  }
};

double dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  }
  return sum;
}

// A float output of rank 2 is an embedding; without one, the mean over real tokens of the first of
// rank 3 is taken.
Result<std::string> pick_embedding(const Session& session, const std::string& wanted) {
  if (!wanted.empty()) {
    MCOMPRESS_TRY(check_fetch(session.outputs(), {&wanted, 1}));
    return wanted;
  }
  for (const std::size_t rank : {std::size_t{2}, std::size_t{3}}) {
    for (const PortInfo& port : session.outputs()) {
      const DTypeInfo* info = find_dtype(port.type.element);
      if (info == nullptr || !info->floating) continue;
      if (port.type.shape && port.type.shape->size() == rank) return port.name;
    }
  }
  if (!session.outputs().empty() && !session.outputs().front().type.shape) {
    return session.outputs().front().name;
  }
  return Error(Code::kUsage, "no-embedding",
               "no output has the form [batch, size] or [batch, length, size] of an embedding", {},
               "name the output");
}

Status append(const TensorView& view, const std::string& output, const TokenRows* tokens,
              std::int64_t count, std::int64_t seen, Embeddings& all) {
  MCOMPRESS_ASSIGN(const std::vector<float> values, view_values(view, output));
  const auto& dims = view.dims;
  const bool pooled = dims.size() == 2;
  const bool fits = (pooled || dims.size() == 3) && dims[0] == count && dims.back() > 0 &&
                    (all.width == 0 || static_cast<std::int64_t>(all.width) == dims.back());
  if (!fits) {
    return Error(Code::kInput, "embedding-shape",
                 "the output does not give one embedding for each sample", at(output));
  }
  all.width = static_cast<std::size_t>(dims.back());
  const std::size_t length = pooled ? 1 : static_cast<std::size_t>(dims[1]);
  for (auto row = static_cast<std::size_t>(seen); row < static_cast<std::size_t>(count); ++row) {
    std::vector<double> mean(all.width, 0);
    for (std::size_t t = 0; t < length; ++t) {
      const std::size_t index = row * length + t;
      if (!pooled && tokens != nullptr && index < tokens->real.size() && tokens->real[index] == 0) {
        continue;
      }
      for (std::size_t i = 0; i < all.width; ++i) {
        mean[i] += static_cast<double>(values[index * all.width + i]);
      }
    }
    double square = 0;
    for (const double value : mean) square += value * value;
    const double scale = square > 0 ? 1 / std::sqrt(square) : 0;
    for (const double value : mean) all.values.push_back(static_cast<float>(value * scale));
  }
  return ok_status();
}

// Candidates for query `i`, nearest first, of equal ones the earlier; the first `most`.
std::vector<std::size_t> nearest(const Embeddings& all, std::size_t query, std::size_t most) {
  const std::size_t half = all.rows() / 2;
  std::vector<double> likeness(half);
  for (std::size_t i = 0; i < half; ++i) likeness[i] = dot(all.row(query), all.row(half + i));
  std::vector<std::size_t> order(half);
  std::iota(order.begin(), order.end(), std::size_t{0});
  most = std::min(most, half);
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(most), order.end(),
                    [&](std::size_t a, std::size_t b) {
                      return likeness[a] != likeness[b] ? likeness[a] > likeness[b] : a < b;
                    });
  order.resize(most);
  return order;
}

}  // namespace

Result<Evaluation> evaluate_retrieval(Session& session, DataSource& data,
                                      const EvaluateOptions& options, Progress& progress,
                                      std::optional<Evaluation>* reference) {
  MCOMPRESS_ASSIGN(const std::string output, pick_embedding(session, options.output));
  const std::int64_t samples =
      options.limit > 0 ? std::min(options.limit, data.count()) : data.count();
  if (samples < 2 || samples % 2 != 0) {
    return Error(Code::kInput, "retrieval-pairs",
                 "retrieval wants pairs, the second halves behind all first ones: " +
                     std::to_string(samples) + " samples are no pairs");
  }
  const std::vector<LanguageInput> roles = session_roles(session, options.language);
  const bool tokens_known = find_role(roles, InputRole::kTokenIds) != nullptr;
  std::vector<Session*> sessions = {&session};
  if (options.reference != nullptr) sessions.push_back(options.reference);
  std::vector<Embeddings> all(sessions.size());
  const std::int64_t batch = options.batch > 0 ? options.batch : kRowsPerRun;
  for (const RunRange& range : run_ranges(data, samples, batch)) {
    if (progress.cancelled()) return Error(Code::kCancelled, "cancelled", "stopped on request");
    progress.update("evaluate", static_cast<std::uint64_t>(range.start),
                    static_cast<std::uint64_t>(samples), "samples");
    MCOMPRESS_ASSIGN(const auto feeds, data.batch(range.start, range.count));
    std::optional<TokenRows> tokens;
    if (tokens_known) {
      MCOMPRESS_ASSIGN(tokens, token_rows(feeds, roles, options.pad_id));
    }
    for (std::size_t i = 0; i < sessions.size(); ++i) {
      MCOMPRESS_TRY(sessions[i]->run(feeds, {&output, 1}, [&](std::size_t, const TensorView& view) {
        return append(view, output, tokens ? &*tokens : nullptr, range.count, range.seen, all[i]);
      }));
    }
  }
  const auto pairs = static_cast<std::size_t>(samples / 2);
  std::vector<Evaluation> results(sessions.size());
  std::int64_t same = 0;
  double overlap = 0;
  for (Evaluation& result : results) {
    result.metric = Metric::kRetrieval;
    result.output = output;
    result.samples = samples;
    result.decisions = static_cast<std::int64_t>(pairs);
  }
  for (std::size_t query = 0; query < pairs; ++query) {
    std::vector<std::vector<std::size_t>> found;
    for (std::size_t i = 0; i < sessions.size(); ++i) {
      found.push_back(nearest(all[i], query, kFirst));
      if (found.back().front() == query) ++results[i].correct;
    }
    if (sessions.size() < 2) continue;
    if (found[0].front() == found[1].front()) ++same;
    std::size_t shared = 0;
    for (const std::size_t one : found[0]) {
      shared += std::ranges::find(found[1], one) != found[1].end() ? 1 : 0;
    }
    overlap += static_cast<double>(shared) / static_cast<double>(found[0].size());
  }
  for (Evaluation& result : results) {
    result.value = static_cast<double>(result.correct) / static_cast<double>(pairs);
  }
  if (sessions.size() == 2) {
    double cosine = 0;
    for (std::size_t i = 0; i < all[0].rows(); ++i) cosine += dot(all[0].row(i), all[1].row(i));
    results[0].agreement = static_cast<double>(same) / static_cast<double>(pairs);
    results[0].figures["mean_cosine"] = cosine / static_cast<double>(all[0].rows());
    results[0].figures["top10_overlap"] = overlap / static_cast<double>(pairs);
    if (reference != nullptr) *reference = std::move(results[1]);
  }
  return std::move(results[0]);
}

}  // namespace mcompress
