// x Sigmoid(a x), for a constant a, becomes Swish<alpha = a>(x) where the target has that.
#include <cmath>

#include "passes/common/find_nodes.h"
#include "passes/common/fusion/gates.h"
#include "passes/common/fusion/merge.h"
#include "passes/passes.h"

namespace mcompress {
namespace {

class FuseSwish final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FuseSwish(Options) {}

  Status run(Model& model, PassContext& context) override {
    std::vector<GateSite> sites;
    for (Node* node : find_nodes(context, model, {"Sigmoid"})) {
      if (node->input(0) == nullptr || node->output(0) == nullptr) continue;
      auto gate = find_gate(*node->input(0), *node->output(0), {node}, swish_rules());
      if (!gate) continue;
      const auto alpha = static_cast<float>(gate->inner.of({1}));
      GateSite site{std::move(*gate), {}};
      if (alpha != 1.0f) site.attributes.push_back(attribute("alpha", alpha));
      sites.push_back(std::move(site));
    }
    return merge_gates(model, context, "Swish", std::move(sites));
  }
};

}  // namespace

PassInfo fuse_swish_info() {
  return pass_info<FuseSwish>("fuse-swish", "merge x Sigmoid(a x) into a Swish",
                              Reach::kNestedGraphs, true,
                              {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
