#include "passes/common/prune/prune_layer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <utility>

#include "numeric/sparse_codes.h"

namespace mcompress {
namespace {

constexpr double kExactDb = 200;
// Larger layers are damped by one number: to try several takes a factor each.
constexpr std::size_t kTriedColumns = 2048;
constexpr double kDampings[] = {0.01, 0.1, 1.0};
constexpr double kPlainDamping = 0.02;
constexpr double kIndependences[] = {0.5, 0.1, 1};
constexpr int kRefitRounds = 15;
constexpr int kCodeRounds = 4;
constexpr double kGainShrink = 0.1;  // of the energy, towards a gain of 1

// What is known of the inputs of one group.
struct GroupStatistics {
  std::vector<double> gram, cross;  // about the means when a shift makes up for these
  std::vector<double> x_means, y_means;
  std::vector<double> energies;  // the diagonal of gram
};

GroupStatistics statistics_of(const PruneInputGroup& group, bool centred) {
  GroupStatistics all;
  const std::size_t columns = group.gram->columns();
  std::vector<double> moments = group.gram->moments();
  all.x_means = group.gram->means();
  all.gram = centred ? group.gram->centred() : std::move(moments);
  if (group.cross != nullptr) {
    all.cross = group.cross->moments();
    all.y_means = group.cross->y_means();
    for (std::size_t r = 0; centred && r < columns; ++r) {
      for (std::size_t c = 0; c < columns; ++c) {
        double& entry = all.cross[r * columns + c];
        // Where x never moves nothing follows from it.
        entry = all.gram[c * columns + c] > 0 ? entry - all.y_means[r] * all.x_means[c] : 0;
      }
    }
  } else {
    all.y_means = all.x_means;
  }
  // What was never seen to move may move one day: it counts a little.
  double trace = 0;
  std::size_t alive = 0;
  for (std::size_t c = 0; c < columns; ++c) {
    const double own = all.gram[c * columns + c];
    trace += own;
    alive += own > 0 ? 1 : 0;
  }
  const double least = alive > 0 ? 1e-9 * trace / static_cast<double>(alive) : 0;
  all.energies.resize(columns);
  for (std::size_t c = 0; c < columns; ++c) {
    double& own = all.gram[c * columns + c];
    own = std::max(own, least);
    all.energies[c] = own;
  }
  return all;
}

// One way to prune a layer.
struct Way {
  PruneMethod method = PruneMethod::kMagnitude;
  SparsityScope scope = SparsityScope::kLayer;
  double damping = kPlainDamping;
  // Of Wanda's mask below 1: weights are exchanged by the layer's error, inputs being taken for
  // independent to this degree.
  double independence = 1;
  bool joint = false;   // the mask is chosen by the sweep that rounds
  bool rounds = true;   // to the layer's grid, where it has one
  bool follow = false;  // make up for what the layers before do to the inputs, too
  bool refit = false;
  bool shift = false;
  bool gain = false;
};

const char* method_name(PruneMethod method) {
  switch (method) {
    case PruneMethod::kWanda:
      return "wanda";
    case PruneMethod::kRelative:
      return "ria";
    case PruneMethod::kSparseGpt:
      return "sparsegpt";
    default:
      return "magnitude";
  }
}

const char* score_name(PruneMethod method) {
  switch (method) {
    case PruneMethod::kWanda:
      return "|w| rms(x)";
    case PruneMethod::kRelative:
      return "(|w| / row + |w| / column) sqrt(rms(x))";
    case PruneMethod::kSparseGpt:
      return "w^2 / U^2";
    default:
      return "|w|";
  }
}

class LayerPruning {
 public:
  LayerPruning(const PruneLayer& layer, std::span<const float> original,
               std::span<const float> current, const PruneInput* input, const PruneRules& rules,
               double sparsity, std::span<const std::uint8_t> given, const Executor& executor)
      : layer_(layer),
        original_(original),
        current_(current),
        input_(input),
        rules_(rules),
        sparsity_(sparsity),
        given_(given),
        executor_(executor),
        columns_(layer.columns()),
        groups_(input != nullptr ? input->groups.size() : 1),
        part_(original.size() / std::max<std::size_t>(groups_, 1)) {
    if (layer.dense_because.empty()) {
      pattern_ = rules.pattern;
    } else {
      sparsity_ = 0;
    }
    pattern_.run = layer.run();
    places_ = layer.places();
    again_ = !std::ranges::equal(original, current);
  }

  PrunedRows run(std::span<const std::size_t> only) {
    std::optional<PrunedRows> best;
    std::vector<std::pair<double, std::size_t>> tried;  // error and number of a way
    const std::vector<Way> all = ways();
    for (std::size_t number = 0; number < all.size(); ++number) {
      if (!only.empty() && std::ranges::find(only, number) == only.end()) continue;
      std::optional<PrunedRows> made = prune(all[number]);
      if (!made) continue;
      const SparseOutputError error = judge(*made);
      if (error.signal > 0) {
        made->output_db = error.error > 0
                              ? std::min(kExactDb, 10 * std::log10(error.signal / error.error))
                              : kExactDb;
      }
      // Without samples to judge on the first way it is.
      const bool better = !best || error.error < std::ranges::min(tried).first;
      tried.emplace_back(error.error, number);
      if (better) best = std::move(made);
      if (!has_held()) break;
    }
    if (!best) best = prune(plain_way());
    std::ranges::sort(tried);
    for (const auto& [error, number] : tried) best->ways.push_back(number);
    const auto zeros = std::ranges::count(best->weights, 0.0F);
    best->sparsity = static_cast<double>(zeros) / static_cast<double>(best->weights.size());
    return std::move(*best);
  }

  std::vector<double> errors(std::span<const double> sparsities, bool by_scores) {
    std::vector<double> costs;
    Way way = plain_way();
    way.rounds = false;
    way.method = by_scores ? PruneMethod::kWanda : PruneMethod::kSparseGpt;
    way.damping = kDampings[1];
    way.shift = layer_.takes_shift;
    for (const double sparsity : sparsities) {
      sparsity_ = sparsity;
      cost_ = 0;
      const auto made = prune(way);
      if (!made) return {};
      if (by_scores) {
        const SparseOutputError error = judge(*made);
        if (!(error.signal > 0)) return {};
        costs.push_back(error.error / error.signal);
      } else {
        const double signal = signal_energy();
        if (!(signal > 0)) return {};
        costs.push_back(cost_ / signal);
      }
    }
    return costs;
  }

 private:
  bool has_held() const { return input_ != nullptr && !input_->groups.front().held_x.empty(); }

  Way plain_way() const {
    Way way;
    way.scope = rules_.scope.value_or(SparsityScope::kLayer);
    return way;
  }

  std::vector<Way> ways() const {
    if (input_ == nullptr) return {plain_way()};
    const bool automatic = rules_.repair == PruneRepair::kAuto;
    const bool squares = automatic || rules_.repair == PruneRepair::kLeastSquares;
    const bool room = layer_.takes_shift && rules_.repair != PruneRepair::kNone;
    std::vector<double> dampings(std::begin(kDampings), std::end(kDampings));
    if (columns_ > kTriedColumns || !has_held()) dampings = {kPlainDamping};
    if (rules_.damping > 0) dampings = {rules_.damping};
    std::vector<PruneMethod> methods = {rules_.method};
    if (!given_.empty())
      methods = {PruneMethod::kMagnitude};
    else if (rules_.method == PruneMethod::kAuto) {
      methods = {PruneMethod::kSparseGpt, PruneMethod::kWanda};
    }
    const bool crossed = input_->groups.front().cross != nullptr;
    std::vector<Way> ways;
    for (const PruneMethod method : methods) {
      const bool sweeps = method == PruneMethod::kSparseGpt;
      const bool joins = layer_.format.has_value() && sweeps && !again_;
      for (const double damping : dampings) {
        // A second method is tried once.
        if (method != methods.front() && damping != dampings[dampings.size() / 2]) continue;
        Way way = plain_way();
        way.method = method;
        way.damping = damping;
        way.shift = room;
        if (squares) {
          way.refit = true;
          way.follow = crossed;
          ways.push_back(way);
          if (joins) {
            way.joint = true;
            ways.push_back(way);
            way.joint = false;
          }
          way.follow = false;
          if (automatic && crossed) ways.push_back(way);
        } else if (sweeps) {
          // What the sweep moves is the least squares over the columns to come alone: over all
          // that stay it is the same update, finished.
          way.refit = true;
          way.joint = joins;
          ways.push_back(way);
          way.follow = crossed;
          if (crossed) ways.push_back(way);
        }
      }
      if (squares && !automatic) continue;
      // Wanda compares the weights of an output, and on some layers better all of them.
      std::vector<SparsityScope> scopes = {SparsityScope::kLayer, SparsityScope::kRow};
      const bool by_inputs = method == PruneMethod::kWanda || method == PruneMethod::kRelative;
      if (rules_.scope) scopes = {*rules_.scope};
      if (!by_inputs) scopes.resize(1);
      std::vector<double> independences(std::begin(kIndependences), std::end(kIndependences));
      if (!by_inputs) independences = {1};
      for (const SparsityScope scope : scopes) {
        for (const double independence : independences) {
          Way plain;
          plain.method = method;
          plain.scope = scope;
          plain.damping = dampings.front();
          plain.independence = independence;
          plain.shift = room;
          plain.gain = rules_.repair == PruneRepair::kAffine;
          if (!sweeps || plain.gain) ways.push_back(plain);
          if (automatic && !sweeps) {
            plain.gain = true;
            ways.push_back(plain);
            plain.gain = plain.shift = false;
            ways.push_back(plain);
          }
        }
      }
    }
    return ways;
  }

  const GroupStatistics& statistics(std::size_t g, bool centred) {
    auto& slot = statistics_[{g, centred}];
    if (slot == nullptr) {
      slot = std::make_unique<GroupStatistics>(statistics_of(input_->groups[g], centred));
    }
    return *slot;
  }

  // Null: the inputs tell nothing.
  const GramFactor* factor(std::size_t g, bool centred, double damping) {
    const auto key = std::tuple(g, centred, damping);
    if (const auto known = factors_.find(key); known != factors_.end()) {
      return known->second ? &*known->second : nullptr;
    }
    FactorOptions options;
    options.damping = damping;
    options.largest_first = !pattern_.of_group();
    auto& made = factors_[key];
    made = factor_gram(statistics(g, centred).gram, columns_, options);
    return made ? &*made : nullptr;
  }

  std::optional<PrunedRows> prune(const Way& way) {
    PrunedRows made;
    made.weights.assign(current_.begin(), current_.end());
    if (way.shift) made.shift.assign(original_.size() / columns_, 0);
    for (std::size_t g = 0; g < groups_; ++g) {
      if (!prune_group(way, g, made)) return std::nullopt;
    }
    made.how = given_.empty() ? method_name(way.method) : "mask given";
    if (!layer_.dense_because.empty()) made.how = "rounded";
    made.score = given_.empty() ? score_name(way.method) : "given";
    made.ranked = !given_.empty()                    ? "mask"
                  : pattern_.of_group()              ? "group of " + std::to_string(pattern_.group)
                  : way.scope == SparsityScope::kRow ? "output"
                                                     : "layer";
    if (way.joint) made.how += " and codes in one sweep";
    if (way.independence < 1) made.how += ", exchanged by the layer's error";
    if (way.scope == SparsityScope::kRow && given_.empty()) made.how += " by output";
    if (way.refit) made.how += ", least squares";
    if (way.follow) made.how += " on the original's outputs";
    if (way.gain) made.how += ", gains";
    if (way.shift) made.how += way.refit ? "" : ", means";
    return made;
  }

  bool prune_group(const Way& way, std::size_t g, PrunedRows& made) {
    const std::span<float> v = std::span(made.weights).subspan(g * part_, part_);
    const std::span<const float> w = original_.subspan(g * part_, part_);
    std::vector<std::uint8_t> mask(part_, 1);
    const bool sweeps = way.method == PruneMethod::kSparseGpt && given_.empty();
    const GramFactor* solver = nullptr;
    std::vector<double> wanted;
    if (sweeps || way.refit) {
      solver = factor(g, way.shift, way.damping);
      if (solver == nullptr) return false;
      wanted = wanted_outputs(way, g, *solver, w);
    }
    if (!given_.empty()) {
      std::ranges::copy(given_.subspan(g * part_, part_), mask.begin());
      blank(v, mask);
    } else if (sweeps) {
      if (again_) {
        // What went before stays away, and costs nothing.
        for (std::size_t i = 0; i < part_; ++i) mask[i] = v[i] != 0 ? 1 : 0;
        refit_kept(v, mask, solver->damped, wanted, columns_, kRefitRounds, executor_);
      } else if (way.follow) {
        const std::vector<float> target = solve_rows(wanted, *solver, executor_);
        std::ranges::copy(target, v.begin());
      }
      cost_ += sparse_sweep(v, *solver, sweep_options(way), executor_, mask);
    } else {
      mask = mask_by_scores(way, g, w, v);
      blank(v, mask);
    }
    if (way.refit) {
      refit_kept(v, mask, solver->damped, wanted, columns_, kRefitRounds, executor_);
    }
    if (way.gain) set_gains(way, g, w, v);
    if (layer_.format && way.rounds) round_group(way, g, solver, wanted, mask, v, made);
    if (way.shift) set_shift(way, g, w, v, made.shift);
    return true;
  }

  SparseSweepOptions sweep_options(const Way& way) const {
    SparseSweepOptions options;
    options.pattern = pattern_;
    options.scope = way.scope;
    options.sparsity = sparsity_;
    return options;
  }

  std::vector<std::uint8_t> mask_by_scores(const Way& way, std::size_t g, std::span<const float> w,
                                           std::span<const float> v) {
    const bool by_inputs = input_ != nullptr && way.method != PruneMethod::kMagnitude;
    std::vector<double> energies;
    if (by_inputs) energies = statistics(g, way.shift).energies;
    std::vector<std::uint8_t> mask =
        choose_mask(way.method == PruneMethod::kRelative ? relative_scores(v, columns_, energies)
                                                         : weight_scores(v, columns_, energies),
                    columns_, pattern_, way.scope, sparsity_);
    if (!by_inputs || way.independence >= 1) return mask;
    // Ways that differ in what is done afterwards share their mask.
    const auto [known_mask, added] =
        exchanged_.try_emplace({g, way.method, way.scope, way.independence, way.shift});
    if (!added) return known_mask->second;
    const GroupStatistics& known = statistics(g, way.shift);
    std::vector<double>& pull = pulls_[{g, way.shift}];
    if (pull.empty() && !known.cross.empty()) {
      pull = times_square(w, known.cross, columns_, executor_);
      const std::vector<double> own = times_square(v, known.gram, columns_, executor_);
      for (std::size_t i = 0; i < pull.size(); ++i) pull[i] -= own[i];
    }
    exchange_kept(v, columns_, {known.gram, pull, way.independence}, pattern_, executor_, mask);
    known_mask->second = mask;
    return mask;
  }

  // What stays becomes codes. With a factor these make up for what went and for one another; else
  // they are the nearest.
  void round_group(const Way& way, std::size_t g, const GramFactor* solver,
                   std::span<const double> wanted, std::vector<std::uint8_t>& mask,
                   std::span<float> v, PrunedRows& made) {
    std::vector<double> energies;
    if (input_ != nullptr) energies = statistics(g, way.shift).energies;
    BlockRows rows = fit_codes(v, columns_, places_, energies, *layer_.format, executor_);
    if (solver != nullptr) {
      SparseSweepOptions options = sweep_options(way);
      if (way.joint) {
        std::vector<float> target = solve_rows(wanted, *solver, executor_);
        std::vector<float> floats = target;
        sweep_codes(target, *solver, options, places_, executor_, mask, rows);
        // What stays as floats once more: codes are to come near what is fitted with care, not
        // nearer to the least squares of these samples.
        const std::vector<std::uint8_t> chosen = mask;
        options.mask = chosen;
        sparse_sweep(floats, *solver, options, executor_, mask);
        if (way.refit) {
          refit_kept(floats, mask, solver->damped, wanted, columns_, kRefitRounds, executor_);
        }
        std::ranges::copy(floats, v.begin());
        rows = fit_codes(v, columns_, places_, energies, *layer_.format, executor_);
      }
      const std::vector<double> near = times_square(v, solver->damped, columns_, executor_);
      std::vector<float> target(v.begin(), v.end());
      const std::vector<std::uint8_t> chosen = mask;
      options.mask = chosen;
      sweep_codes(target, *solver, options, places_, executor_, mask, rows);
      descend_codes(mask, solver->damped, near, places_, kCodeRounds, executor_, rows);
    }
    restore_codes(rows, places_, v);
    if (!made.codes) {
      made.codes = std::move(rows);
      return;
    }
    // Groups of a convolution one after the other.
    BlockRows& all = *made.codes;
    if (rows.format.scales == DataType::kFloat) all.format.scales = DataType::kFloat;
    all.rows += rows.rows;
    all.signal += rows.signal;
    all.noise += rows.noise;
    all.codes.insert(all.codes.end(), rows.codes.begin(), rows.codes.end());
    all.scales.insert(all.scales.end(), rows.scales.begin(), rows.scales.end());
    all.zero_points.insert(all.zero_points.end(), rows.zero_points.begin(), rows.zero_points.end());
  }

  static void blank(std::span<float> v, std::span<const std::uint8_t> mask) {
    for (std::size_t i = 0; i < v.size(); ++i) {
      if (mask[i] == 0) v[i] = 0;
    }
  }

  // T (H + damping), where T makes of x what W makes of y; without `follow` T = W.
  std::vector<double> wanted_outputs(const Way& way, std::size_t g, const GramFactor& solver,
                                     std::span<const float> w) {
    if (!way.follow) return times_square(w, solver.damped, columns_, executor_);
    const GroupStatistics& known = statistics(g, way.shift);
    std::vector<double> cross = known.cross;
    for (std::size_t c = 0; c < columns_; ++c) {
      cross[c * columns_ + c] += solver.damped[c * columns_ + c] - known.gram[c * columns_ + c];
    }
    return times_square(w, cross, columns_, executor_);
  }

  // Of least squares for each row by itself: <W y, V x> / <V x, V x>.
  void set_gains(const Way& way, std::size_t g, std::span<const float> w, std::span<float> v) {
    const GroupStatistics& known = statistics(g, way.shift);
    const std::vector<double> made = times_square(v, known.gram, columns_, executor_);
    const std::vector<double> target =
        times_square(w, known.cross.empty() ? known.gram : known.cross, columns_, executor_);
    for (std::size_t first = 0; first < v.size(); first += columns_) {
      double own = 0, both = 0;
      for (std::size_t i = first; i < first + columns_; ++i) {
        own += made[i] * double{v[i]};
        both += target[i] * double{v[i]};
      }
      if (!(own > 0)) continue;
      const double gain = (both + kGainShrink * own) / (own + kGainShrink * own);
      if (!(gain > 0)) continue;
      for (std::size_t i = first; i < first + columns_; ++i) {
        v[i] = static_cast<float>(double{v[i]} * gain);
      }
    }
  }

  void set_shift(const Way& way, std::size_t g, std::span<const float> w, std::span<const float> v,
                 std::vector<double>& shift) {
    const GroupStatistics& known = statistics(g, way.shift);
    const std::size_t first = g * part_ / columns_;
    for (std::size_t i = 0; i < v.size(); ++i) {
      shift[first + i / columns_] +=
          double{w[i]} * known.y_means[i % columns_] - double{v[i]} * known.x_means[i % columns_];
    }
  }

  SparseOutputError judge(const PrunedRows& made) const {
    SparseOutputError total;
    if (!has_held()) return total;
    for (std::size_t g = 0; g < groups_; ++g) {
      const PruneInputGroup& group = input_->groups[g];
      const std::size_t rows = part_ / columns_;
      const std::span<const double> shift = made.shift.empty()
                                                ? std::span<const double>()
                                                : std::span(made.shift).subspan(g * rows, rows);
      const SparseOutputError part = output_error_of(
          original_.subspan(g * part_, part_), std::span(made.weights).subspan(g * part_, part_),
          shift, {group.held_y, group.held_x, columns_}, executor_);
      total.error += part.error;
      total.signal += part.signal;
    }
    return total;
  }

  double signal_energy() {
    double total = 0;
    for (std::size_t g = 0; g < groups_; ++g) {
      const std::span<const float> w = original_.subspan(g * part_, part_);
      const std::vector<double> product =
          times_square(w, statistics(g, layer_.takes_shift).gram, columns_, executor_);
      for (std::size_t i = 0; i < w.size(); ++i) total += product[i] * double{w[i]};
    }
    return total;
  }

  const PruneLayer& layer_;
  std::span<const float> original_, current_;
  const PruneInput* input_;
  const PruneRules& rules_;
  double sparsity_;
  std::span<const std::uint8_t> given_;
  const Executor& executor_;
  std::size_t columns_, groups_, part_;  // part_: weights of a group
  SparsityPattern pattern_;
  std::vector<std::uint32_t> places_;
  bool again_ = false;
  double cost_ = 0;
  std::map<std::pair<std::size_t, bool>, std::unique_ptr<GroupStatistics>> statistics_;
  std::map<std::pair<std::size_t, bool>, std::vector<double>> pulls_;
  std::map<std::tuple<std::size_t, PruneMethod, SparsityScope, double, bool>,
           std::vector<std::uint8_t>>
      exchanged_;
  std::map<std::tuple<std::size_t, bool, double>, std::optional<GramFactor>> factors_;
};

}  // namespace

PrunedRows prune_layer(const PruneLayer& layer, std::span<const float> original,
                       std::span<const float> current, const PruneInput* input,
                       const PruneRules& rules, double sparsity,
                       std::span<const std::uint8_t> given, std::span<const std::size_t> only,
                       const Executor& executor) {
  return LayerPruning(layer, original, current, input, rules, sparsity, given, executor).run(only);
}

std::vector<double> pruning_errors(const PruneLayer& layer, std::span<const float> weights,
                                   const PruneInput& input, const PruneRules& rules,
                                   std::span<const double> sparsities, bool by_scores,
                                   const Executor& executor) {
  return LayerPruning(layer, weights, weights, &input, rules, 0, {}, executor)
      .errors(sparsities, by_scores);
}

}  // namespace mcompress
