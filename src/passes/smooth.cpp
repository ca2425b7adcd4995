// smooth: moves what makes an activation hard to quantize into the weights that read it.
//
//   before:  LayerNormalization(g, b) ──┬── MatMul(Wq)     Gelu ── MatMul(W)
//                                       └── MatMul(Wk)
//   after:   LayerNormalization(g / s, b / s) ──┬── MatMul(s Wq)     Gelu ── Mul(1 / s) ── MatMul(s
//   W)
//                                               └── MatMul(s Wk)
//
// A few channels of a transformer's activations are many times larger than the others and take all
// codes. Weights have a scale per output channel and bear uneven rows better. SmoothQuant (Xiao et
// al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models",
// 2023): s = max|x|^alpha / max|W|^(1 - alpha); alpha is chosen for each activation by the noise
// that really rounding some rows of it makes. Where the factor can not be taken by what makes the
// activation, as behind a Gelu or where a residual reads it too, a Mul stays in the graph.
#include <algorithm>
#include <array>

#include "passes/common/fusion/linear.h"
#include "passes/common/integer/channel_scaling.h"
#include "passes/common/integer/effort.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Calibration samples looked at, and held out to judge, unless effort is best.
constexpr std::int64_t kQuickSamples = 32;

class Smooth final : public Pass {
 public:
  struct Options {
    std::vector<std::string> include, exclude;
    std::string smooth = "auto";
    bool smooth_insert = true;
    std::string effort = "default";
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        selection_schema<Options>()
            .field(
                "smooth", &Options::smooth,
                "move large channels of activations into the weights (SmoothQuant); auto: where it "
                "helps, behind normalisations and, with --effort best, anywhere")
            .choices({"auto", "on", "off"})
            .field("smooth-insert", &Options::smooth_insert,
                   "smooth also where that leaves a Mul in the graph")
            .field("effort", &Options::effort, kEffortHelp)
            .choices({"fast", "default", "best"});
    return kSchema;
  }
  explicit Smooth(Options options) : options_(std::move(options)) {}

  Status run(Model& model, PassContext& context) override {
    const bool judge = options_.smooth == "auto";
    if (options_.smooth == "off" || (judge && !worth_trying(model))) return ok_status();
    MCOMPRESS_ASSIGN(const bool may, may_change_calibrated_model(model, context));
    if (!may) return ok_status();
    const Selection selection(options_.include, options_.exclude);
    std::vector<ChannelScalingOptions> runs(1);
    ChannelScalingOptions& scaling = runs.front();
    scaling.normalized = true;
    scaling.judge = judge;
    if (effort_of(options_.effort) != Effort::kBest) {
      scaling.samples = kQuickSamples;
      scaling.judges = kQuickSamples;
    }
    // What costs nothing when the model runs comes first and is judged by itself.
    if (options_.smooth_insert) {
      runs.push_back(runs.front());
      runs.back().insert = true;
    }
    return scale_channels(model, context, selection, runs);
  }

 private:
  // Judging costs some hundred runs of the model. Channels that stand out are what normalisation
  // and its scale make: elsewhere the search hardly ever brings anything.
  bool worth_trying(const Model& model) const {
    switch (effort_of(options_.effort)) {
      case Effort::kFast:
        return false;
      case Effort::kBest:
        return true;
      case Effort::kDefault:
        break;
    }
    const Graph& graph = model.graph();
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      if (normalizes_channels(*node)) return true;
    }
    return false;
  }

  // Whether a linear operator reads the result, as it is or in another shape.
  static bool normalizes_channels(const Node& node) {
    constexpr std::array<std::string_view, 3> kNorms = {"LayerNormalization", "RMSNormalization",
                                                        "SimplifiedLayerNormalization"};
    constexpr std::array<std::string_view, 4> kShapes = {"Identity", "Reshape", "Squeeze",
                                                         "Unsqueeze"};
    const auto is_any = [](const Node& other, const auto& types) {
      return std::ranges::any_of(types, [&](auto type) { return other.op_type() == type; });
    };
    if (!is_any(node, kNorms)) return false;
    std::vector<const Value*> values = {node.output(0)};
    while (!values.empty()) {
      const Value* value = values.back();
      values.pop_back();
      if (value == nullptr) continue;
      for (const Use& use : value->uses()) {
        if (use.node == nullptr || use.slot != 0) continue;
        if (linear_operator(*use.node).op) return true;
        if (is_any(*use.node, kShapes)) values.push_back(use.node->output(0));
      }
    }
    return false;
  }

  Options options_;
};

}  // namespace

PassInfo smooth_info() {
  PassInfo info = pass_info<Smooth>(
      "smooth", "move large channels of activations into the weights that read them",
      Reach::kTopGraph, true,
      {"lift-constants", "raise-opset", "fuse-batchnorm", "fuse-affine", "fuse-layer-norm",
       "equalize"});
  info.keeps_results = false;
  return info;
}

}  // namespace mcompress
