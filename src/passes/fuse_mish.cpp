// x Tanh(Softplus(x)) becomes Mish(x). Log(1 + Exp(x)) is a Softplus, too.
#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/fusion/merge.h"
#include "passes/passes.h"

namespace mcompress {
namespace {

// What a value is the Softplus of, and the nodes for it.
struct Softplus {
  Value* input = nullptr;
  std::vector<Node*> nodes;
};

Softplus softplus_of(const Value& value) {
  if (Node* node = made_by(&value, "Softplus")) return {node->input(0), {node}};
  Node* log = made_by(&value, "Log");
  Node* add = log != nullptr ? made_by(log->input(0), "Add") : nullptr;
  if (add == nullptr) return {};
  for (std::size_t slot : {std::size_t{0}, std::size_t{1}}) {
    Node* exp = made_by(add->input(slot), "Exp");
    if (exp == nullptr || exp->input(0) == nullptr) continue;
    Expander expander({{exp->output(0), 0, 1, 1}},
                      {1, rank_of(*exp->output(0)).value_or(0), false, false});
    const auto sum = expander.expand(*add->output(0));
    if (sum && sum->is({{{0}, 1.0}, {{1}, 1.0}})) return {exp->input(0), {log, add, exp}};
  }
  return {};
}

class FuseMish final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FuseMish(Options) {}

  Status run(Model& model, PassContext& context) override {
    std::vector<GateSite> sites;
    const GateRules rules = {[](const Expression& inner) {
                               return inner.is({{{1}, 1.0}});
                             },
                             [](const Expression&, const Expression& outer) {
                               return outer.is({{{1, 1}, 1.0}});
                             }};
    for (Node* node : find_nodes(context, model, {"Tanh"})) {
      if (node->input(0) == nullptr || node->output(0) == nullptr) continue;
      Softplus inside = softplus_of(*node->input(0));
      if (inside.input == nullptr) continue;
      inside.nodes.push_back(node);
      auto gate = find_gate(*inside.input, *node->output(0), inside.nodes, rules);
      if (gate) sites.push_back({std::move(*gate), {}});
    }
    return merge_gates(model, context, "Mish", std::move(sites));
  }
};

}  // namespace

PassInfo fuse_mish_info() {
  return pass_info<FuseMish>("fuse-mish", "merge x Tanh(Softplus(x)) into a Mish",
                             Reach::kNestedGraphs, true,
                             {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
