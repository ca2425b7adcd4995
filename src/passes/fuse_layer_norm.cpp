// A layer normalisation written out becomes one operator:
//
//   (x - mean) / sqrt(variance + epsilon) * gamma + beta   =>   LayerNormalization(x, gamma, beta)
//
// in the spellings of common/normalization.h.
#include "passes/common/fusion/normalization.h"
#include "passes/passes.h"

namespace mcompress {
namespace {

class FuseLayerNorm final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FuseLayerNorm(Options) {}

  Status run(Model& model, PassContext& context) override {
    return merge_normalizations(model, context, "LayerNormalization", true);
  }
};

}  // namespace

PassInfo fuse_layer_norm_info() {
  return pass_info<FuseLayerNorm>(
      "fuse-layer-norm", "merge a layer normalisation that is written out", Reach::kNestedGraphs,
      true, {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
