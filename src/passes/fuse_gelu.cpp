// The Gaussian error linear unit written out, in any order and grouping, becomes one operator:
//
//   0.5 x (1 + Erf(x / sqrt(2)))                         =>   Gelu(x)
//   0.5 x (1 + Tanh(sqrt(2 / pi) (x + 0.044715 x^3)))    =>   Gelu<approximate = "tanh">(x)
#include "passes/common/find_nodes.h"
#include "passes/common/fusion/gates.h"
#include "passes/common/fusion/merge.h"
#include "passes/passes.h"

namespace mcompress {
namespace {

class FuseGelu final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FuseGelu(Options) {}

  Status run(Model& model, PassContext& context) override {
    std::vector<GateSite> sites;
    for (Node* found : find_nodes(context, model, {"Erf", "Tanh"})) {
      Node& node = *found;
      const bool erf = node.is("Erf");
      if (node.input(0) == nullptr || node.output(0) == nullptr) continue;
      auto gate = find_gate(*node.input(0), *node.output(0), {&node},
                            erf ? erf_gelu_rules() : tanh_gelu_rules());
      if (!gate) continue;
      GateSite site{std::move(*gate), {}};
      if (!erf) site.attributes.push_back(attribute("approximate", std::string_view("tanh")));
      sites.push_back(std::move(site));
    }
    return merge_gates(model, context, "Gelu", std::move(sites));
  }
};

}  // namespace

PassInfo fuse_gelu_info() {
  return pass_info<FuseGelu>("fuse-gelu", "merge a Gelu written out with Erf or Tanh",
                             Reach::kNestedGraphs, true,
                             {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
