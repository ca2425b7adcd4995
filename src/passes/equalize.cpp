// equalize: gives the channels of an activation alike ranges before it is quantized per tensor.
//
//   before:  Conv(W1, b1) ── Relu ── Conv(W2)
//   after:   Conv(W1 / s, b1 / s) ── Relu ── Conv(s W2)
//
// A tensor has one scale for all its channels, so channels with small values lose most of their
// codes. Any chain whose operators keep a positive factor computes the same with factors moved from
// one weight into the next: through activations from zero, pooling, residual sums, depthwise
// convolutions, up to all linear operators that read the channels. The idea is cross-layer
// equalization (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
// Correction", 2019), which has s = sqrt(r1 / r2) with r1, r2 the largest weights on both sides;
// here that is one of the candidates, and what is seen of the activations decides.
//
// Then biases are absorbed where that makes a range smaller (common/channel_absorption.h).
//
// Clip(0, 6) keeps a factor in channels that stay below 6 on the calibration data, with a quarter
// to spare; the others keep the factor 1.
#include "passes/common/integer/channel_scaling.h"
#include "passes/common/integer/effort.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

class Equalize final : public Pass {
 public:
  struct Options {
    std::vector<std::string> include, exclude;
    std::string equalize = "auto";
    bool absorb_bias = true;
    std::string effort = "default";
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        selection_schema<Options>()
            .field("equalize", &Options::equalize,
                   "move factors between weights so that the channels of activations get alike "
                   "ranges; auto: with --effort best, where it helps")
            .choices({"auto", "on", "off"})
            .field("absorb-bias", &Options::absorb_bias,
                   "with it, move what all values of a channel have in common into the bias of "
                   "what reads them, where that makes the range of the tensor smaller")
            .level(OptionSpec::Level::kAdvanced)
            .field("effort", &Options::effort, kEffortHelp)
            .choices({"fast", "default", "best"});
    return kSchema;
  }
  explicit Equalize(Options options) : options_(std::move(options)) {}

  Status run(Model& model, PassContext& context) override {
    const bool judge = options_.equalize == "auto";
    if (options_.equalize == "off" || (judge && options_.effort != "best")) return ok_status();
    MCOMPRESS_ASSIGN(const bool may, may_change_calibrated_model(model, context));
    if (!may) return ok_status();
    ChannelScalingOptions scaling;
    scaling.judge = judge;
    scaling.absorb = options_.absorb_bias;
    return scale_channels(model, context, Selection(options_.include, options_.exclude),
                          std::span(&scaling, 1));
  }

 private:
  Options options_;
};

}  // namespace

PassInfo equalize_info() {
  PassInfo info = pass_info<Equalize>(
      "equalize", "give the channels of activations alike ranges by moving factors between weights",
      Reach::kTopGraph, true,
      {"lift-constants", "raise-opset", "fuse-batchnorm", "fuse-affine", "fuse-activation"});
  info.keeps_results = false;
  return info;
}

}  // namespace mcompress
