#include "passes/common/cluster/cluster_fitter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <unordered_map>

#include "passes/common/blocks/input_grams.h"
#include "passes/common/sample_split.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::size_t kMostColumns = 4608;
constexpr std::size_t kMemory = std::size_t{256} << 20;  // of Gram matrices at a time
constexpr std::int64_t kGuardSamples = 64;
constexpr std::int64_t kRankSamples = 16;  // which of two weights counts more needs fewer

// Root of the mean square of what is not 0, by importance.
double spread_of(const ClusterInput& input) {
  double sum = 0, weight = 0;
  for (std::size_t i = 0; i < input.values.size(); ++i) {
    const double x = double{input.values[i]};
    if (x == 0) continue;
    const double h = input.importance.empty() ? 1 : double{input.importance[i]};
    sum += h * x * x, weight += h;
  }
  return weight > 0 && sum > 0 ? std::sqrt(sum / weight) : 0;
}

}  // namespace

Result<Tensor> restored_weight(const ClusterUnit& unit, const ClusterCodes& codes,
                               TensorFactory& tensors) {
  const auto dims = unit.tensor().dims();
  return tensors.make(DataType::kFloat, {dims.begin(), dims.end()},
                      [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
                        for (std::size_t i = 0; i < out.size(); i += 4) {
                          const float x = codes.value((offset + i) / 4);
                          std::memcpy(out.data() + i, &x, 4);
                        }
                        return ok_status();
                      });
}

namespace {

void put_at(Editor& edit, Value& there, Tensor weight) {
  if (there.producer() != nullptr) {
    edit.replace_by_constant(*there.producer(), std::move(weight));
  } else {
    edit.set_constant(there, std::move(weight));
  }
}

}  // namespace

Status put_restored(Model& copy, const ClusterUnit& unit, Tensor weight) {
  if (unit.value().graph().owner() != nullptr) return ok_status();
  Editor edit(copy, &onnx_catalog());
  put_at(edit, *copy.graph().find(unit.value().name()), std::move(weight));
  return ok_status();
}

ClusterFitter::ClusterFitter(const Model& model, const std::vector<ClusterUnit>& units,
                             const std::vector<std::vector<float>>& energies,
                             const ClusterFitting& how, PassContext& context)
    : model_(model), units_(units), energies_(energies), how_(how), context_(context) {
  if (context.calibration_data() == nullptr || !(how.refit || how.feedback)) return;
  std::vector<BlockUnit> places;
  places.reserve(units.size());
  for (const ClusterUnit& unit : units) places.push_back(unit.place);
  inputs_ = unit_inputs(places);
  std::erase_if(inputs_, [](const UnitInput& in) { return in.rows.columns() > kMostColumns; });
}

Status ClusterFitter::stop_if_cancelled(std::string_view what, std::size_t at) const {
  context_.progress().update(what, at, units_.size(), "tensors");
  if (!context_.progress().cancelled()) return ok_status();
  return Error(Code::kCancelled, "cancelled", "interrupted while weights were clustered");
}

Status ClusterFitter::fit() { return fit_at({}); }

Status ClusterFitter::start(std::size_t unit, const std::vector<double>& steps) {
  MCOMPRESS_TRY(stop_if_cancelled("cluster weights", unit));
  const ClusterUnit& of = units_[unit];
  Fitted& made = fitted_[unit];
  made = {};
  MCOMPRESS_ASSIGN(const ClusterInput input, cluster_input(of, energies_[unit], how_.keep_zero));
  if (!steps.empty()) {
    made.codes = even_clusters(input, steps[unit], of.clusters, context_.executor());
    return ok_status();
  }
  const bool vectors = how_.dimension > 1 && of.why_fewest.empty() && !input.zero &&
                       input.values.size() % how_.dimension == 0;
  made.codes = vectors
                   ? fit_vector_clusters(input, of.clusters, how_.dimension, how_.rate,
                                         context_.seed(), context_.executor())
                   : fit_clusters(input, of.clusters, how_.rate, context_.executor(), of.groups);
  return ok_status();
}

Status ClusterFitter::improve(std::size_t unit, const UnitInput& input, const GramMatrix& gram) {
  Fitted& made = fitted_[unit];
  const std::vector<double> moments = in_order_of_unit(gram, input);
  MCOMPRESS_ASSIGN(const ClusterInput weight,
                   cluster_input(units_[unit], energies_[unit], how_.keep_zero));
  const RowView& view = units_[unit].place.holders.front().view;
  const VectorLayout layout =
      made.codes.dimension > 1 ? vector_layout(view, made.codes.dimension) : VectorLayout::kRows;
  if (how_.feedback && layout != VectorLayout::kNeither &&
      moments.size() == view.columns() * view.columns()) {
    if (const auto factor = factor_of_codes(moments, view.columns(), gram.rows(),
                                            layout == VectorLayout::kColumns)) {
      adapt_codes(weight, view, *factor, how_.rate, made.codes, context_.executor());
      made.adapted = true;
    }
  }
  if (how_.refit) {
    made.refitted = refit_codebook(weight, view, moments, made.codes, context_.executor());
  }
  return ok_status();
}

Result<std::vector<std::unique_ptr<GramMatrix>>> ClusterFitter::observe(
    const std::vector<UnitInput>& part) {
  std::vector<std::unique_ptr<GramMatrix>> grams(part.size());
  ObservedRows how;
  how.samples = how_.samples;
  how.leave_judging = judged_;
  how.wanted = [](std::size_t columns) {
    return static_cast<std::int64_t>(std::max<std::size_t>(2048, 2 * columns));
  };
  MCOMPRESS_TRY(
      observe_rows(model_, part, how, context_, [&](std::size_t i, std::vector<float>& rows) {
        if (grams[i] == nullptr) grams[i] = std::make_unique<GramMatrix>(part[i].rows.columns());
        grams[i]->add(rows, context_.executor());
      }));
  return grams;
}

Status ClusterFitter::fit_at(const std::vector<double>& steps) {
  fitted_.resize(units_.size());
  for (std::size_t i = 0; i < units_.size(); ++i) MCOMPRESS_TRY(start(i, steps));
  for (std::size_t begin = 0, end = 0; begin < inputs_.size(); begin = end) {
    std::uint64_t bytes = 0;
    while (end < inputs_.size() && (end == begin || bytes < kMemory)) {
      bytes += gram_bytes(inputs_[end++].rows.columns());
    }
    const std::vector<UnitInput> part(inputs_.begin() + static_cast<std::ptrdiff_t>(begin),
                                      inputs_.begin() + static_cast<std::ptrdiff_t>(end));
    const bool all = part.size() == inputs_.size();
    if (!all || grams_.empty()) {
      MCOMPRESS_ASSIGN(grams_, observe(part));
    }
    const std::vector<std::size_t> first = shared_with(part);
    for (std::size_t i = 0; i < part.size(); ++i) {
      const auto& gram = grams_[first[i]];
      if (gram == nullptr || gram->rows() == 0) continue;
      MCOMPRESS_TRY(stop_if_cancelled("adapt to outputs", part[i].unit));
      MCOMPRESS_TRY(improve(part[i].unit, part[i], *gram));
    }
  }
  return ok_status();
}

Result<double> ClusterFitter::outputs_db(const Guard& guard, Runtime& runtime,
                                         const std::vector<std::size_t>& of,
                                         const std::vector<const ClusterCodes*>& codes) {
  const std::unique_ptr<Model> trial = model_.clone();
  Editor edit(*trial, &onnx_catalog());
  std::unordered_map<std::string, Value*> places;  // found once: there may be thousands
  const Graph& top = trial->graph();
  for (Value* value : top.initializers()) places.emplace(value->name(), value);
  for (Node* node = top.first(); node != nullptr; node = top.next(*node)) {
    for (Value* value : node->outputs()) {
      if (value != nullptr) places.emplace(value->name(), value);
    }
  }
  for (std::size_t i = 0; i < of.size(); ++i) {
    const Value& value = units_[of[i]].value();
    if (value.graph().owner() != nullptr) continue;
    MCOMPRESS_ASSIGN(Tensor weight, restored_weight(units_[of[i]], *codes[i], context_.tensors()));
    put_at(edit, *places.at(std::string(value.name())), std::move(weight));
  }
  MCOMPRESS_ASSIGN(const auto session, runtime.open(*trial, {}));
  return guard.sqnr_db(*session);
}

// With even distances d an error of d^2 / 12 for each element makes an error g d^2 at the outputs,
// for log2(1 / d) bits of each of n elements: at equal d(g d^2) / d(bits), d^2 is n / g.
Result<std::vector<double>> ClusterFitter::relative_steps(const Guard& guard, Runtime& runtime) {
  constexpr double kNarrowest = 1.0 / 16;
  std::vector<double> steps(units_.size()), spreads(units_.size());
  double widest = 0;
  narrowest_.resize(units_.size());
  for (std::size_t i = 0; i < units_.size(); ++i) {
    MCOMPRESS_TRY(stop_if_cancelled("weigh errors", i));
    MCOMPRESS_ASSIGN(const ClusterInput input,
                     cluster_input(units_[i], energies_[i], how_.keep_zero));
    spreads[i] = spread_of(input);
    float largest = 0;
    for (const float x : input.values) largest = std::max(largest, std::fabs(x));
    const std::size_t side = std::max<std::size_t>(1, (units_[i].clusters - 1) / 2);
    narrowest_[i] = double{largest} / static_cast<double>(side);
    if (spreads[i] == 0) continue;
    const ClusterCodes codes =
        even_clusters(input, spreads[i], units_[i].clusters, context_.executor());
    MCOMPRESS_ASSIGN(const double db, outputs_db(guard, runtime, {i}, {&codes}));
    const double effect = std::pow(10.0, -db / 10);  // g spread^2
    steps[i] = std::sqrt(static_cast<double>(input.values.size()) / std::max(1e-12, effect));
    widest = std::max(widest, steps[i]);
  }
  for (std::size_t i = 0; i < units_.size(); ++i) {
    const double part = widest > 0 ? std::max(kNarrowest, steps[i] / widest) : 1;
    steps[i] = part * (spreads[i] > 0 ? spreads[i] : 1);
  }
  return steps;
}

// Even distances that have to reach the largest weight with few entries are far from all others.
Status ClusterFitter::fit_by_means(const std::string& why) {
  context_.diagnostics().warn("cluster-steps", why, {}, "entries are those of k-means");
  return fit();
}

Status ClusterFitter::fit_to_outputs(double sqnr_db) {
  if (units_.empty()) return ok_status();
  MCOMPRESS_ASSIGN(Runtime * runtime, context_.runtime());
  DataSource& data = *context_.calibration_data();
  const SampleSplit split(data, how_.samples);
  judged_ = true;
  Guard guard(*runtime, data, split.judging(kGuardSamples));
  MCOMPRESS_TRY(guard.open_reference(context_.reference(), model_, &context_.executor()));
  MCOMPRESS_ASSIGN(const double before, guard.sqnr_db(model_));
  if (before < sqnr_db) {
    return fit_by_means("what was done before keeps " + fixed(before, 1) +
                        " dB of the outputs, and " + fixed(sqnr_db, 1) + " are asked for");
  }
  Guard rank(*runtime, data, split.judging(kRankSamples));
  MCOMPRESS_TRY(rank.open_reference(context_.reference(), model_, &context_.executor()));
  MCOMPRESS_ASSIGN(const std::vector<double> relative, relative_steps(rank, *runtime));
  std::vector<std::size_t> all(units_.size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  // Sixteenths of an octave, from 1/16 of a weight's spread to 16 of it.
  constexpr int kOctave = 16, kLowest = -4 * kOctave, kHighest = 4 * kOctave;
  const auto trial = [&](int at) -> Result<double> {
    const double scale = std::exp2(static_cast<double>(at) / kOctave);
    std::vector<double> steps = relative;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      steps[i] = std::max(steps[i] * scale, narrowest_[i]);
    }
    MCOMPRESS_TRY(fit_at(steps));
    std::vector<const ClusterCodes*> codes;
    for (const Fitted& made : fitted_) codes.push_back(&made.codes);
    MCOMPRESS_ASSIGN(const double db, outputs_db(guard, *runtime, all, codes));
    context_.diagnostics().note("cluster-steps", "distances of " + fixed(scale, 3) +
                                                     " spreads: SQNR " + fixed(db, 1) + " dB");
    return db;
  };
  std::vector<Fitted> best;
  constexpr int kSlopeTrials = 8;
  int holds = kLowest - 1, fails = kHighest + 1, next = -kOctave / 2;
  for (int tried = 1; fails - holds > 1; ++tried) {
    MCOMPRESS_ASSIGN(const double db, trial(next));
    if (db < sqnr_db) {
      fails = next;
    } else {
      holds = next, reached_db_ = db;
      best = fitted_;
    }
    // Twice the distance, 6 dB; by halves where that does not come nearer.
    const double off = std::clamp((db - sqnr_db) * kOctave / 6.02, -2.0 * kOctave, 2.0 * kOctave);
    const int by = db < sqnr_db ? std::min(-1, static_cast<int>(std::floor(off)))
                                : std::max(1, static_cast<int>(std::floor(off)));
    const bool inside = next + by > holds && next + by < fails;
    next = inside && tried < kSlopeTrials ? next + by : holds + (fails - holds) / 2;
  }
  if (best.empty()) {
    return fit_by_means("not even the narrowest distances keep " + fixed(sqnr_db, 1) +
                        " dB of the outputs: more bits give more entries");
  }
  fitted_ = std::move(best);
  return ok_status();
}

}  // namespace mcompress
