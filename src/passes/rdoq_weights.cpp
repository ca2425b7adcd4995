// rdoq-weights: integer weights that an entropy coder makes small.
//
// Each symbol moves where the bits that it saves are worth the error:
//   min  h * s^2 * (q' - q)^2 + lambda * bits(q')
// with s its scale and h the mean of x^2 of what it multiplies. Bits are those of the best
// partition of the range first, then three times those of what was chosen. Types, scales, nodes and
// speed stay as they are; `pack` and `pack --form onnx` make the file smaller by it.
// Rate-distortion optimised quantization as in Wiedemann et al., "DeepCABAC", 2020, without a
// context model.
#include <algorithm>
#include <cmath>

#include "ir/walk.h"
#include "numeric/entropy_code.h"
#include "numeric/rate_distortion.h"
#include "passes/common/constants.h"
#include "passes/common/integer/integer_weights.h"
#include "passes/common/selection.h"
#include "passes/passes.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::size_t kPartOfWeights = std::size_t{1} << 18;

using Counts = std::array<std::uint64_t, 256>;

// A choice of symbols for a whole weight.
struct Moved {
  std::vector<std::uint8_t> symbols;
  double signal = 0, noise = 0, bits = 0;  // weighted; bits of one symbol
  std::uint64_t moved = 0;
  double sqnr_db() const {
    return noise > 0 && signal > 0 ? std::clamp(10 * std::log10(signal / noise), -200.0, 200.0)
                                   : 200;
  }
};

class Mover {
 public:
  Mover(const IntegerWeight& weight, int reach, const Executor& executor)
      : weight_(weight), reach_(reach), executor_(executor) {
    start_ = executor.ordered_reduce(
        weight.symbols.size(), kPartOfWeights, SymbolWeights{},
        [&](std::size_t begin, std::size_t end) {
          SymbolWeights part;
          for (std::size_t e = begin; e < end; ++e) {
            const std::uint8_t symbol = weight.symbols[e];
            ++part.counts[symbol];
            part.weight[symbol] += weight.weight_of(e);
          }
          return part;
        },
        [](SymbolWeights a, const SymbolWeights& b) {
          for (std::size_t s = 0; s < 256; ++s) {
            a.counts[s] += b.counts[s], a.weight[s] += b.weight[s];
          }
          return a;
        });
    double total = 0;
    for (const double w : start_.weight) total += w;
    // Of rounding to an integer: 1/12 of a step squared.
    mean_error_ = total / static_cast<double>(weight.symbols.size()) / 12;
    // Zeros of a pruned weight are kept.
    constexpr std::size_t kSparse = 20;
    if (weight.zero && start_.counts[*weight.zero] * kSparse >= weight.symbols.size()) {
      kept_ = weight.zero;
    }
  }

  double bits_before() const { return bits_of(start_.counts); }

  Moved at_rate(double rate) const {
    const double per_bit = rate * mean_error_;
    if (!(per_bit > 0)) {
      Moved same;
      same.symbols = weight_.symbols;
      same.bits = bits_before();
      measure(same);
      return same;
    }
    SymbolBits bits = constrained_bits(start_, per_bit, kept_);
    Moved moved;
    constexpr int kRounds = 3;
    Counts counts{};
    for (int round = 0; round <= kRounds; ++round) {
      counts = choose(per_bit, bits, moved);
      bits = bits_by_counts(counts);
    }
    moved.bits = bits_of(counts);
    measure(moved);
    return moved;
  }

  // As few bits as keep the weight as close as that: rates by bisection.
  Moved at_sqnr(double least_db, double most) const {
    constexpr double kLeastRate = 1.0 / 64;
    Moved best = at_rate(0);
    double low = kLeastRate, high = most;
    Moved tried = at_rate(high);
    if (tried.sqnr_db() >= least_db) return tried;
    constexpr int kSteps = 8;
    for (int step = 0; step < kSteps; ++step) {
      const double middle = std::sqrt(low * high);
      tried = at_rate(middle);
      if (tried.sqnr_db() < least_db) {
        high = middle;
      } else {
        low = middle;
        if (tried.bits <= best.bits) best = std::move(tried);
      }
    }
    return best;
  }

 private:
  static double bits_of(const Counts& counts) {
    double total = 0;
    for (const std::uint64_t count : counts) total += static_cast<double>(count);
    return entropy_bits(counts) / total;
  }

  Counts choose(double per_bit, const SymbolBits& bits, Moved& moved) const {
    moved.symbols.resize(weight_.symbols.size());
    return executor_.ordered_reduce(
        weight_.symbols.size(), kPartOfWeights, Counts{},
        [&](std::size_t begin, std::size_t end) {
          Counts part{};
          for (std::size_t e = begin; e < end; ++e) {
            const std::uint8_t symbol = weight_.symbols[e];
            const bool stays = symbol == kept_;
            const std::uint8_t chosen =
                stays ? symbol
                      : cheapest_symbol(symbol, weight_.weight_of(e), per_bit, bits, reach_);
            moved.symbols[e] = chosen;
            ++part[chosen];
          }
          return part;
        },
        [](Counts a, const Counts& b) {
          for (std::size_t s = 0; s < 256; ++s) a[s] += b[s];
          return a;
        });
  }

  void measure(Moved& moved) const {
    struct Sums {
      double signal = 0, noise = 0;
      std::uint64_t moved = 0;
    };
    const Sums sums = executor_.ordered_reduce(
        weight_.symbols.size(), kPartOfWeights, Sums{},
        [&](std::size_t begin, std::size_t end) {
          Sums part;
          for (std::size_t e = begin; e < end; ++e) {
            const double w = weight_.weight_of(e);
            const int symbol = weight_.symbols[e];
            const double real = symbol - int{weight_.zero_of(e)};
            const double off = symbol - int{moved.symbols[e]};
            part.signal += w * real * real;
            part.noise += w * off * off;
            part.moved += off != 0 ? 1 : 0;
          }
          return part;
        },
        [](Sums a, const Sums& b) {
          return Sums{a.signal + b.signal, a.noise + b.noise, a.moved + b.moved};
        });
    moved.signal = sums.signal, moved.noise = sums.noise, moved.moved = sums.moved;
  }

  const IntegerWeight& weight_;
  int reach_;
  const Executor& executor_;
  SymbolWeights start_;
  double mean_error_ = 0;
  std::optional<std::uint8_t> kept_;
};

class RdoqWeights final : public Pass {
 public:
  struct Options {
    std::vector<std::string> include, exclude;
    double rate = 0;
    double weight_sqnr = 0;
    std::int64_t reach = 255;
    std::int64_t samples = 64;
    std::int64_t min_elements = 4096;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        selection_schema<Options>()
            .field("rate", &Options::rate,
                   "what a bit after entropy coding counts against the mean error of rounding to "
                   "the integers; 0, without a least ratio: symbols stay")
            .range(0, 1e4)
            .field("weight-sqnr", &Options::weight_sqnr,
                   "each weight as small as keeps it that close to what it was (with data: by what "
                   "it is multiplied with); 0: none")
            .unit("dB")
            .range(0, 100)
            .field("reach", &Options::reach, "how far a symbol moves at most")
            .range(1, 255)
            .unit("steps")
            .field("samples", &Options::samples,
                   "of the calibration data to look at, spread evenly")
            .range(1, 1e9)
            .field("min-elements", &Options::min_elements, "smaller tensors stay as they are")
            .range(2, 1e12)
            .unit("elements");
    return kSchema;
  }
  explicit RdoqWeights(Options options) : options_(std::move(options)) {}

  Status run(Model& model, PassContext& context) override {
    if (options_.rate == 0 && options_.weight_sqnr == 0) return ok_status();
    MCOMPRESS_ASSIGN(std::vector<IntegerWeight> weights, find(model, context));
    if (context.calibration_data() != nullptr) {
      MCOMPRESS_TRY(measure_energies(model, weights, options_.samples, context));
    }
    for (std::size_t i = 0; i < weights.size(); ++i) {
      context.progress().update("choose symbols", i, weights.size(), "tensors");
      if (context.progress().cancelled()) {
        return Error(Code::kCancelled, "cancelled", "interrupted while symbols were chosen");
      }
      MCOMPRESS_TRY(move(weights[i], context));
    }
    return ok_status();
  }

 private:
  Result<std::vector<IntegerWeight>> find(Model& model, PassContext& context) const {
    const Selection selection(options_.include, options_.exclude);
    std::vector<IntegerWeight> weights;
    for (Value* value : constants_of(model.graph())) {
      if (!value->is_initializer() || value->uses().empty()) continue;
      const Tensor& tensor = *value->initializer();
      const DataType type = tensor.dtype();
      if (type != DataType::kInt8 && type != DataType::kUint8 && type != DataType::kInt4 &&
          type != DataType::kUint4) {
        continue;
      }
      if (tensor.elements() < options_.min_elements) continue;
      const Node* const user = value->uses().front().node;
      std::string why;
      if (value->constant() == nullptr) {
        why = "a caller of the model may override it";
      } else if (user != nullptr) {
        why = selection.why_not(*user, value);
      }
      if (why.empty()) {
        MCOMPRESS_ASSIGN(FoundIntegers found, integer_weight(*value));
        if (found.weight) {
          weights.push_back(std::move(*found.weight));
          continue;
        }
        why = std::move(found.why);
      }
      explain_kept(context, *value, tensor, user, std::move(why));
    }
    return weights;
  }

  Status move(const IntegerWeight& weight, PassContext& context) const {
    const Mover mover(weight, static_cast<int>(options_.reach), context.executor());
    constexpr double kMostRate = 4096;
    const double most = options_.rate > 0 ? options_.rate : kMostRate;
    const Moved moved = options_.weight_sqnr > 0 ? mover.at_sqnr(options_.weight_sqnr, most)
                                                 : mover.at_rate(options_.rate);
    const double before = mover.bits_before();
    Decision decision;
    decision.subject = weight.value->name();
    decision.op_type = weight.user->op_type();
    decision.bytes_before = weight.tensor.byte_size();
    decision.bytes_after = decision.bytes_before;
    if (moved.moved == 0 || moved.bits >= before) {
      decision.why = "no other symbols would be worth the error";
      context.explain().skipped(std::move(decision));
      return ok_status();
    }
    MCOMPRESS_ASSIGN(Tensor tensor, with_symbols(weight, moved.symbols, context.tensors()));
    context.edit().set_constant(*weight.value, std::move(tensor));
    const auto count = static_cast<double>(weight.symbols.size());
    const double share = static_cast<double>(moved.moved) / count;
    ReportScope& line = context.report().item("layers", weight.value->name());
    line.count("weights", static_cast<std::int64_t>(weight.symbols.size()));
    line.number("entropy_bits_before", before);
    line.number("entropy_bits", moved.bits);
    line.number("moved", share);
    line.number("sqnr_db", moved.sqnr_db());
    decision.what = "entropy of " + fixed(before, 2) + " bits is now " + fixed(moved.bits, 2) +
                    ", " + fixed(100 * share, 0) + " % of the symbols moved";
    decision.why = weight.energy.empty()
                       ? "packing makes it smaller by that"
                       : "packing makes it smaller by that; errors weighted by inputs";
    decision.sqnr_db = moved.sqnr_db();
    context.explain().chose(std::move(decision));
    return ok_status();
  }

  Options options_;
};

}  // namespace

PassInfo rdoq_weights_info() {
  PassInfo info = pass_info<RdoqWeights>(
      "rdoq-weights", "move symbols of integer weights where entropy coding gains by it",
      Reach::kNestedGraphs, false,
      {"quantize-weights", "quantize-static", "quantize-dynamic", "quantize-blocks"});
  info.keeps_results = false;
  return info;
}

}  // namespace mcompress
