// Operators that compute on 8-bit codes, for what is written as DequantizeLinear -> operator ->
// QuantizeLinear: the kernels that ONNX Runtime itself chooses for that when it loads a model
// (core/optimizer/qdq_transformer/selectors_actions), with the same scales, zero points and
// rounded biases.
//
//   s_y q_y + z_y = round(op(s_x (q_x - z_x), ...))
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/pass.h"

namespace mcompress {

// A tensor of int8 or uint8 codes: s (q - z).
struct CodedTensor {
  Value* codes = nullptr;
  Value* scale = nullptr;  // float32 constant
  Value* zero = nullptr;   // constant of the type of the codes; null: 0
  // The axis along which there is one scale for each position; empty: one for all.
  std::optional<std::int64_t> axis;
  DataType type = DataType::kUndefined;  // of the codes
};

// What a DequantizeLinear or QuantizeLinear reads or makes. Empty: its scale is no constant, or in
// blocks, or the codes have not 8 bits. `axis` is counted from the front where the rank is known.
std::optional<CodedTensor> coded_by(const Node& node);
// What a DequantizeLinear makes; empty: something else makes it.
std::optional<CodedTensor> coded_tensor(const Value* value);
// Equal scales and zero points, one for all elements.
bool same_codes(const CodedTensor& left, const CodedTensor& right);
// The numbers that codes of that type stand for: [lowest, highest].
std::optional<std::pair<double, double>> code_range(const CodedTensor& coded);

// `quantize` makes codes of what `op` makes. No quantize: the result stays float32, and `last`
// makes it: `op` itself, or the Add of a constant vector behind a MatMul.
struct QuantizedSite {
  Node* op = nullptr;
  Node* quantize = nullptr;
  Node* last = nullptr;
};

// Writes sites; holds what several of them share.
class IntegerForms {
 public:
  IntegerForms(Model& model, PassContext& context) : model_(model), context_(context) {}

  // Operators there are integer ones for.
  static bool knows(const Node& node);
  // The reason why the site stays; empty: it is written.
  Result<std::string> write(const QuantizedSite& site);

 private:
  struct Form {
    NewNode node;
    std::string why;
  };
  Result<Form> form_of(const QuantizedSite& site);
  Result<Form> convolution(const QuantizedSite& site, const CodedTensor& result);
  Result<Form> product(const QuantizedSite& site, const std::optional<CodedTensor>& result);
  Result<Form> real_gemm(const QuantizedSite& site, const CodedTensor& a, const CodedTensor& b);
  Result<Form> binary(const QuantizedSite& site, const CodedTensor& result);
  Result<Form> unary(const QuantizedSite& site, const CodedTensor& result);
  Result<Form> concat(const QuantizedSite& site, const CodedTensor& result);

  // The zero point, made where it was left out.
  Value* zero_of(Graph& graph, const CodedTensor& coded);
  // A bias as codes at scale_x scale_w. Null with `why`, or without: there is none.
  Result<Value*> bias_codes(const Node& op, std::size_t slot, const CodedTensor& x,
                            const CodedTensor& w, std::int64_t channels, std::string& why);
  std::string why_not_offered(std::string_view domain, std::string_view op_type) const;

  Model& model_;
  PassContext& context_;
  std::map<std::pair<const Graph*, DataType>, Value*> zeros_;
};

}  // namespace mcompress
