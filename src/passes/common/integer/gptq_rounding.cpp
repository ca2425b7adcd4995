#include "passes/common/integer/gptq_rounding.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <memory>

#include "numeric/gptq.h"
#include "passes/common/guard.h"
#include "passes/common/layer_rows.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::size_t kFewestColumns = 16;
constexpr std::size_t kMostColumns = 8192;
// Rows that make a Gram matrix: twice its columns, within these.
constexpr std::int64_t kFewestRows = 2048;
constexpr std::int64_t kMostRows = 16384;
constexpr std::size_t kRowsAtOnce = 512;
// Of a Gram matrix: itself, what is factored, and room for a run.
constexpr std::uint64_t kFactorCopies = 4;
constexpr double kExactDb = 200;

double decibels(double more, double less) {
  if (!(more > 0)) return 0;
  return less > 0 ? std::min(kExactDb, 10 * std::log10(more / less)) : kExactDb;
}

// The inputs of the layers that read one value in one way.
struct InputGrams {
  std::string value;
  LayerRows rows;
  std::vector<GramMatrix> grams;            // one per group of a convolution
  std::vector<std::vector<float>> buffers;  // rows that wait to be added
  std::vector<std::size_t> members;         // places in the list of layers
};

struct Layer {
  std::size_t node = 0;  // in the plan
  LayerRows rows;
  std::uint64_t gram_bytes = 0;
};

class GptqRun {
 public:
  GptqRun(const Model& model, const StaticRecipe& recipe, const GptqRoundingOptions& options,
          PassContext& context, RoundedWeights& rounded)
      : model_(model), recipe_(recipe), options_(options), context_(context), rounded_(rounded) {}

  Result<GptqRoundingResult> run() {
    find_layers();
    if (layers_.empty()) return result_;
    const std::size_t levels = static_cast<std::size_t>(std::max<std::int64_t>(options_.levels, 1));
    const std::size_t of_level = (layers_.size() + levels - 1) / levels;
    for (std::size_t begin = 0; begin < layers_.size();) {
      std::size_t end = begin;
      std::uint64_t bytes = 0;
      while (end < layers_.size() && end - begin < of_level &&
             (end == begin || bytes + layers_[end].gram_bytes <= options_.gram_bytes)) {
        bytes += layers_[end++].gram_bytes;
      }
      if (context_.progress().cancelled()) {
        return Error(Code::kCancelled, "cancelled", "interrupted while weights were rounded");
      }
      context_.progress().update("round weights", begin, layers_.size(), "layers");
      MCOMPRESS_TRY(level(begin, end));
      ++result_.levels;
      begin = end;
    }
    if (result_.layers > 0) result_.gain_db = gain_sum_ / static_cast<double>(result_.layers);
    if (result_.left > 0) {
      context_.diagnostics().note(
          "gptq-left", std::to_string(result_.left) +
                           " layers keep weights rounded to nearest: what they read on the "
                           "calibration data is not finite, or too alike to tell errors apart");
    }
    if (damped_ > 0) {
      context_.diagnostics().note(
          "gptq-damped", "the inputs of " + std::to_string(damped_) +
                             " layers are nearly dependent: their Gram matrices were damped by " +
                             fixed(most_damping_, 2) + " of the mean energy at most");
    }
    return result_;
  }

 private:
  void find_layers() {
    const std::unique_ptr<Model> copy = model_.clone();
    const StaticPlan plan = recipe_.plan(copy->graph());
    for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
      const IntegerNode& node = plan.nodes[i];
      if (node.kind != OperatorRule::Kind::kWeighted) continue;
      auto rows = LayerRows::of(*node.node, node.layout);
      if (!rows || rows->columns() < kFewestColumns || rows->columns() > kMostColumns) continue;
      if (rows->groups() == node.layout.channels) continue;  // depthwise
      const std::uint64_t bytes = static_cast<std::uint64_t>(rows->groups()) * rows->columns() *
                                  rows->columns() * sizeof(double);
      if (bytes > std::max(options_.gram_bytes, std::uint64_t{kMostColumns} * kMostColumns * 8)) {
        continue;
      }
      layers_.push_back({i, std::move(*rows), bytes});
    }
  }

  Status level(std::size_t begin, std::size_t end) {
    const std::unique_ptr<Model> copy = model_.clone();
    const StaticPlan plan = recipe_.plan(copy->graph());
    const EmitOptions emit = recipe_.emit(plan);
    std::vector<std::pair<std::uint32_t, float>> keys(end - begin);
    std::vector<Tensor> weights(end - begin);
    std::vector<bool> takes_shift(end - begin);
    for (std::size_t i = begin; i < end; ++i) {
      const IntegerNode& node = plan.nodes[layers_[i].node];
      keys[i - begin] = {node.node->id(), emit.scales.at(node.node->input(0)->id()).scale};
      weights[i - begin] = *node.weight->constant();
      takes_shift[i - begin] = options_.bias_correction && has_room_for_shift(node);
    }
    Editor edit(*copy, &onnx_catalog());
    Explain unheard;
    MCOMPRESS_TRY(emit_static(plan, context_.target(), emit, edit, context_.tensors(),
                              context_.executor(), unheard));
    std::vector<InputGrams> inputs;
    for (std::size_t i = begin; i < end; ++i) {
      const std::string value(plan.nodes[layers_[i].node].node->input(0)->name());
      const LayerRows& rows = layers_[i].rows;
      auto known = std::ranges::find_if(inputs, [&](const InputGrams& input) {
        return input.value == value && input.rows.same(rows);
      });
      if (known == inputs.end()) {
        const auto groups = static_cast<std::size_t>(rows.groups());
        inputs.push_back({value, rows, {}, std::vector<std::vector<float>>(groups), {}});
        known = inputs.end() - 1;
      }
      known->members.push_back(i);
    }
    // Under a budget a few inputs at a time, of the same model: their number changes no bit.
    const std::uint64_t budget = context_.memory_budget();
    const std::uint64_t most = budget > 0 ? budget / kFactorCopies : ~std::uint64_t{0};
    for (std::size_t first = 0; first < inputs.size();) {
      std::size_t last = first;
      for (std::uint64_t bytes = 0; last < inputs.size(); ++last) {
        bytes += bytes_of(inputs[last]);
        if (last > first && bytes > most) break;
      }
      const std::span<InputGrams> some = std::span(inputs).subspan(first, last - first);
      MCOMPRESS_TRY(observe(*copy, some));
      for (InputGrams& input : some) {
        for (std::size_t m = 0; m < input.members.size(); ++m) {
          const std::size_t at = input.members[m] - begin;
          MCOMPRESS_TRY(round(input, plan.nodes[layers_[input.members[m]].node], weights[at],
                              takes_shift[at], rounded_.at(keys[at])));
        }
        input.grams.clear();
      }
      first = last;
    }
    return ok_status();
  }

  static std::uint64_t bytes_of(const InputGrams& input) {
    const std::uint64_t columns = input.rows.columns();
    return static_cast<std::uint64_t>(input.rows.groups()) * columns * columns * sizeof(double);
  }

  Status observe(const Model& trial, std::span<InputGrams> inputs) {
    MCOMPRESS_ASSIGN(Runtime * runtime, context_.runtime());
    DataSource& data = *context_.calibration_data();
    SessionOptions session_options;
    session_options.count_memory = context_.memory_budget() > 0;
    for (InputGrams& input : inputs) {
      input.grams.assign(input.buffers.size(), GramMatrix(input.rows.columns()));
    }
    std::vector<std::vector<std::size_t>> readers;  // of each observed value
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      auto& names = session_options.observed;
      const auto known = std::ranges::find(names, inputs[i].value);
      if (known != names.end()) {
        readers[static_cast<std::size_t>(known - names.begin())].push_back(i);
      } else {
        names.push_back(inputs[i].value);
        readers.push_back({i});
      }
    }
    MCOMPRESS_ASSIGN(const auto session, runtime->open(trial, session_options));
    const std::int64_t total = data.count();
    const std::int64_t count = std::min(options_.samples, total);
    for (std::int64_t s = 0; s < count; ++s) {
      MCOMPRESS_ASSIGN(const auto feeds, data.sample(s * total / count));
      MCOMPRESS_TRY(session->observe(feeds, [&](std::size_t slot, const TensorView& view) {
        for (const std::size_t i : readers[slot]) {
          const auto columns = static_cast<std::int64_t>(inputs[i].rows.columns());
          const std::int64_t rows = std::clamp(2 * columns, kFewestRows, kMostRows);
          inputs[i].rows.read(view, (rows + count - 1) / count, s, inputs[i].buffers);
          add_rows(inputs[i], kRowsAtOnce);
        }
        return ok_status();
      }));
    }
    for (InputGrams& input : inputs) add_rows(input, 1);
    return ok_status();
  }

  void add_rows(InputGrams& input, std::size_t at_least) {
    for (std::size_t g = 0; g < input.buffers.size(); ++g) {
      if (input.buffers[g].size() < at_least * input.rows.columns()) continue;
      input.grams[g].add(input.buffers[g], context_.executor());
      input.buffers[g].clear();
    }
  }

  Status round(const InputGrams& input, const IntegerNode& node, const Tensor& weight,
               bool takes_shift, QuantizedWeight& quantized) {
    // One scale for all channels, which some targets ask for, was searched for all of them.
    if (quantized.scales.size() != static_cast<std::size_t>(node.layout.channels)) {
      ++result_.left;
      return ok_status();
    }
    MCOMPRESS_ASSIGN(const std::vector<float> rows, channel_vectors(weight, node.layout));
    MCOMPRESS_ASSIGN(std::vector<std::int16_t> codes, channel_codes(quantized.codes, node.layout));
    const std::size_t columns = input.rows.columns();
    const std::size_t channels = quantized.scales.size();
    const std::size_t in_group = channels / input.grams.size();
    std::vector<std::vector<double>> means;
    GptqCosts costs;
    std::size_t nearest = 0;  // groups that keep their codes
    for (std::size_t g = 0; g < input.grams.size(); ++g) {
      const GramMatrix& gram = input.grams[g];
      if (takes_shift) means.push_back(gram.means());
      FactorOptions options;
      options.damping = options_.damping;
      options.pairs = context_.target().saturation_free_weights;
      const auto factor =
          factor_gram(takes_shift ? gram.centred() : gram.moments(), columns, options);
      if (!factor) {
        ++nearest;
        continue;
      }
      if (factor->retries > 0) {
        ++damped_;
        most_damping_ = std::max(most_damping_, factor->damping);
      }
      RoundingGrid grid;
      grid.scales = std::span(quantized.scales).subspan(g * in_group, in_group);
      grid.codes = code_range({8, true}, CodeSpan::kNarrow);
      grid.pair_limit = context_.target().saturation_free_weights ? kPairLimit : 0;
      const std::size_t first = g * in_group * columns;
      const std::span<std::int16_t> mine = std::span(codes).subspan(first, in_group * columns);
      const GptqCosts part = round_rows(std::span(rows).subspan(first, in_group * columns), *factor,
                                        grid, {}, context_.executor(), mine);
      costs.given += part.given;
      costs.descended += part.descended;
    }
    if (nearest == input.grams.size()) {
      ++result_.left;
      return ok_status();
    }
    double signal = 0;
    double noise = 0;
    std::vector<double> shift(takes_shift ? channels : 0);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::size_t channel = i / columns;
      const double value = double{rows[i]};
      const double error = codes[i] * double{quantized.scales[channel]} - value;
      signal += value * value;
      noise += error * error;
      if (takes_shift) shift[channel] += error * means[channel / in_group][i % columns];
    }
    MCOMPRESS_ASSIGN(quantized.codes,
                     codes_tensor(codes, node.layout, weight.dims(), context_.tensors()));
    quantized.sqnr_db = decibels(signal, noise);
    quantized.mean_shift = std::move(shift);
    const double gain = decibels(costs.given, costs.descended);
    quantized.how = "rounded by GPTQ, output error " + fixed(gain, 1) + " dB lower";
    gain_sum_ += gain;
    ++result_.layers;
    return ok_status();
  }

  const Model& model_;
  const StaticRecipe& recipe_;
  const GptqRoundingOptions& options_;
  PassContext& context_;
  RoundedWeights& rounded_;
  std::vector<Layer> layers_;
  GptqRoundingResult result_;
  double gain_sum_ = 0;
  std::int64_t damped_ = 0;
  double most_damping_ = 0;
};

}  // namespace

Result<GptqRoundingResult> round_by_gptq(const Model& model, const StaticRecipe& recipe,
                                         const GptqRoundingOptions& options, PassContext& context,
                                         RoundedWeights& rounded) {
  return GptqRun(model, recipe, options, context, rounded).run();
}

Status round_by_gptq_if_better(const Model& model, const StaticRecipe& recipe,
                               const GptqRoundingOptions& options, std::int64_t guard_samples,
                               PassContext& context, RoundedWeights& rounded) {
  const auto start = std::chrono::steady_clock::now();
  MCOMPRESS_ASSIGN(Runtime * runtime, context.runtime());
  // A few samples with large errors make up most of a ratio: many are needed to compare two.
  constexpr std::int64_t kJudges = 64;
  Guard guard(*runtime, *context.calibration_data(), std::max(guard_samples, kJudges));
  guard.limit_memory(context.memory_budget());
  MCOMPRESS_TRY(guard.open_reference(context.reference(), model, &context.executor()));
  const auto measure = [&]() -> Result<double> {
    const std::unique_ptr<Model> copy = model.clone();
    const StaticPlan plan = recipe.plan(copy->graph());
    Editor edit(*copy, &onnx_catalog());
    Explain unheard;
    MCOMPRESS_TRY(emit_static(plan, context.target(), recipe.emit(plan), edit, context.tensors(),
                              context.executor(), unheard));
    return guard.sqnr_db(*copy);
  };
  MCOMPRESS_ASSIGN(const double before, measure());
  const RoundedWeights nearest = rounded;
  MCOMPRESS_ASSIGN(const GptqRoundingResult result,
                   round_by_gptq(model, recipe, options, context, rounded));
  MCOMPRESS_ASSIGN(const double after, measure());
  const bool kept = after >= before;
  if (!kept) rounded = nearest;
  ReportScope& scope = context.report().child("gptq");
  scope.count("layers", result.layers);
  scope.count("left", result.left);
  scope.number("layer_gain_db", result.gain_db);
  scope.number("sqnr_before_db", before);
  scope.number("sqnr_after_db", after);
  scope.flag("kept", kept);
  ReportScope& step = context.report().item("steps", "gptq");
  const std::int64_t samples = context.calibration_data()->count();
  step.count("runs", std::min(options.samples, samples) * result.levels +
                         3 * std::min(std::max(guard_samples, kJudges), samples));
  step.number("sqnr_db_before", before);
  step.number("sqnr_db_after", after);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  step.seconds("took", taken.count());
  context.diagnostics().note("gptq", "GPTQ rounded " + std::to_string(result.layers) +
                                         " layers: the outputs of the quantized model went from " +
                                         fixed(before, 1) + " to " + fixed(after, 1) +
                                         " dB on the calibration data" + (kept ? "" : "; undone"));
  return ok_status();
}

}  // namespace mcompress
