// factorize-weights: large matrices as products of two thin ones, where that loses little.
//
//   x ── MatMul(W)                becomes   x ── MatMul(L) ── MatMul(R)
//   x ── Gemm(W, b)               becomes   x ── MatMul(L) ── Gemm(R, b)
//   x ── Conv 1x1 (W, b)          becomes   x ── Conv 1x1 (L) ── Conv 1x1 (R, b)
//
// L [inputs, r] and R [r, outputs] have the least error of all on what the layer reads, or, without
// data, the least error of the weight (numeric/low_rank.h). A layer is split only where two
// products take fewer multiplications than one by a margin, so that bytes and time fall together:
// in ONNX Runtime on one thread, two products of 0.8 of the multiplications take 0.79 to 0.82 of
// the time for 128 rows, and 0.87 to 1.01 for one row (sides of 384 to 1,536); of 0.7, 0.68 to
// 0.97.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ir/facts.h"
#include "numeric/low_rank.h"
#include "passes/common/blocks/input_grams.h"
#include "passes/common/constants.h"
#include "passes/common/selection.h"
#include "passes/common/weights.h"
#include "passes/passes.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Decompositions take the cube of the smaller side: minutes beyond this.
constexpr std::size_t kMostSide = 8192;
constexpr std::size_t kMostInputs = 16384;  // of a Gram matrix: 2 GiB
constexpr std::size_t kRankStep = 8;        // thin products run in full vectors
constexpr double kDamping = 0.01;
// Directions that few rows did not show are not free: a share of the mean energy, per column and
// row seen. EfficientNet-Lite0's classifier, 1,280 inputs and 48 images, lost 89 % of the top-1
// agreement of other images without it, though not a label of those seen.
constexpr double kUnseen = 0.25;
constexpr std::uint64_t kGramBytes = std::uint64_t{512} << 20;

struct FactorLayer {
  Node* node = nullptr;
  Value* weight = nullptr;
  WeightView view;
  std::size_t inputs = 0, outputs = 0;
  bool outputs_first = false;  // the weight lies as [outputs, inputs]
  std::size_t most_rank = 0;
  std::vector<double> losses;  // by rank, up to most_rank
  std::size_t rank = 0;        // chosen; 0: stays whole
  bool by_inputs = false;      // judged by what it reads

  std::uint64_t whole() const { return std::uint64_t{inputs} * outputs; }
  std::uint64_t split(std::size_t r) const { return std::uint64_t{r} * (inputs + outputs); }
};

class FactorizeWeights final : public Pass {
 public:
  struct Options {
    std::vector<std::string> include, exclude;
    double layer_sqnr = 20;
    double keep = 0;
    double least_gain = 0.25;
    double min_sqnr = 0;
    double max_drop = 100;
    std::int64_t samples = 512;
    std::int64_t min_elements = 16384;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        selection_schema<Options>()
            .field("layer-sqnr", &Options::layer_sqnr,
                   "the smallest rank whose output is so far above its error, layer by layer")
            .unit("dB")
            .range(0, 200)
            .field("keep", &Options::keep,
                   "instead: this share of the weights, ranks spread over the layers such that "
                   "their errors are least; 0: by --layer-sqnr")
            .range(0, 1)
            .field("least-gain", &Options::least_gain,
                   "a layer stays whole unless two products save so much of its multiplications")
            .range(0, 1)
            .field("min-sqnr", &Options::min_sqnr,
                   "of every output on the calibration data, else exit 5; 0: no bound")
            .unit("dB")
            .range(0, 200)
            .field("max-drop", &Options::max_drop,
                   "points of quality that may be lost, else exit 5; 100: no bound")
            .range(0, 100)
            .field("samples", &Options::samples,
                   "of the calibration data to look at, spread evenly")
            .range(1, 1e9)
            .field("min-elements", &Options::min_elements, "smaller matrices stay whole")
            .range(1, 1e12)
            .unit("elements");
    return kSchema;
  }
  explicit FactorizeWeights(Options options) : options_(std::move(options)) {}

  Status run(Model& model, PassContext& context) override {
    MCOMPRESS_ASSIGN(std::vector<FactorLayer> layers, find_layers(model, context));
    MCOMPRESS_TRY(for_each_layer(
        model, layers, context, "decompose weights",
        [&](FactorLayer& layer, const GramMatrix* gram) { return judge(layer, gram, context); }));
    if (options_.keep > 0) {
      spread(layers);
    } else {
      for (FactorLayer& layer : layers) choose_by_sqnr(layer);
    }
    std::vector<FactorLayer> chosen;
    for (FactorLayer& layer : layers) {
      if (layer.rank > 0) {
        chosen.push_back(std::move(layer));
      } else if (!layer.losses.empty()) {
        explain_whole(layer, context);
      }
    }
    // What comes later sees what comes before it split already.
    return for_each_layer(
        model, chosen, context, "split weights",
        [&](FactorLayer& layer, const GramMatrix* gram) { return split(layer, gram, context); });
  }

 private:
  static std::vector<double> moments_of(const GramMatrix* gram) {
    return gram != nullptr ? gram->moments() : std::vector<double>();
  }

  static double damping_for(const GramMatrix* gram) {
    if (gram == nullptr || gram->rows() == 0) return kDamping;
    return std::max(kDamping, kUnseen * static_cast<double>(gram->columns()) /
                                  static_cast<double>(gram->rows()));
  }

  Result<std::vector<FactorLayer>> find_layers(Model& model, PassContext& context) const {
    const Selection selection(options_.include, options_.exclude);
    std::vector<FactorLayer> layers;
    for (Value* value : constants_of(model.graph())) {
      const auto tensor = constant_of(value);
      if (!tensor || tensor->dtype() != DataType::kFloat || tensor->dims().size() < 2) continue;
      if (tensor->elements() < options_.min_elements || value->uses().empty()) continue;
      const Node* const user = value->uses().front().node;
      const auto keep = [&](std::string why) {
        explain_kept(context, *value, *tensor, user, std::move(why));
      };
      if (std::string why = why_not_only_user(*value); !why.empty()) {
        keep(why + ": all readers would have to take it in two parts");
        continue;
      }
      FactorLayer layer;
      if (std::string why = describe(*value, *tensor, layer); !why.empty()) {
        keep(std::move(why));
        continue;
      }
      if (std::string why = selection.why_not(*layer.node, value); !why.empty()) {
        keep(std::move(why));
        continue;
      }
      const double allowed = (1 - options_.least_gain) * static_cast<double>(layer.whole()) /
                             static_cast<double>(layer.inputs + layer.outputs);
      layer.most_rank = static_cast<std::size_t>(allowed) / kRankStep * kRankStep;
      if (layer.most_rank == 0) {
        keep("is too narrow to be split: " + std::to_string(layer.inputs) + " inputs, " +
             std::to_string(layer.outputs) + " outputs");
        continue;
      }
      if (std::min(layer.inputs, layer.outputs) > kMostSide) {
        keep("is too large to be decomposed: its smaller side has " +
             std::to_string(std::min(layer.inputs, layer.outputs)) + " of at most " +
             std::to_string(kMostSide));
        continue;
      }
      MCOMPRESS_ASSIGN(const bool finite, is_finite(*tensor));
      if (!finite) {
        keep("holds NaN or infinity");
        continue;
      }
      layers.push_back(std::move(layer));
    }
    return layers;
  }

  // Why the reader is none that can be split; empty: `layer` is filled.
  static std::string describe(Value& value, const Tensor& tensor, FactorLayer& layer) {
    const Use use = value.uses().front();
    Node& node = *use.node;
    const auto view = weight_view(node, use.slot, tensor.dims());
    const std::string what = std::string(node.op_type()) + " '" + std::string(node.label()) + "'";
    if (!view) return "is not a weight of " + what;
    if (use.slot != 1) return "is not on the right of " + what;
    layer.node = &node;
    layer.weight = &value;
    layer.view = *view;
    const auto dims = tensor.dims();
    const auto size = [&dims](std::size_t i) { return static_cast<std::size_t>(dims[i]); };
    if (node.is("MatMul")) {
      if (dims.size() != 2) return "is a stack of matrices";
      layer.inputs = size(0);
      layer.outputs = size(1);
      return {};
    }
    if (node.is("Gemm")) {
      if (node.int_attribute("transA", 0) != 0) return "meets a transposed input";
      layer.outputs_first = node.int_attribute("transB", 0) != 0;
      layer.inputs = size(layer.outputs_first ? 1 : 0);
      layer.outputs = size(layer.outputs_first ? 0 : 1);
      return {};
    }
    if (node.is("Conv")) {
      if (node.int_attribute("group", 1) != 1) return "is of a convolution in groups";
      if (view->taps != 1) return "is of a convolution over neighbours, not a matrix";
      layer.outputs_first = true;
      layer.outputs = size(0);
      layer.inputs = size(1);
      return {};
    }
    return "is a weight of " + what + ", which can not be split";
  }

  // Hands out layers of the top graph with what they read, group by group as memory allows; other
  // layers, and all without data, come with null.
  template <class Each>
  Status for_each_layer(Model& model, std::vector<FactorLayer>& layers, PassContext& context,
                        std::string_view doing, const Each& each) const {
    std::vector<UnitInput> inputs;
    std::vector<bool> seen(layers.size());
    for (std::size_t i = 0; context.calibration_data() != nullptr && i < layers.size(); ++i) {
      const Node& node = *layers[i].node;
      if (&node.graph() != &model.graph() || layers[i].inputs > kMostInputs) continue;
      if (node.input(0) == nullptr || node.input(0)->initializer() != nullptr) continue;
      auto rows = LayerRows::of(node, layers[i].view);
      if (!rows || rows->columns() != layers[i].inputs) continue;
      inputs.push_back({i, &node, std::string(node.input(0)->name()), std::move(*rows), {}});
      seen[i] = true;
    }
    std::size_t done = 0;
    const auto take = [&](std::size_t layer, const GramMatrix* gram) -> Status {
      if (context.progress().cancelled()) {
        return Error(Code::kCancelled, "cancelled", "interrupted while weights were decomposed");
      }
      context.progress().update(doing, done++, layers.size(), "weights");
      return each(layers[layer], gram);
    };
    for (std::size_t i = 0; i < layers.size(); ++i) {
      if (!seen[i]) MCOMPRESS_TRY(take(i, nullptr));
    }
    order_inputs(model.graph(), inputs);
    for (std::size_t begin = 0; begin < inputs.size();) {
      const std::size_t end = inputs_within(inputs, begin, inputs.size(), kGramBytes);
      std::vector<UnitInput> group(inputs.begin() + static_cast<std::ptrdiff_t>(begin),
                                   inputs.begin() + static_cast<std::ptrdiff_t>(end));
      // What was split before has other names.
      for (UnitInput& input : group) input.value = input.reader->input(0)->name();
      MCOMPRESS_ASSIGN(const InputGrams grams,
                       collect_grams(model, group, options_.samples, context));
      for (std::size_t i = 0; i < group.size(); ++i) {
        MCOMPRESS_TRY(take(group[i].unit, grams.of(i)));
      }
      begin = end;
    }
    return ok_status();
  }

  static Result<std::vector<float>> matrix_of(const FactorLayer& layer) {
    MCOMPRESS_ASSIGN(std::vector<float> values, read_floats(*constant_of(layer.weight)));
    if (!layer.outputs_first) return values;
    return transposed(values, layer.outputs, layer.inputs);
  }

  static std::vector<float> transposed(const std::vector<float>& matrix, std::size_t rows,
                                       std::size_t columns) {
    std::vector<float> turned(matrix.size());
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < columns; ++c) turned[c * rows + r] = matrix[r * columns + c];
    }
    return turned;
  }

  Status judge(FactorLayer& layer, const GramMatrix* gram, PassContext& context) const {
    MCOMPRESS_ASSIGN(const std::vector<float> matrix, matrix_of(layer));
    const auto found =
        LowRank::of(matrix, layer.inputs, layer.outputs, moments_of(gram), damping_for(gram));
    if (!found) {
      explain_kept(context, *layer.weight, *constant_of(layer.weight), layer.node,
                   "is all zero, or what it reads tells nothing");
      return ok_status();
    }
    layer.by_inputs = gram != nullptr;
    const std::size_t most = std::min(layer.most_rank, found->most());
    layer.losses.assign(found->losses().begin(),
                        found->losses().begin() + static_cast<std::ptrdiff_t>(most) + 1);
    return ok_status();
  }

  void choose_by_sqnr(FactorLayer& layer) const {
    const double allowed = std::pow(10, -options_.layer_sqnr / 10);
    for (std::size_t r = kRankStep; r < layer.losses.size(); r += kRankStep) {
      if (layer.losses[r] > allowed) continue;
      layer.rank = r;
      return;
    }
  }

  // min over ranks of sum(losses) within the budget: for a price of weights each layer chooses by
  // itself, and the price is found by bisection.
  void spread(std::vector<FactorLayer>& layers) const {
    double total = 0;
    for (const FactorLayer& layer : layers) {
      if (!layer.losses.empty()) total += static_cast<double>(layer.whole());
    }
    const double budget = options_.keep * total;
    const auto at_price = [&](double price) {
      double taken = 0;
      for (FactorLayer& layer : layers) {
        if (layer.losses.empty()) continue;
        layer.rank = 0;
        double best = price * static_cast<double>(layer.whole());
        for (std::size_t r = kRankStep; r < layer.losses.size(); r += kRankStep) {
          const double cost = layer.losses[r] + price * static_cast<double>(layer.split(r));
          if (cost < best) {
            best = cost;
            layer.rank = r;
          }
        }
        taken += static_cast<double>(layer.rank > 0 ? layer.split(layer.rank) : layer.whole());
      }
      return taken;
    };
    if (at_price(0) <= budget) return;
    double low = 0, high = 1;  // of all that is lost, per weight
    constexpr int kSteps = 60;
    for (int step = 0; step < kSteps; ++step) {
      const double middle = low > 0 ? std::sqrt(low * high) : high * 1e-18;
      (at_price(middle) <= budget ? high : low) = middle;
    }
    at_price(high);
  }

  static std::string loss_text(const FactorLayer& layer, std::size_t rank) {
    const double loss = layer.losses[rank];
    const std::string db = loss > 0 ? fixed(-10 * std::log10(loss), 1) + " dB" : "no error";
    return layer.by_inputs ? "its output is " + db + " above its error on the data"
                           : "the weight is " + db + " above its error";
  }

  void explain_whole(const FactorLayer& layer, PassContext& context) const {
    const std::size_t rank = (layer.losses.size() - 1) / kRankStep * kRankStep;
    std::string why = "rank " + std::to_string(rank) + " is the largest that saves anything, and " +
                      loss_text(layer, rank);
    if (options_.keep > 0) why = "stays whole, which costs least in all: at " + why;
    explain_kept(context, *layer.weight, *constant_of(layer.weight), layer.node, std::move(why));
  }

  Status split(FactorLayer& layer, const GramMatrix* gram, PassContext& context) const {
    MCOMPRESS_ASSIGN(const std::vector<float> matrix, matrix_of(layer));
    const auto found =
        LowRank::of(matrix, layer.inputs, layer.outputs, moments_of(gram), damping_for(gram));
    const Tensor tensor = *constant_of(layer.weight);
    if (!found) {
      explain_kept(context, *layer.weight, tensor, layer.node, "what it reads tells nothing");
      return ok_status();
    }
    LowRank::Factors factors = found->factors(layer.rank);
    const auto i = static_cast<std::int64_t>(layer.inputs);
    const auto o = static_cast<std::int64_t>(layer.outputs);
    const auto r = static_cast<std::int64_t>(layer.rank);
    Editor& edit = context.edit();
    Node& node = *layer.node;
    Graph& graph = node.graph();
    const std::string base(layer.weight->name());
    std::vector<std::int64_t> left_dims = {i, r}, right_dims = {r, o};
    if (node.is("Conv")) {
      factors.left = transposed(factors.left, layer.inputs, layer.rank);
      factors.right = transposed(factors.right, layer.rank, layer.outputs);
      left_dims.assign(tensor.dims().size(), 1);
      right_dims = left_dims;
      left_dims[0] = right_dims[1] = r;
      left_dims[1] = i;
      right_dims[0] = o;
    }
    Value& left =
        edit.add_initializer(graph, base + "_left", make_float_tensor(factors.left, left_dims));
    Value& right =
        edit.add_initializer(graph, base + "_right", make_float_tensor(factors.right, right_dims));
    NewNode thin{.op_type = node.is("Conv") ? "Conv" : "MatMul",
                 .inputs = {node.input(0), &left},
                 .base_name = base + "_thin"};
    if (node.is("Conv")) {
      // Zeros at the borders stay zeros: the second one need not know of them.
      for (const std::string_view name : {"strides", "pads", "auto_pad", "dilations"}) {
        const AttributeValue* held = node.attribute(name);
        if (held == nullptr) continue;
        if (const auto* ints = std::get_if<std::vector<std::int64_t>>(held)) {
          thin.attributes.push_back({std::string(name), *ints});
        } else if (const auto* text = std::get_if<std::string>(held)) {
          thin.attributes.push_back({std::string(name), *text});
        }
        edit.remove_attribute(node, name);
      }
    }
    Value* const narrow = edit.insert_before(node, std::move(thin)).output(0);
    edit.set_input(node, 0, narrow);
    edit.set_input(node, 1, &right);
    if (node.is("Gemm") && layer.outputs_first) edit.remove_attribute(node, "transB");
    if (layer.weight->is_initializer() && layer.weight->uses().empty()) {
      MCOMPRESS_TRY(edit.erase_initializer(*layer.weight));
    }
    Decision decision;
    decision.subject = base;
    decision.op_type = node.op_type();
    decision.what = "rank " + std::to_string(layer.rank) + " of " +
                    std::to_string(std::min(layer.inputs, layer.outputs));
    layer.losses.assign(found->losses().begin(), found->losses().end());
    decision.why = loss_text(layer, layer.rank);
    decision.bytes_before = tensor.byte_size();
    decision.bytes_after = layer.split(layer.rank) * sizeof(float);
    context.explain().chose(std::move(decision));
    return ok_status();
  }

  Options options_;
};

}  // namespace

PassInfo factorize_weights_info() {
  PassInfo info = pass_info<FactorizeWeights>(
      "factorize-weights", "split matrices into products of two thin ones, where that loses little",
      Reach::kNestedGraphs, false, {"lift-constants", "infer-shapes"});
  info.keeps_results = false;
  return info;
}

}  // namespace mcompress
