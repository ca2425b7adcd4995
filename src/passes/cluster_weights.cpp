// cluster-weights: a codebook per weight, found by exact k-means, and an index per element.
//
//   W ── Conv      becomes     indices ── unpack ── Gather(codebook) ── Reshape ── Conv
//
// What stands before the Conv are constants: the runtime computes them when the model is loaded and
// then runs as fast as with W. Han, Mao and Dally, "Deep Compression", 2015; entries are adapted to
// the outputs of the layer in closed form instead of by gradients.
#include <algorithm>
#include <map>

#include "codec/code_lengths.h"
#include "numeric/entropy_code.h"
#include "passes/common/cluster/cluster_choice.h"
#include "passes/common/cluster/cluster_fitter.h"
#include "passes/common/selection.h"
#include "passes/passes.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

class ClusterWeights final : public Pass {
 public:
  struct Options {
    std::vector<std::string> include, exclude;
    std::int64_t bits = 4;
    std::int64_t clusters = 0;
    double avg_bits = 0;
    std::int64_t max_bytes = 0;
    double min_sqnr = 0;
    double rate = 0;
    std::int64_t dimension = 1;
    std::int64_t groups = 1;
    bool share = false;
    bool refit = true;
    bool feedback = true;
    double output_sqnr = 0;
    bool keep_zero = false;
    std::int64_t samples = 64;
    std::int64_t min_elements = 4096;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        selection_schema<Options>()
            .field("bits", &Options::bits, "of an index: 2^bits clusters for each weight")
            .range(1, 8)
            .field("clusters", &Options::clusters, "for each weight, in place of bits; 0: 2^bits")
            .range(0, 256)
            .field("avg-bits", &Options::avg_bits,
                   "clusters for each weight so that the error is least within so many bits of "
                   "all, codebooks included; 0: none")
            .range(0, 8)
            .field("max-bytes", &Options::max_bytes,
                   "the same within a size of the whole model; 0: none")
            .unit("bytes")
            .range(0, 9e15)
            .field("min-sqnr", &Options::min_sqnr,
                   "as few bytes as keep the outputs (without data: the weights) that close; 0: "
                   "none")
            .unit("dB")
            .range(0, 100)
            .field("rate", &Options::rate,
                   "rate-distortion: what a bit after entropy coding counts against the mean "
                   "error; 0: the nearest entry is taken")
            .range(0, 16)
            .field("dimension", &Options::dimension,
                   "weights that share an index and an entry; sparse weights, first and depthwise "
                   "convolutions keep an entry for each weight")
            .range(1, 4)
            .field(
                "groups", &Options::groups,
                "runs of output channels that each have a codebook of their own, at most; 1: one "
                "for the weight")
            .range(1, 4096)
            .field("share", &Options::share,
                   "one codebook for all weights, so that they share the code that packing gives "
                   "them; entries are not fitted to outputs then")
            .field("refit", &Options::refit,
                   "with data: entries by least squares on the outputs of the layer")
            .field("feedback", &Options::feedback,
                   "with data: elements are chosen one after another, those to come making up for "
                   "the error of each")
            .field(
                "output-sqnr", &Options::output_sqnr,
                "with data: even distances between entries, the widest that keep the outputs that "
                "close, on a fifth of the samples that nothing is fitted to; 0: k-means")
            .unit("dB")
            .range(0, 100)
            .field("keep-zero", &Options::keep_zero,
                   "one entry is exactly 0, as it always is for weights with 5 % of zeros")
            .field("samples", &Options::samples,
                   "of the calibration data to look at, spread evenly")
            .range(1, 1e9)
            .field("min-elements", &Options::min_elements, "smaller tensors stay float32")
            .range(17, 1e12)
            .unit("elements")
            .rule([](const Options& options) -> Status {
              if (options.clusters == 1) {
                return Error(Code::kUsage, "one-cluster", "a codebook of 1 entry says nothing",
                             {{}, "clusters", {}}, "2 to 256");
              }
              const bool budget =
                  options.avg_bits > 0 || options.max_bytes > 0 || options.min_sqnr > 0;
              if ((options.dimension > 1 || options.share) && budget) {
                return Error(Code::kUsage, "budget-of-vectors",
                             "a budget chooses codebooks of single weights, one for each tensor",
                             {{}, options.share ? "share" : "dimension", {}},
                             "give --bits or --clusters");
              }
              if (options.output_sqnr > 0 &&
                  (options.dimension > 1 || options.share || options.groups > 1 || budget)) {
                return Error(Code::kUsage, "even-distances",
                             "even distances are found for single weights, one codebook for each "
                             "tensor, without a budget",
                             {{}, "output-sqnr", {}}, "leave the other one out");
              }
              if (options.dimension > 1 && options.share) {
                return Error(Code::kUsage, "shared-vectors", "vectors do not share a codebook",
                             {{}, "share", {}});
              }
              if (options.groups > 1 && (options.dimension > 1 || options.share)) {
                return Error(Code::kUsage, "groups-of-vectors",
                             "groups of channels have codebooks of single weights, not shared",
                             {{}, "groups", {}}, "leave --groups out");
              }
              return ok_status();
            });
    return kSchema;
  }
  explicit ClusterWeights(Options options) : options_(std::move(options)) {}

  Status run(Model& model, PassContext& context) override {
    if (!context.target().folds_weight_only) {
      return Error(Code::kUnsupported, "no-folding",
                   "target " + context.target().name +
                       " does not compute constants when it loads a model: codebooks would be "
                       "looked up on every run",
                   {}, "quantize the weights instead, or choose another --target");
    }
    if (model.opset("") < kClusterOpset) {
      return Error(Code::kUnsupported, "opset-too-old",
                   "codebooks need opset " + std::to_string(kClusterOpset) + ", the model has " +
                       std::to_string(model.opset("")),
                   {}, "mcompress convert-opset MODEL -o OUT --to 13");
    }
    ClusterRequest request{options_.include, options_.exclude, options_.min_elements,
                           options_.groups};
    MCOMPRESS_ASSIGN(std::vector<ClusterUnit> units, plan_clusters(model, request, context));
    std::vector<BlockUnit> places;
    places.reserve(units.size());
    for (const ClusterUnit& unit : units) places.push_back(unit.place);
    std::vector<std::vector<float>> energies(units.size());
    const bool has_data = context.calibration_data() != nullptr;
    if (has_data) {
      MCOMPRESS_ASSIGN(energies, column_energies(model, places, options_.samples, context));
    }
    MCOMPRESS_TRY(count_clusters(model, units, energies, context));
    if (options_.share) {
      MCOMPRESS_ASSIGN(const std::vector<ClusterCodes> codes,
                       share_codebook(units, energies, context));
      for (std::size_t i = 0; i < units.size(); ++i) {
        MCOMPRESS_TRY(finish(units[i], codes[i], how_of(energies[i]), context));
      }
      return ok_status();
    }
    ClusterFitting how;
    how.keep_zero = options_.keep_zero;
    how.refit = options_.refit, how.feedback = options_.feedback;
    how.rate = options_.rate;
    how.dimension = static_cast<std::size_t>(options_.dimension);
    how.samples = options_.samples;
    ClusterFitter fitter(model, units, energies, how, context);
    if (options_.output_sqnr > 0 && has_data) {
      MCOMPRESS_TRY(fitter.fit_to_outputs(options_.output_sqnr));
      if (const auto reached = fitter.reached_db()) {
        context.report().number("output_sqnr_db", *reached);
      }
    } else {
      MCOMPRESS_TRY(fitter.fit());
    }
    for (std::size_t i = 0; i < units.size(); ++i) {
      const ClusterFitter::Fitted& made = fitter.fitted()[i];
      std::string text =
          fitter.reached_db() ? "even distances by what the outputs bear" : how_of(energies[i]);
      if (made.adapted) text += ", each making up for those before it";
      if (made.refitted) text += ", entries fitted to outputs";
      MCOMPRESS_TRY(finish(units[i], made.codes, text, context));
    }
    return ok_status();
  }

 private:
  static std::string how_of(const std::vector<float>& energy) {
    return energy.empty() ? "k-means" : "k-means weighted by inputs";
  }
  static Status finish(const ClusterUnit& unit, const ClusterCodes& codes, const std::string& how,
                       PassContext& context) {
    report(unit, codes, context);
    return emit_clusters(unit, codes, how, context);
  }

  // As if all weights were one.
  Result<std::vector<ClusterCodes>> share_codebook(const std::vector<ClusterUnit>& units,
                                                   const std::vector<std::vector<float>>& energies,
                                                   PassContext& context) const {
    std::vector<ClusterCodes> codes(units.size());
    ClusterInput all;
    std::size_t clusters = 2;
    const bool weighted = std::ranges::all_of(
        energies, [](const std::vector<float>& energy) { return !energy.empty(); });
    for (std::size_t i = 0; i < units.size(); ++i) {
      MCOMPRESS_ASSIGN(const ClusterInput input,
                       cluster_input(units[i], energies[i], options_.keep_zero));
      all.values.insert(all.values.end(), input.values.begin(), input.values.end());
      if (weighted) {
        all.importance.insert(all.importance.end(), input.importance.begin(),
                              input.importance.end());
      }
      all.zero = all.zero || input.zero;
      clusters = std::max(clusters, units[i].clusters);
    }
    if (units.empty()) return codes;
    const ClusterCodes whole = fit_clusters(all, clusters, options_.rate, context.executor());
    std::size_t at = 0;
    for (std::size_t i = 0; i < units.size(); ++i) {
      const auto count = static_cast<std::size_t>(units[i].tensor().elements());
      codes[i].codebook = whole.codebook;
      codes[i].codes.assign(whole.codes.begin() + static_cast<std::ptrdiff_t>(at),
                            whole.codes.begin() + static_cast<std::ptrdiff_t>(at + count));
      for (std::size_t e = at; e < at + count; ++e) {
        const double x = double{all.values[e]};
        const double off = x - double{whole.codebook[whole.codes[e]]};
        codes[i].signal += x * x, codes[i].noise += off * off;
      }
      at += count;
    }
    return codes;
  }

  Status count_clusters(Model& model, std::vector<ClusterUnit>& units,
                        const std::vector<std::vector<float>>& energies,
                        PassContext& context) const {
    const std::size_t wanted = options_.clusters > 0 ? static_cast<std::size_t>(options_.clusters)
                                                     : std::size_t{1} << options_.bits;
    ClusterBudget budget;
    budget.average_bits = options_.avg_bits;
    budget.max_bytes = static_cast<std::uint64_t>(options_.max_bytes);
    budget.min_sqnr_db = options_.min_sqnr;
    if (options_.clusters > 0) budget.most = wanted;
    if (!budget.any()) {
      for (ClusterUnit& unit : units) unit.clusters = std::max(wanted, unit.fewest);
      return ok_status();
    }
    MCOMPRESS_ASSIGN(const ClusterChoice choice,
                     choose_clusters(model, units, energies, budget, options_.keep_zero, context));
    ReportScope& scope = context.report().child("clusters");
    scope.number("average_bits", choice.average_bits);
    scope.number("predicted_sqnr_db", choice.predicted_db);
    scope.count("bytes", static_cast<std::int64_t>(choice.bytes));
    scope.flag("measured", choice.measured);
    context.diagnostics().note("clusters",
                               fixed(choice.average_bits, 2) + " bits a weight, " +
                                   fixed(choice.predicted_db, 1) + " dB expected of " +
                                   (choice.measured ? "the outputs of the model" : "the weights"));
    return ok_status();
  }

  // The line of Deep Compression's tables.
  static void report(const ClusterUnit& unit, const ClusterCodes& codes, PassContext& context) {
    const std::vector<std::uint64_t> counts = codes.counts();
    const auto total = static_cast<double>(unit.tensor().elements());
    std::uint64_t zeros = 0;
    for (std::size_t i = 0; i < codes.codes.size() && codes.dimension == 1; ++i) {
      zeros += codes.value(i) == 0 ? 1 : 0;
    }
    const double bits =
        static_cast<double>(coded_bits(counts, codec::code_lengths(counts, 15))) / total;
    const double entropy = entropy_bits(counts) / total;
    ReportScope& line = context.report().item("layers", unit.value().name());
    line.count("weights", unit.tensor().elements());
    line.number("kept", 1 - static_cast<double>(zeros) / total);
    line.count("clusters", static_cast<std::int64_t>(codes.entries()));
    line.count("dimension", static_cast<std::int64_t>(codes.dimension));
    line.count("groups", static_cast<std::int64_t>(codes.groups.count));
    line.count("index_bits", index_bits(codes.entries()));
    line.number("huffman_bits", bits);
    line.number("entropy_bits", entropy);
    const std::size_t rest = 4 * codes.entries() * (codes.dimension - 1);
    line.count("bytes", static_cast<std::int64_t>(
                            rest + clustered_bytes(static_cast<std::int64_t>(codes.codes.size()),
                                                   codes.entries(), codes.groups)));
    line.number("sqnr_db", codes.sqnr_db());
  }

  Options options_;
};

}  // namespace

PassInfo cluster_weights_info() {
  PassInfo info = pass_info<ClusterWeights>(
      "cluster-weights", "store weights as a codebook and an index of 1 to 8 bits each",
      Reach::kNestedGraphs, false, {"lift-constants"});
  info.keeps_results = false;
  return info;
}

}  // namespace mcompress
