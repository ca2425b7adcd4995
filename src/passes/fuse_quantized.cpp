// Operators between DequantizeLinear and QuantizeLinear become operators on the codes, where the
// target has them and the user allows a model that other runtimes can not read:
//
//   Q(Relu(Conv(DQ(x), DQ(w), b)))    =>  QLinearConv(x, w, round(b / (s_x s_w)))
//       where the lowest code stands for 0
//   Q(Add(DQ(a), DQ(b)))              =>  QLinearAdd(a, b)
//   Gemm(DQ(a), DQ(w), b)             =>  MatMulIntegerToFloat(a, w, b)
//   Q(DQ(x)) of the same scale        =>  x
//   Q(MaxPool(DQ(x))), the same       =>  MaxPool(x)
//   Reshape(DQ(x)), nobody else's     =>  DQ(Reshape(x))
//   DQ(Q(x)) in int8                  =>  DQ'(Q'(x)) in uint8, zero points + 128
//       where kernels ask for it
//   Mul(Cast(codes), scale)           =>  the weight in float32
//       where all such weights together are next to nothing
//
// That is what ONNX Runtime does by itself whenever it loads the model: here it is done once, and
// the float32 biases need not be stored.
#include <algorithm>
#include <array>
#include <map>

#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/contrib/contrib.h"
#include "passes/common/fusion/restored_weights.h"
#include "passes/common/integer/integer_forms.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

// They only move elements, whatever these are, and never make more of them.
bool moves_only(const Node& node) {
  static constexpr auto kKinds = std::to_array<std::string_view>(
      {"Flatten", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"});
  return std::ranges::any_of(kKinds, [&](std::string_view kind) { return node.is(kind); });
}

class QuantizedFusion {
 public:
  QuantizedFusion(Model& model, PassContext& context)
      : model_(model), context_(context), editor_(context.edit()), forms_(model, context) {}

  Status run() {
    if (!context_.target().signed_activations) {
      for (Node* node : all("QuantizeLinear")) MCOMPRESS_TRY(make_unsigned(*node));
    }
    std::vector<Node*> movers;
    for_each_node(model_.graph(), [&](Node& node) {
      if (moves_only(node) || node.is("MaxPool")) movers.push_back(&node);
    });
    for (Node* node : movers) {
      MCOMPRESS_TRY(node->is("MaxPool") ? pool_codes(*node) : move_codes(*node));
    }
    for (Node* node : all("QuantizeLinear")) MCOMPRESS_TRY(take_back(*node));
    for (Node* node : all("QuantizeLinear")) MCOMPRESS_TRY(take_cut(*node));
    for (Node* node : all("QuantizeLinear")) MCOMPRESS_TRY(into_integers(*node));
    std::vector<Node*> products;
    for_each_node(model_.graph(), [&](Node& node) {
      if (node.is("MatMul") || node.is("Gemm")) products.push_back(&node);
    });
    for (Node* node : products) MCOMPRESS_TRY(into_real(*node));
    MCOMPRESS_ASSIGN(const std::int64_t restored, restore_few_weights(model_, context_));
    context_.report().count("restored", restored);
    context_.report().count("eligible", eligible_);
    context_.report().count("fused", fused_);
    return ok_status();
  }

 private:
  std::vector<Node*> all(std::string_view op_type) {
    std::vector<Node*> found;
    for_each_node(model_.graph(), [&](Node& node) {
      if (node.is(op_type) && node.output(0) != nullptr) found.push_back(&node);
    });
    return found;
  }

  void set_element(Value& value, DataType type) {
    TypeInfo info = value.type() != nullptr ? *value.type() : TypeInfo{};
    info.element = type;
    editor_.set_type(value, std::move(info), false);
  }

  // q + 128 with zero point z + 128 stands for the same number.
  Status make_unsigned(Node& quantize) {
    const auto coded = coded_by(quantize);
    if (!coded || coded->axis || coded->type != DataType::kInt8 || coded->zero == nullptr ||
        is_captured(*coded->codes) || coded->codes->is_graph_output()) {
      return ok_status();
    }
    const auto zero = constant_scalar(coded->zero);
    for (const Use& use : coded->codes->uses()) {
      if (!zero || use.node == nullptr || !use.node->is("DequantizeLinear") || use.slot != 0) {
        return ok_status();
      }
      const auto reader = coded_by(*use.node);
      if (!reader || !same_codes(*coded, *reader)) return ok_status();
    }
    const auto code = static_cast<std::byte>(static_cast<int>(*zero) + 128);
    Value*& fresh = zeros_[{&quantize.graph(), static_cast<int>(code)}];
    if (fresh == nullptr) {
      fresh = &add_constant(context_, quantize.graph(), "zero_point",
                            make_bytes_tensor(DataType::kUint8, {}, {code}));
    }
    std::vector<Node*> nodes{&quantize};
    for (const Use& use : coded->codes->uses()) nodes.push_back(use.node);
    for (Node* node : nodes) {
      Value* old = node->input(2);
      editor_.set_input(*node, 2, fresh);
      if (old != nullptr) MCOMPRESS_TRY(erase_unused(context_, *old));
    }
    editor_.remove_attribute(quantize, "output_dtype");
    set_element(*coded->codes, DataType::kUint8);
    return ok_status();
  }

  // The DequantizeLinear of computed codes that makes the first input and nothing else reads.
  Node* own_restorer(Node& reader) {
    Node* restore = made_by(reader.input(0), "DequantizeLinear");
    if (restore == nullptr || only_user(*restore->output(0)) != &reader) return nullptr;
    if (is_constant(restore->input(0))) return nullptr;
    const auto coded = coded_by(*restore);
    return coded && !coded->axis ? restore : nullptr;
  }

  Status move_codes(Node& node) {
    Node* restore = own_restorer(node);
    if (restore == nullptr || node.output(0) == nullptr || node.output(0)->is_graph_output()) {
      return ok_status();
    }
    Value& moved = *node.output(0);
    const CodedTensor coded = *coded_by(*restore);
    const std::optional<TypeInfo> type =
        moved.type() != nullptr ? std::optional(*moved.type()) : std::nullopt;
    const std::vector<Use> uses(moved.uses().begin(), moved.uses().end());
    NewNode form;
    form.op_type = "DequantizeLinear";
    form.inputs = {&moved, coded.scale};
    if (coded.zero != nullptr) form.inputs.push_back(coded.zero);
    form.base_name = std::string(moved.name()) + "_dequantized";
    Node& behind = editor_.insert_after(node, std::move(form));
    for (const Use& use : uses) editor_.redirect(use, *behind.output(0));
    if (type) editor_.set_type(*behind.output(0), *type, false);
    editor_.set_input(node, 0, coded.codes);
    set_element(moved, coded.type);
    chose(context_, node, "moves codes");
    return erase_unused(context_, *restore->output(0));
  }

  // The largest code stands for the largest number where the scale is positive.
  Status pool_codes(Node& pool) {
    constexpr std::int64_t kPoolsCodes = 12;
    Node* restore = made_by(pool.input(0), "DequantizeLinear");
    Node* quantize = pool.output(0) != nullptr ? only_user(*pool.output(0)) : nullptr;
    if (restore == nullptr || quantize == nullptr || !quantize->is("QuantizeLinear") ||
        pool.outputs().size() != 1 || model_.opset("") < kPoolsCodes) {
      return ok_status();
    }
    const auto before = coded_by(*restore), after = coded_by(*quantize);
    if (!before || !after || !same_codes(*before, *after) || !code_range(*before)) {
      return ok_status();
    }
    Value& pooled = *pool.output(0);
    if (!why_not_bypass(context_, *quantize, pooled).empty()) return ok_status();
    chose(context_, pool, "pools codes");
    const std::vector<Value*> gone{after->scale, after->zero};
    editor_.set_input(pool, 0, before->codes);
    set_element(pooled, before->type);
    MCOMPRESS_ASSIGN(const std::string why, bypass(context_, *quantize, pooled));
    if (!why.empty()) return Error(Code::kInternal, "fuse-quantized", why, {{}, {}, pool.label()});
    for (Value* value : gone) {
      if (value != nullptr) MCOMPRESS_TRY(erase_unused(context_, *value));
    }
    return erase_unused(context_, *restore->output(0));
  }

  // Q(DQ(x))
  Status take_back(Node& quantize) {
    Node* restore = made_by(quantize.input(0), "DequantizeLinear");
    if (restore == nullptr) return ok_status();
    const auto before = coded_by(*restore), after = coded_by(quantize);
    if (!before || !after || !same_codes(*before, *after) || !code_range(*before)) {
      return ok_status();
    }
    if (!why_not_bypass(context_, quantize, *before->codes).empty()) return ok_status();
    chose(context_, quantize, "the codes it makes are there already");
    MCOMPRESS_ASSIGN(const std::string why, bypass(context_, quantize, *before->codes));
    if (!why.empty()) return ok_status();
    return erase_unused(context_, *restore->output(0));
  }

  // Whether no code can tell that the node, a Relu or Clip, was there.
  static bool cut_by_codes(const Node& node, const CodedTensor& coded) {
    const auto range = code_range(coded);
    if (!range) return false;
    if (node.is("Relu")) return range->first >= 0.0;
    if (!node.is("Clip")) return false;
    const auto bound = [&](std::string_view name, std::size_t slot, double open) {
      if (node.input(slot) != nullptr) return constant_scalar(node.input(slot));
      return std::optional(
          static_cast<double>(node.float_attribute(name, static_cast<float>(open))));
    };
    const auto low = bound("min", 1, -3e38), high = bound("max", 2, 3e38);
    return low && high && *low <= range->first && *high >= range->second;
  }

  // Q(Relu(x)) is Q(x) where no code stands for less than 0.
  Status take_cut(Node& quantize) {
    const auto coded = coded_by(quantize);
    Value* made = quantize.input(0);
    Node* cut = made != nullptr ? made->producer() : nullptr;
    if (!coded || cut == nullptr || cut->input(0) == nullptr || only_user(*made) != &quantize ||
        !cut_by_codes(*cut, *coded)) {
      return ok_status();
    }
    chose(context_, *cut, "the codes of '" + std::string(coded->codes->name()) + "' do the same");
    editor_.set_input(quantize, 0, cut->input(0));
    return erase_unused(context_, *made);
  }

  Status into_integers(Node& quantize) {
    const auto coded = coded_by(quantize);
    Value* made = quantize.input(0);
    if (!coded || made == nullptr || made->producer() == nullptr) return ok_status();
    Node* op = made->producer();
    if (only_user(*made) != &quantize) return ok_status();
    if (!IntegerForms::knows(*op) || &op->graph() != &quantize.graph() || !reads_codes(*op)) {
      return ok_status();
    }
    return settle({op, &quantize, op});
  }

  static bool reads_codes(const Node& op) {
    return std::ranges::any_of(op.inputs(), [](const Value* value) {
      return value != nullptr && made_by(value, "DequantizeLinear") != nullptr &&
             !is_constant(value->producer()->input(0));
    });
  }

  // A product whose result stays float32.
  Status into_real(Node& product) {
    if (product.output(0) == nullptr || !coded_tensor(product.input(0)) ||
        !coded_tensor(product.input(1)) || !reads_codes(product)) {
      return ok_status();
    }
    QuantizedSite site{&product, nullptr, &product};
    Node* reader = only_user(*product.output(0));
    if (product.is("MatMul") && reader != nullptr && reader->is("Add") &&
        &reader->graph() == &product.graph() && reader->output(0) != nullptr) {
      const std::size_t slot = reader->input(0) == product.output(0) ? 1 : 0;
      const auto bias =
          reader->input(slot) != nullptr ? static_shape(*reader->input(slot)) : std::nullopt;
      const auto weight = static_shape(*product.input(1)->producer()->input(0));
      if (is_constant(reader->input(slot)) && bias && weight && bias->size() == 1 &&
          weight->size() == 2 && bias->front() == weight->back()) {
        site.last = reader;
      }
    }
    return settle(site);
  }

  Status settle(const QuantizedSite& site) {
    ++eligible_;
    // The node may go.
    const Node& subject = site.quantize != nullptr ? *site.quantize : *site.last;
    MCOMPRESS_ASSIGN(std::string why, forms_.write(site));
    if (why.empty()) {
      ++fused_;
    } else {
      context_.explain().skipped(subject, std::move(why));
    }
    return ok_status();
  }

  Model& model_;
  PassContext& context_;
  Editor& editor_;
  IntegerForms forms_;
  std::map<std::pair<const Graph*, int>, Value*> zeros_;
  std::int64_t eligible_ = 0, fused_ = 0;
};

class FuseQuantized final : public Pass {
 public:
  using Options = ContribOptions;
  static const Schema<Options>& schema() { return contrib_schema(); }
  explicit FuseQuantized(Options options) : options_(options) {}

  Status run(Model& model, PassContext& context) override {
    if (!options_.allow_contrib) return ok_status();
    MCOMPRESS_TRY(admit_contrib(context.target()));
    return QuantizedFusion(model, context).run();
  }

 private:
  Options options_;
};

}  // namespace

PassInfo fuse_quantized_info() {
  return pass_info<FuseQuantized>(
      "fuse-quantized", "compute on 8-bit codes with ONNX Runtime's own operators, where allowed",
      Reach::kNestedGraphs, true, {"*"});
}

}  // namespace mcompress
