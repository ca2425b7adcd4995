// prune-weights: weights become zero, and those that stay make up for them.
//
//   W ── Conv        becomes   W' ── Conv, with sparsity in W', and a bias that keeps the means
//
// Layer by layer in the order of the graph, each on the inputs that the pruned layers before it
// make. What the zeros save is a matter of storage: bit masks or gaps with the values that are
// left, in operators that the runtime computes when it loads the model. Dense kernels multiply
// zeros, too: nothing gets faster.
#include <algorithm>
#include <cmath>
#include <set>

#include "ir/walk.h"
#include "mcompress/host.h"
#include "mcompress/masks.h"
#include "passes/common/constants.h"
#include "passes/common/guard.h"
#include "passes/common/integer/mixed_precision.h"
#include "passes/common/prune/prune_run.h"
#include "passes/common/prune/prune_store.h"
#include "passes/common/prune/sparse_storage.h"
#include "passes/common/sample_split.h"
#include "passes/common/selection.h"
#include "passes/passes.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr double kUsual = 0.5;
constexpr double kHighest = 0.95;
constexpr double kFinest = 0.01;  // steps in which the highest sparsity is looked for
constexpr std::int64_t kJudges = 32;
constexpr double kNear = 0.5;  // dB above what is asked for that are near enough
constexpr int kMostTrials = 5;
constexpr double kRounding = 1e-6;  // of points, which are differences of shares

// What was reached on the way.
struct CurvePoint {
  double sparsity = 0;
  std::optional<double> drop;
  double sqnr_db = 0;
  std::uint64_t bytes = 0;  // of the pruned weights as stored
};

class PruneWeights final : public Pass {
 public:
  struct Options {
    std::vector<std::string> include, exclude;
    double sparsity = 0;
    std::string pattern = "unstructured";
    std::string method = "auto";
    std::string scope = "auto";
    std::string repair = "auto";
    std::string weights = "float32";
    std::int64_t block_size = -1;
    std::string storage = "auto";
    double max_drop = 100;
    double output_sqnr = 0;
    std::int64_t steps = 1;
    std::vector<std::string> mask;
    std::string save_mask;
    std::string curve;
    std::int64_t samples = 512;
    std::int64_t levels = 16;
    double damping = 0;
    bool ends = false;
    std::int64_t min_elements = 256;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        selection_schema<Options>()
            .field("sparsity", &Options::sparsity,
                   "share of the pruned tensors' weights that becomes 0; 0: half of them, with "
                   "max-drop the most that holds, at most 0.95")
            .range(0, 0.99)
            .field("pattern", &Options::pattern,
                   "unstructured; N:M: of M neighbours along the input N stay, as 2:4; block:RxC: "
                   "blocks of R outputs x C inputs go whole")
            .field("method", &Options::method,
                   "what ranks weights: magnitude; wanda: times their input's energy; ria: "
                   "relative to row "
                   "and column; sparsegpt: loss after repair; auto: best per layer, held out")
            .choices({"auto", "magnitude", "wanda", "ria", "sparsegpt"})
            .field("scope", &Options::scope,
                   "what is ranked together: row: an output's weights; layer; global: all; auto: "
                   "layers, each with the sparsity that costs the model least, as measured")
            .choices({"auto", "row", "layer", "global"})
            .field("repair", &Options::repair,
                   "of what stays: none beyond the method's own; bias: means of outputs; affine: "
                   "gains too; least-squares: all weights; auto: what is best on held-out samples")
            .choices({"auto", "none", "bias", "affine", "least-squares"})
            .field("weights", &Options::weights,
                   "what stays, and layers that are not pruned, as integers, rounded in the sweep "
                   "that prunes: int symmetric, uint with zero points; float32: as it is")
            .choices({"float32", "int8", "uint8", "int4", "uint4"})
            .field("block-size", &Options::block_size,
                   "neighbouring integers that share a scale: 16 to 256, a power of two; 0: whole "
                   "rows; -1: rows of 8 bits, 32 of 4 bits, or what the target takes")
            .range(-1, 256)
            .field("storage", &Options::storage,
                   "how pruned tensors are written; auto: the form with the fewest bytes")
            .choices({"auto", "dense", "bitmask", "gaps", "sparse-initializer"})
            .field("max-drop", &Options::max_drop,
                   "points of the metric, or percent of perplexity, that may be lost at most; 100: "
                   "not asked for")
            .range(0, 100)
            .field("output-sqnr", &Options::output_sqnr,
                   "with data: as much of the sparsity as keeps the outputs that close, on a fifth "
                   "of the "
                   "samples that nothing is fitted to; nothing where none does; 0: all of it")
            .unit("dB")
            .range(0, 100)
            .field("steps", &Options::steps,
                   "prune in so many steps, each from what the last one left, and measure each")
            .range(1, 64)
            .field("mask", &Options::mask,
                   ".npz files of masks to prune by, as save-mask writes them; of several, what "
                   "all keep stays")
            .unit("FILE,...")
            .field("save-mask", &Options::save_mask,
                   "write what stays to this .npz: a boolean for each weight")
            .unit("FILE")
            .field("curve", &Options::curve,
                   "write sparsity, drop, SQNR and bytes of all that was measured to this .json or "
                   ".csv")
            .unit("FILE")
            .field("samples", &Options::samples,
                   "of the calibration data to look at, spread evenly")
            .range(1, 1e9)
            .field("levels", &Options::levels,
                   "parts of the network, each pruned on what the parts before it make")
            .range(1, 4096)
            .level(OptionSpec::Level::kAdvanced)
            .field("damping", &Options::damping,
                   "added to the energy of each input, as a share of the mean one; 0: by held-out "
                   "samples")
            .range(0, 10)
            .level(OptionSpec::Level::kAdvanced)
            .field("ends", &Options::ends,
                   "prune the first convolution and the layer that makes the outputs, too")
            .field("min-elements", &Options::min_elements, "smaller tensors stay as they are")
            .range(1, 1e12)
            .unit("elements")
            .rule([](const Options& options) -> Status {
              const auto pattern = parse_pattern(options.pattern);
              const bool fixed = pattern && pattern->of_group();
              const bool other =
                  options.max_drop < 100 || options.steps > 1 || !options.mask.empty() || fixed;
              if (options.output_sqnr == 0 || !other) return ok_status();
              return Error(Code::kUsage, "outputs-and-more",
                           "what keeps the outputs close is found in one step, without masks, "
                           "N:M and max-drop",
                           {{}, "output-sqnr", {}}, "leave the other one out");
            });
    return kSchema;
  }
  explicit PruneWeights(Options options) : options_(std::move(options)) {}

  Status run(Model& model, PassContext& context) override {
    MCOMPRESS_TRY(read_settings(model, context));
    PruneSelection selection{options_.include, options_.exclude, options_.min_elements,
                             options_.ends, rounds()};
    MCOMPRESS_ASSIGN(std::vector<PruneLayer> layers, plan_pruning(model, selection, true, context));
    MCOMPRESS_TRY(plan_grids(model, layers, context));
    if (layers.empty()) return ok_status();
    MCOMPRESS_TRY(read_mask_files(layers));
    if (!masks_.empty()) settings_.masks = &masks_;
    MCOMPRESS_TRY(open_judge(model, context));
    PruneRun run(model, layers, settings_, context);
    std::vector<PrunedLayer> pruned;
    MCOMPRESS_TRY(find(run, layers, context, pruned));
    report_curve(context);
    if (pruned.empty()) return explain_all_kept(model, layers, context);
    MCOMPRESS_TRY(write_pruned(model, context.edit(), layers, pruned));
    MCOMPRESS_TRY(store_pruned(model, layers, pruned, store_, context));
    return write_files(layers, pruned);
  }

 private:
  bool rounds() const { return options_.weights != "float32"; }

  // Which layers become integers. What would not be pruned and can not be rounded drops out.
  Status plan_grids(Model& model, std::vector<PruneLayer>& layers, PassContext& context) {
    if (!rounds()) return ok_status();
    std::map<std::uint32_t, Value*> values;
    for (Value* value : constants_of(model.graph())) values.emplace(value->id(), value);
    std::vector<PruneLayer> kept;
    for (PruneLayer& layer : layers) {
      Value& value = *values.at(layer.value);
      MCOMPRESS_ASSIGN(CodedPlan plan, plan_coded(value, layer.view, store_.coded, context));
      layer.format = plan.format;
      if (!plan.format && !layer.dense_because.empty()) {
        const Node* user = value.uses().empty() ? nullptr : value.uses().front().node;
        explain_kept(context, value, layer.tensor, user, layer.dense_because);
        continue;
      }
      if (!plan.format) store_.float_because[layer.value] = std::move(plan.why);
      kept.push_back(std::move(layer));
    }
    layers = std::move(kept);
    return ok_status();
  }

  Status read_settings(const Model& model, PassContext& context) {
    const auto pattern = parse_pattern(options_.pattern);
    if (!pattern) {
      return Error(Code::kUsage, "unknown-pattern",
                   "'" + options_.pattern + "' is no pattern of zeros", {{}, "pattern", {}},
                   "unstructured, N:M as 2:4 with N below M (64 at most), or block:RxC as "
                   "block:4x4");
    }
    store_.storage = options_.storage;
    store_.pattern = options_.pattern;
    store_.coded.type = options_.weights;
    store_.coded.block_size = options_.block_size;
    const bool has_data = context.calibration_data() != nullptr;
    PruneRules& rules = settings_.rules;
    rules.pattern = *pattern;
    rules.method = options_.method == "wanda"       ? PruneMethod::kWanda
                   : options_.method == "ria"       ? PruneMethod::kRelative
                   : options_.method == "sparsegpt" ? PruneMethod::kSparseGpt
                   : options_.method == "magnitude" ? PruneMethod::kMagnitude
                                                    : PruneMethod::kAuto;
    rules.repair = options_.repair == "none"            ? PruneRepair::kNone
                   : options_.repair == "bias"          ? PruneRepair::kBias
                   : options_.repair == "affine"        ? PruneRepair::kAffine
                   : options_.repair == "least-squares" ? PruneRepair::kLeastSquares
                                                        : PruneRepair::kAuto;
    if (options_.scope == "row") rules.scope = SparsityScope::kRow;
    if (options_.scope == "layer") rules.scope = SparsityScope::kLayer;
    rules.damping = options_.damping;
    using Spread = PruneSettings::Spread;
    settings_.spread = options_.scope == "global" ? Spread::kGlobal
                       : options_.scope == "auto" ? Spread::kErrors
                                                  : Spread::kEven;
    settings_.samples = options_.samples;
    settings_.levels = options_.levels;
    if (context.memory_budget() > 0) {
      settings_.statistics_bytes = std::max<std::uint64_t>(context.memory_budget() / 2, 1 << 20);
    }
    const auto needs = [&](std::string_view what, std::string_view option) -> Status {
      if (has_data) return ok_status();
      return Error(Code::kUsage, "no-calibration-data",
                   std::string(what) + " needs calibration data", {{}, std::string(option), {}},
                   "give --calib DATA");
    };
    if (options_.method != "auto" && options_.method != "magnitude") {
      MCOMPRESS_TRY(needs("method " + options_.method, "method"));
    }
    if (options_.repair != "auto" && options_.repair != "none") {
      MCOMPRESS_TRY(needs("repair " + options_.repair, "repair"));
    }
    if (options_.max_drop < 100) MCOMPRESS_TRY(needs("a largest drop", "max-drop"));
    if (options_.output_sqnr > 0) MCOMPRESS_TRY(needs("an SQNR of outputs", "output-sqnr"));
    const bool fixed = pattern->of_group() || !options_.mask.empty();
    if (fixed && options_.sparsity > 0) {
      return Error(Code::kUsage, "sparsity-twice",
                   (pattern->of_group() ? "pattern " + options_.pattern : std::string("a mask")) +
                       " says how much goes",
                   {{}, "sparsity", {}}, "leave --sparsity out");
    }
    if (rounds() && options_.storage != "auto" && options_.storage != "dense") {
      return Error(
          Code::kUsage, "storage-of-integers",
          "storage '" + options_.storage + "' is for float32 weights, not " + options_.weights,
          {{}, "storage", {}}, "leave --storage out; pack makes zeros cost nothing");
    }
    return check_storage(model, context.target());
  }

  Status check_storage(const Model& model, const Target& target) const {
    if (options_.storage == "auto" || options_.storage == "dense") return ok_status();
    if (options_.storage == "sparse-initializer") {
      return Error(Code::kUnsupported, "storage-unsupported",
                   "sparse initializers are not written: their indices take 8 bytes for each "
                   "number, 12 with the number, where gaps take 5",
                   {{}, "storage", {}}, "take --storage gaps, or auto");
    }
    const std::string why = why_not_sparse(model, target);
    if (why.empty()) return ok_status();
    return Error(Code::kUnsupported, "storage-unsupported",
                 "storage '" + options_.storage + "' can not be used: " + why, {{}, "storage", {}},
                 "take --storage dense, and pack the file");
  }

  Status read_mask_files(const std::vector<PruneLayer>& layers) {
    std::map<std::string, std::vector<std::int64_t>> dims;
    for (const PruneLayer& layer : layers) {
      if (!layer.dense_because.empty()) continue;
      const auto [known, added] = dims.emplace(
          layer.name,
          std::vector<std::int64_t>(layer.tensor.dims().begin(), layer.tensor.dims().end()));
      if (!added && (!options_.mask.empty() || !options_.save_mask.empty())) {
        return Error(Code::kUnsupported, "names-twice",
                     "two weights of nested graphs have one name, and masks go by names",
                     {{}, "mask", layer.name}, "--exclude it");
      }
    }
    for (const std::string& file : options_.mask) {
      MCOMPRESS_ASSIGN(auto masks, read_masks(file, dims));
      for (auto& [name, kept] : masks) {
        const auto [known, added] = masks_.emplace(name, kept);
        if (added) continue;
        for (std::size_t i = 0; i < kept.size(); ++i) known->second[i] &= kept[i];
      }
    }
    return ok_status();
  }

  // Measures what trials lose.
  Status open_judge(const Model& model, PassContext& context) {
    const PrecisionServices* services = precision_services(context);
    if (services != nullptr && services->drop) drop_ = services->drop;
    if (options_.max_drop < 100 && !drop_) {
      return Error(Code::kUsage, "drop-without-data",
                   "a largest drop is asked for, and nothing measures it", {{}, "max-drop", {}},
                   "give --calib DATA, and --eval DATA with labels");
    }
    if (context.calibration_data() == nullptr || !measures()) return ok_status();
    MCOMPRESS_ASSIGN(Runtime * runtime, context.runtime());
    runtime_ = runtime;
    DataSource& data = *context.calibration_data();
    guard_.emplace(*runtime, data, SampleSplit(data, settings_.samples).judging(kJudges));
    settings_.judged = true;
    return guard_->open_reference(context.reference(), model, &context.executor());
  }
  bool measures() const {
    return options_.steps > 1 || options_.max_drop < 100 || options_.output_sqnr > 0 ||
           !options_.curve.empty();
  }

  Status find(PruneRun& run, const std::vector<PruneLayer>& layers, PassContext& context,
              std::vector<PrunedLayer>& pruned) {
    const bool fixed = settings_.rules.pattern.of_group() || settings_.masks != nullptr;
    const bool gated = options_.max_drop < 100;
    const double wish = options_.sparsity > 0 ? options_.sparsity : gated ? kHighest : kUsual;
    if (options_.output_sqnr > 0) return keep_outputs(run, wish, layers, context, pruned);
    if (fixed || !gated) {
      const std::int64_t steps = fixed ? 1 : options_.steps;
      for (std::int64_t step = 1; step <= steps; ++step) {
        const double part = wish * static_cast<double>(step) / static_cast<double>(steps);
        MCOMPRESS_ASSIGN(Trial trial, try_at(run, part, pruned, layers, context));
        pruned = std::move(trial.pruned);
      }
      return ok_status();
    }
    if (options_.steps > 1) return climb(run, wish, layers, context, pruned);
    return bisect(run, wish, layers, context, pruned);
  }

  struct Trial {
    std::vector<PrunedLayer> pruned;
    bool holds = true;
  };

  Result<Trial> try_at(PruneRun& run, double sparsity, const std::vector<PrunedLayer>& before,
                       const std::vector<PruneLayer>& layers, PassContext& context) {
    MCOMPRESS_ASSIGN(const std::vector<double> shares, run.spread(sparsity));
    std::unique_ptr<Model> model;
    Trial trial;
    MCOMPRESS_ASSIGN(trial.pruned, run.prune(shares, before, model));
    if (!guard_) return trial;
    CurvePoint point;
    double zeros = 0, all = 0;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const auto size = static_cast<double>(layers[i].tensor.elements());
      if (layers[i].dense_because.empty()) {
        zeros += size * trial.pruned[i].sparsity;
        all += size;
      }
      if (trial.pruned[i].codes) {
        point.bytes += coded_bytes(*trial.pruned[i].codes);
        continue;
      }
      MCOMPRESS_ASSIGN(const SparseBytes bytes, sparse_bytes(trial.pruned[i].weights));
      point.bytes += bytes.of(store_form(store_, bytes, *model, context.target()));
    }
    point.sparsity = all > 0 ? zeros / all : 0;
    MCOMPRESS_ASSIGN(const auto session, runtime_->open(*model, {}));
    MCOMPRESS_ASSIGN(point.sqnr_db, guard_->sqnr_db(*session));
    if (drop_) {
      MCOMPRESS_ASSIGN(point.drop, drop_(*session));
      trial.holds = *point.drop <= options_.max_drop + kRounding;
    }
    std::string text = percent(point.sparsity) + " zeros: SQNR " + fixed(point.sqnr_db, 1) + " dB";
    if (point.drop) text += ", drop " + fixed(*point.drop, 2);
    context.diagnostics().note("prune-point", text + ", " + bytes_text(point.bytes));
    curve_.push_back(point);
    return trial;
  }

  // One step after the other as long as it holds.
  Status climb(PruneRun& run, double wish, const std::vector<PruneLayer>& layers,
               PassContext& context, std::vector<PrunedLayer>& pruned) {
    for (std::int64_t step = 1; step <= options_.steps; ++step) {
      const double part = wish * static_cast<double>(step) / static_cast<double>(options_.steps);
      MCOMPRESS_ASSIGN(Trial trial, try_at(run, part, pruned, layers, context));
      if (!trial.holds) break;
      pruned = std::move(trial.pruned);
    }
    return pruned.empty() ? missed() : ok_status();
  }

  Status bisect(PruneRun& run, double wish, const std::vector<PruneLayer>& layers,
                PassContext& context, std::vector<PrunedLayer>& pruned) {
    double holds = 0, fails = wish + kFinest;
    double next = std::min(wish, options_.sparsity > 0 ? wish : kUsual);
    while (fails - holds > kFinest + 1e-9) {
      MCOMPRESS_ASSIGN(Trial trial, try_at(run, next, {}, layers, context));
      if (trial.holds) {
        holds = next;
        pruned = std::move(trial.pruned);
      } else {
        fails = next;
      }
      next = std::min(std::round((holds + fails) / 2 / kFinest) * kFinest, wish);
      if (next <= holds + 1e-9 || next >= fails - 1e-9) break;
    }
    return pruned.empty() ? missed() : ok_status();
  }

  // The highest sparsity up to `wish` whose outputs stay close: by what layers' errors predict and
  // by how far that was off in the last trial; between two trials, of which one holds, along a
  // straight line.
  Status keep_outputs(PruneRun& run, double wish, const std::vector<PruneLayer>& layers,
                      PassContext& context, std::vector<PrunedLayer>& pruned) {
    const double wanted = options_.output_sqnr;
    double holds = 0, fails = wish + kFinest, offset = 0;
    std::optional<double> above, below;  // dB, of what holds and fails
    const auto predicted = [&](double sparsity) -> Result<std::optional<double>> {
      MCOMPRESS_ASSIGN(const std::vector<double> shares, run.spread(sparsity));
      return run.predicted_db(shares);
    };
    const auto highest = [&]() -> Result<double> {
      if (above && below) {
        constexpr double kLeastPart = 0.1;
        const double part = (*above - wanted) / std::max(*above - *below, 1e-9);
        const double at = holds + std::clamp(part, kLeastPart, 1 - kLeastPart) * (fails - holds);
        return std::clamp(std::floor(at / kFinest) * kFinest, holds + kFinest, fails - kFinest);
      }
      double low = holds, high = fails;  // on the grid, `low` as predicted to hold
      while (high - low > kFinest + 1e-9) {
        const double middle = std::round((low + high) / 2 / kFinest) * kFinest;
        MCOMPRESS_ASSIGN(const auto db, predicted(middle));
        if (!db) return curve_.empty() ? wish : middle;
        (*db + offset >= wanted ? low : high) = middle;
      }
      return std::clamp(low, holds + kFinest, std::min(wish, fails - kFinest));
    };
    for (int trial = 0; trial < kMostTrials && fails - holds > kFinest + 1e-9; ++trial) {
      MCOMPRESS_ASSIGN(const double next, highest());
      MCOMPRESS_ASSIGN(Trial tried, try_at(run, next, {}, layers, context));
      const double reached = curve_.back().sqnr_db;
      MCOMPRESS_ASSIGN(const auto db, predicted(next));
      if (db) offset = reached - *db;
      if (reached < wanted) {
        fails = next, below = reached;
        continue;
      }
      holds = next, above = reached;
      pruned = std::move(tried.pruned);
      if (reached < wanted + kNear) break;
    }
    return ok_status();
  }

  Status explain_all_kept(Model& model, const std::vector<PruneLayer>& layers,
                          PassContext& context) const {
    const std::string why =
        "no sparsity was found that keeps " + fixed(options_.output_sqnr, 1) + " dB of the outputs";
    context.diagnostics().warn("prune-outputs", why, {}, "weights stay as they are");
    std::map<std::uint32_t, Value*> values;
    for (Value* value : constants_of(model.graph())) values.emplace(value->id(), value);
    for (const PruneLayer& layer : layers) {
      const Value& value = *values.at(layer.value);
      const Node* user = value.uses().empty() ? nullptr : value.uses().front().node;
      explain_kept(context, value, layer.tensor, user, why);
    }
    return ok_status();
  }

  Status missed() const {
    const CurvePoint& least = *std::ranges::min_element(
        curve_, {}, [](const CurvePoint& point) { return point.sparsity; });
    return Error(Code::kGateMissed, "max-drop",
                 "no sparsity holds: with " + percent(least.sparsity) + " zeros " +
                     fixed(least.drop.value_or(0), 2) + " points are lost, and " +
                     fixed(options_.max_drop, 2) + " may be",
                 {{}, "max-drop", {}}, "allow more, --exclude layers, or give more samples");
  }

  void report_curve(PassContext& context) const {
    for (const CurvePoint& point : curve_) context.report().append("curve", datum_of(point));
  }

  static Datum datum_of(const CurvePoint& point) {
    Datum datum = Datum::map();
    datum.set("sparsity", Datum::real(point.sparsity));
    if (point.drop) datum.set("drop", Datum::real(*point.drop));
    datum.set("sqnr_db", Datum::real(point.sqnr_db));
    datum.set("bytes", Datum::integer(static_cast<std::int64_t>(point.bytes)));
    return datum;
  }

  Status write_files(const std::vector<PruneLayer>& layers,
                     const std::vector<PrunedLayer>& pruned) const {
    if (!options_.save_mask.empty()) {
      std::vector<NamedMask> masks;
      for (std::size_t i = 0; i < layers.size(); ++i) {
        if (!layers[i].dense_because.empty()) continue;
        NamedMask mask;
        mask.name = layers[i].name;
        mask.dims.assign(layers[i].tensor.dims().begin(), layers[i].tensor.dims().end());
        MCOMPRESS_ASSIGN(const std::vector<float> numbers, read_floats(pruned[i].weights));
        mask.kept.reserve(numbers.size());
        for (const float number : numbers) mask.kept.push_back(number != 0.0F ? 1 : 0);
        masks.push_back(std::move(mask));
      }
      MCOMPRESS_TRY(write_masks(options_.save_mask, masks));
    }
    if (options_.curve.empty()) return ok_status();
    if (options_.curve.ends_with(".csv") || options_.curve.ends_with(".csv.partial")) {
      std::string text = "sparsity,drop,sqnr_db,bytes\n";
      for (const CurvePoint& point : curve_) {
        text += decimal_text(point.sparsity, 4) + "," +
                (point.drop ? decimal_text(*point.drop, 4) : std::string()) + "," +
                decimal_text(point.sqnr_db, 3) + "," + std::to_string(point.bytes) + "\n";
      }
      return write_file(options_.curve, text);
    }
    Datum list = Datum::list();
    for (const CurvePoint& point : curve_) list.push(datum_of(point));
    Datum file = Datum::map();
    file.set("schema", Datum::string("mcompress-curve"));
    file.set("version", Datum::integer(1));
    file.set("points", std::move(list));
    return write_file(options_.curve, json_text(file));
  }

  static std::string percent(double share) { return fixed(share * 100, 1) + " %"; }

  Options options_;
  PruneSettings settings_;
  PruneStore store_;
  std::map<std::string, std::vector<std::uint8_t>> masks_;
  std::function<Result<double>(Session&)> drop_;
  Runtime* runtime_ = nullptr;
  std::optional<Guard> guard_;
  std::vector<CurvePoint> curve_;
};

}  // namespace

PassInfo prune_weights_info() {
  PassInfo info = pass_info<PruneWeights>("prune-weights",
                                          "set weights to zero and let the others make up for them",
                                          Reach::kNestedGraphs, false, {"lift-constants"});
  info.keeps_results = false;
  // Files that are written are no part of what a recipe does to a model.
  info.print = [](const Datum& options) {
    Diagnostics ignored;
    auto parsed = PruneWeights::schema().parse(options, ignored);
    if (!parsed.ok()) return options;
    Datum printed = PruneWeights::schema().print(*parsed);
    std::erase_if(std::get<Datum::Map>(printed.value()), [](const auto& entry) {
      return entry.first == "save-mask" || entry.first == "curve";
    });
    return printed;
  };
  return info;
}

}  // namespace mcompress
