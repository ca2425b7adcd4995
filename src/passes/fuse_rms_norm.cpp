// A normalisation by the root of the mean square, written out, becomes one operator:
//
//   x / sqrt(mean(x^2) + epsilon) * gamma   =>   RMSNormalization(x, gamma)
//
// in the spellings of common/normalization.h.
#include "passes/common/fusion/normalization.h"
#include "passes/passes.h"

namespace mcompress {
namespace {

class FuseRmsNorm final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FuseRmsNorm(Options) {}

  Status run(Model& model, PassContext& context) override {
    return merge_normalizations(model, context, "RMSNormalization", false);
  }
};

}  // namespace

PassInfo fuse_rms_norm_info() {
  return pass_info<FuseRmsNorm>(
      "fuse-rms-norm", "merge a normalisation by the root mean square that is written out",
      Reach::kNestedGraphs, true, {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
