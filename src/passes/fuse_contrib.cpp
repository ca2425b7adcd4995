// Operators of ONNX Runtime's own, com.microsoft, where the target lists them and the user allows
// a model that other runtimes can not read:
//
//   Relu(Conv(x, w, b))                          =>   FusedConv<activation = "Relu">(x, w, b)
//   Relu(Add(Conv(x, w, b), z))                  =>   FusedConv<activation = "Relu">(x, w, b, z)
//   Tanh(Gemm(a, b, c))                          =>   FusedGemm<activation = "Tanh">(a, b, c)
//   Div(MatMul(a, Transpose(b)), 8)              =>   FusedMatMul<transB = 1, alpha = 1/8>(a, b)
//   x Sigmoid(1.7 x)                             =>   QuickGelu<alpha = 1.7>(x)
//   Gelu(Add(x, bias))                           =>   BiasGelu(x, bias)
//   Softmax(q k^T / 8 + mask) v by heads, with   =>   Attention<num_heads, scale = 1/8>(
//     q, k, v from x by constant matrices               x, [wq wk wv], [bq bk bv], , , mask)
//     q, k, v from other tensors                 =>   MultiHeadAttention<..>(q, k, v, , , mask)
//   LayerNormalization(Add(x, Add(y, bias)))     =>   SkipLayerNormalization(x, y, .., bias)
//   Unsqueeze(Gather(Shape(x), 1), 0)            =>   Shape<start = 1, end = 2>(x)
//   x / sqrt(mean(x^2) + epsilon) * gamma        =>   SimplifiedLayerNormalization(x, gamma)
//     where RMSNormalization is too new; the runtime keeps this one in ONNX's own domain
//
// It runs once, when nothing else has anything left to do: others do not know these operators.
//
// SkipLayerNormalization stands only where the runtime makes it when it loads the model: a sum that
// nothing else reads. Its kernel takes 4 to 8 times as long as Add and LayerNormalization do (ONNX
// Runtime 1.32, one thread, 49 x 64 to 128 x 768 elements), and a small vision transformer becomes
// 25 % slower where sums that others read are made by it as well.
#include "passes/common/contrib/contrib.h"
#include "passes/common/fusion/normalization.h"
#include "passes/common/fusion/symbolic_shapes.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {

namespace {

class FuseContrib final : public Pass {
 public:
  using Options = ContribOptions;
  static const Schema<Options>& schema() { return contrib_schema(); }
  explicit FuseContrib(Options options) : options_(options) {}

  Status run(Model& model, PassContext& context) override {
    if (!options_.allow_contrib) return ok_status();
    MCOMPRESS_TRY(admit_contrib(context.target()));
    MCOMPRESS_TRY(merge_normalizations(model, context, "SimplifiedLayerNormalization", false));
    ContribWriter writer(model, context);
    // Of operators that are not ONNX's own it would know nothing.
    const auto shapes = context.facts().of<SymbolicShapes>(model);
    MCOMPRESS_TRY(write_contrib_attention(writer));
    MCOMPRESS_TRY(write_contrib_gates(writer));
    MCOMPRESS_TRY(write_contrib_norms(writer, *shapes));
    MCOMPRESS_TRY(write_contrib_products(writer));
    MCOMPRESS_TRY(write_contrib_sums(writer));
    MCOMPRESS_TRY(write_contrib_activations(writer));
    MCOMPRESS_TRY(write_contrib_sizes(writer));
    writer.report();
    return ok_status();
  }

 private:
  Options options_;
};

}  // namespace

PassInfo fuse_contrib_info() {
  return pass_info<FuseContrib>(
      "fuse-contrib", "use the fused operators of ONNX Runtime's own domain, where allowed",
      Reach::kNestedGraphs, true, {"*"});
}

}  // namespace mcompress
