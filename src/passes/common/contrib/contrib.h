// Operators of ONNX Runtime's own domain for what takes several of ONNX's. Each part looks at the
// whole model, nested graphs included, and writes only what the target lists.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "ir/domains.h"
#include "mcompress/pass.h"
#include "passes/common/fusion/symbolic_shapes.h"

namespace mcompress {

// Of passes that write such operators.
struct ContribOptions {
  bool allow_contrib = false;
};
const Schema<ContribOptions>& contrib_schema();

// Fails with kUsage for a target that has no operators of that domain.
Status admit_contrib(const Target& target);

// What was done, by operator, and what the target offers.
class ContribWriter {
 public:
  ContribWriter(Model& model, PassContext& context) : model_(model), context_(context) {}

  Model& model() { return model_; }
  PassContext& context() { return context_; }
  // Null: the target does not have it.
  const NativeOperator* offered(std::string_view op_type) const {
    return context_.target().native(op_type, kContribDomain);
  }
  // A site was looked at: `why` it stays, or empty when `op_type` stands there now.
  void saw(const Node& node, std::string_view op_type, std::string why);
  // Imports the domain. Call it before the first node.
  void import();
  void report();

 private:
  Model& model_;
  PassContext& context_;
  std::int64_t eligible_ = 0;
  std::map<std::string, std::int64_t, std::less<>> written_;
};

// Attention for attention layers whose projections read one tensor, MultiHeadAttention for others.
Status write_contrib_attention(ContribWriter& writer);
// Why an operator that reads the value is left to the runtime, which computes it in integers: it is
// made by DequantizeLinear. Empty: it is not.
std::string why_not_real(const Value* value);

// Gelu, FastGelu and QuickGelu for the arithmetic written out, BiasGelu for a vector added before.
Status write_contrib_gates(ContribWriter& writer);
// FusedMatMul for products of transposed and scaled operands.
Status write_contrib_products(ContribWriter& writer);
// SkipLayerNormalization for a sum that only a LayerNormalization reads, with a vector added
// before. Its kernel takes longer than those of the nodes, but the runtime makes it of them itself
// when it loads a model, and so nothing is gained by leaving them: only such sites are written.
// `shapes`: of the model before such operators were written.
Status write_contrib_norms(ContribWriter& writer, const SymbolicShapes& shapes);
// FusedConv for a convolution to whose result a tensor of the same shape is added.
Status write_contrib_sums(ContribWriter& writer);
// Shape<start, end> for dimensions that are picked from a Shape. It is ONNX's own, but runtimes
// look for the long form in what they fuse, so that it is written behind everything else.
Status write_contrib_sizes(ContribWriter& writer);
// FusedConv and FusedGemm, which apply an activation to their results.
Status write_contrib_activations(ContribWriter& writer);

}  // namespace mcompress
