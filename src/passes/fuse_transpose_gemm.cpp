// A matrix product reads its operands transposed as well as not:
//
//   y = Gemm(Transpose(a), b, c)   =>   y = Gemm<transA = 1>(a, b, c)       the same for b
//   y = MatMul(Transpose(a), b)    =>   y = Gemm<transA = 1>(a, b)          of two dimensions
//
// The Transpose goes when all its readers are such products.
#include <algorithm>
#include <array>

#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

class FuseTransposeGemm final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FuseTransposeGemm(Options) {}

  Status run(Model& model, PassContext& context) override {
    std::vector<Node*> found = find_nodes(context, model, {"Transpose"});
    std::erase_if(found, [](const Node* node) {
      return node->output(0) == nullptr || !read_by_product(*node);
    });
    std::int64_t fused = 0;
    for (Node* node : found) {
      MCOMPRESS_ASSIGN(std::string why, fuse(*node, context));
      if (why.empty()) {
        ++fused;
      } else {
        context.explain().skipped(*node, std::move(why));
      }
    }
    context.report().count("eligible", static_cast<std::int64_t>(found.size()));
    context.report().count("fused", fused);
    return ok_status();
  }

 private:
  static bool is_product(const Node* node) {
    return node != nullptr && (node->is("Gemm") || node->is("MatMul"));
  }
  static bool read_by_product(const Node& node) {
    return std::ranges::any_of(node.output(0)->uses(),
                               [](const Use& use) { return is_product(use.node); });
  }

  static Result<std::string> fuse(Node& transpose, PassContext& context) {
    Value& turned = *transpose.output(0);
    Value& source = *transpose.input(0);
    const auto perm = transpose.ints_attribute("perm");
    if (perm ? *perm != std::vector<std::int64_t>{1, 0} : rank_of(source) != 2u) {
      return std::string("it does not exchange two dimensions");
    }
    const std::vector<Use> uses(turned.uses().begin(), turned.uses().end());
    for (const Use& use : uses) {
      if (std::string why = why_not_into(turned, use); !why.empty()) return why;
    }
    chose(context, transpose,
          "absorbed by " + std::string(uses.front().node->op_type()) + " '" +
              uses.front().node->label() + "'" + (uses.size() > 1 ? " and others" : ""));
    Editor& editor = context.edit();
    for (const Use& use : uses) {
      Node& reader = *use.node;
      const std::string_view name = use.slot == 0 ? "transA" : "transB";
      if (reader.is("MatMul")) editor.set_op_type(reader, "", "Gemm");
      if (reader.int_attribute(name, 0) != 0) {
        editor.remove_attribute(reader, name);
      } else {
        editor.set_attribute(reader, attribute(name, std::int64_t{1}));
      }
      editor.set_input(reader, use.slot, &source);
    }
    MCOMPRESS_TRY(erase_unused(context, turned));
    return std::string();
  }

  static std::string why_not_into(const Value& turned, const Use& use) {
    const std::string name = "'" + std::string(turned.name()) + "'";
    if (use.graph != &turned.graph()) return name + " is read inside a nested graph";
    if (use.node == nullptr) return name + " is a graph output";
    const Node& reader = *use.node;
    const std::string label = std::string(reader.op_type()) + " '" + reader.label() + "'";
    if (!is_product(&reader) || use.slot > 1) return "it is read by " + label;
    if (reader.is("Gemm")) return {};
    constexpr std::int64_t kBiasLeftOut = 11;
    if (reader.graph().model().opset("") < kBiasLeftOut) {
      return label + " has no bias, which Gemm needs before opset 11";
    }
    const Value* other = reader.input(1 - use.slot);
    const auto rank = other != nullptr ? rank_of(*other) : std::nullopt;
    if (rank != 2u) return label + " is not known to have two matrices as operands";
    static constexpr std::array<DataType, 4> kTypes = {DataType::kFloat, DataType::kDouble,
                                                       DataType::kFloat16, DataType::kBfloat16};
    if (std::ranges::find(kTypes, element_type(*other)) == kTypes.end()) {
      return "Gemm is for floating point, this is " + dtype_name(element_type(*other));
    }
    return {};
  }
};

}  // namespace

PassInfo fuse_transpose_gemm_info() {
  return pass_info<FuseTransposeGemm>(
      "fuse-transpose-gemm", "let Gemm and MatMul read their operands transposed",
      Reach::kNestedGraphs, true,
      {"lift-constants", "infer-shapes", "fold-constants", "fuse-matmul-add"});
}

}  // namespace mcompress
