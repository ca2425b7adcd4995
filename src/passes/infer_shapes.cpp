// Types and shapes of all values as ONNX infers them. What inference complains about is a warning:
// later passes do less with less knowledge, and say so.
#include "mcompress/io.h"
#include "passes/passes.h"

namespace mcompress {
namespace {

class InferShapes final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit InferShapes(Options) {}

  Status run(Model& model, PassContext& context) override {
    return infer_shapes(model, context.edit(), context.diagnostics());
  }
};

}  // namespace

PassInfo infer_shapes_info() {
  return pass_info<InferShapes>("infer-shapes", "find the types and shapes of all values",
                                Reach::kNestedGraphs, true, {"lift-constants"});
}

}  // namespace mcompress
