// A recurrent operator starts from zeros and adds no bias when it is not told otherwise:
//
//   LSTM(x, W, R, 0, , Expand(0, [2, N, H]), Expand(0, [2, N, H]))   =>   LSTM(x, W, R)
//
// (ONNX operators LSTM, GRU and RNN.) The zeros are a constant, or made from one that is moved,
// cut, repeated or spread to a size that is only known when the model runs.
#include <algorithm>
#include <array>

#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

// The first output holds nothing but elements of the first input.
constexpr auto kMoves =
    std::to_array<std::string_view>({"Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice",
                                     "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"});

bool is_zero(const Value& value) {
  constexpr int kMostSteps = 16;
  const Value* at = &value;
  for (int step = 0; step < kMostSteps; ++step) {
    if (is_constant(at)) {
      const auto numbers = constant_reals(at);
      // -0 is no 0 to a division, but a sum with it is the same.
      return numbers && std::ranges::all_of(*numbers, [](double number) { return number == 0; });
    }
    const Node* node = at->producer();
    if (node == nullptr || !node->domain().empty()) return false;
    if (node->is("ConstantOfShape")) {
      const AttributeValue* fill = node->attribute("value");
      if (fill == nullptr) return true;
      const auto* tensor = std::get_if<Tensor>(fill);
      if (tensor == nullptr || tensor->is_opaque()) return false;
      const auto pinned = tensor->storage()->pin(0, tensor->byte_size());
      return pinned.ok() && std::ranges::all_of(pinned->bytes(), [](std::byte byte) {
               return byte == std::byte{0};
             });
    }
    if (std::ranges::find(kMoves, node->op_type()) == kMoves.end()) return false;
    at = node->input(0);
    if (at == nullptr) return false;
  }
  return false;
}

class SimplifyRecurrent final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit SimplifyRecurrent(Options) {}

  Status run(Model& model, PassContext& context) override {
    const std::vector<Node*> found = find_nodes(context, model, {"GRU", "LSTM", "RNN"});
    std::int64_t dropped = 0;
    for (Node* node : found) {
      struct Operand {
        std::size_t slot;
        std::string_view name;
      };
      constexpr std::array<Operand, 4> kOptional = {
          {{3, "bias"}, {5, "first hidden state"}, {6, "first cell state"}, {7, "peepholes"}}};
      for (const Operand& operand : kOptional) {
        Value* value = operand.slot < node->inputs().size() ? node->input(operand.slot) : nullptr;
        if (value == nullptr) continue;
        if (!is_zero(*value)) {
          context.explain().skipped(
              *node, "its " + std::string(operand.name) + " is not known to be zero");
          continue;
        }
        chose(context, *node, "needs no " + std::string(operand.name) + " of zeros");
        context.edit().set_input(*node, operand.slot, nullptr);
        MCOMPRESS_TRY(erase_unused(context, *value));
        ++dropped;
      }
      while (!node->inputs().empty() && node->inputs().back() == nullptr) {
        context.edit().remove_trailing_input(*node);
      }
    }
    context.report().count("eligible", static_cast<std::int64_t>(found.size()));
    context.report().count("dropped", dropped);
    return ok_status();
  }
};

}  // namespace

PassInfo simplify_recurrent_info() {
  return pass_info<SimplifyRecurrent>(
      "simplify-recurrent", "drop states and biases of zeros from LSTM, GRU and RNN",
      Reach::kNestedGraphs, true, {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
