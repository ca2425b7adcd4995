// Gates made of clamps become the operators that have their names. With clamp(v) for Clip, Relu,
// Min and Max with constant bounds, alone or one behind the other, and for HardSigmoid:
//
//   clamp(x + 3, 0, 6) / 6          =>   HardSigmoid<alpha = 1/6, beta = 1/2>(x)
//   x clamp(x + 3, 0, 6) / 6        =>   HardSwish(x)
//                                        or Mul(x, HardSigmoid<...>(x)) where that is too new
//
// in any order and grouping, and for any other slope and shift of a HardSigmoid.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/fusion/merge.h"
#include "passes/common/fusion/native.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr double kNone = std::numeric_limits<double>::infinity();

// output = min(max(slope * input + shift, low), high)
struct Clamp {
  Value* input = nullptr;
  Value* output = nullptr;
  double slope = 1, shift = 0;
  double low = -kNone, high = kNone;
  std::vector<Node*> nodes;
};

// The number that a Clip reads, in the attribute or the input; `fallback` when it is left out, NaN
// when it is no constant.
double bound(const Node& node, std::string_view name, std::size_t slot, double fallback) {
  if (const Value* value = node.input(slot)) {
    return constant_scalar(value).value_or(std::nan(""));
  }
  return static_cast<double>(node.float_attribute(name, static_cast<float>(fallback)));
}

// The clamp that one node is; without an input: none.
Clamp clamp_of(Node& node) {
  Clamp clamp;
  if (node.output(0) == nullptr || node.input(0) == nullptr) return clamp;
  std::size_t slot = 0;
  if (node.is("Relu")) {
    clamp.low = 0;
  } else if (node.is("Clip")) {
    clamp.low = bound(node, "min", 1, -kNone);
    clamp.high = bound(node, "max", 2, kNone);
  } else if (node.is("HardSigmoid")) {
    clamp.slope = static_cast<double>(node.float_attribute("alpha", 0.2f));
    clamp.shift = static_cast<double>(node.float_attribute("beta", 0.5f));
    clamp.low = 0;
    clamp.high = 1;
  } else if ((node.is("Min") || node.is("Max")) && node.inputs().size() == 2) {
    slot = is_constant(node.input(0)) ? 1 : 0;
    const Value* number = node.input(1 - slot);
    if (number == nullptr || node.input(slot) == nullptr) return clamp;
    const std::size_t rank = rank_of(*node.input(slot)).value_or(0);
    const bool widens = rank_of(*number).value_or(rank + 1) > rank;
    const double limit = widens ? std::nan("") : constant_scalar(number).value_or(std::nan(""));
    (node.is("Min") ? clamp.high : clamp.low) = limit;
  } else {
    return clamp;
  }
  if (!(clamp.low <= clamp.high)) return clamp;  // NaN, too
  clamp.input = node.input(slot);
  clamp.output = node.output(0);
  clamp.nodes = {&node};
  return clamp;
}

// The clamp that ends with the node, with those right before it.
Clamp clamps_up_to(Node& node) {
  Clamp whole = clamp_of(node);
  while (whole.input != nullptr && whole.slope == 1.0 && whole.shift == 0.0 &&
         whole.input->producer() != nullptr && whole.nodes.size() < 4) {
    Clamp before = clamp_of(*whole.input->producer());
    if (before.input == nullptr || before.high < whole.low || before.low > whole.high) break;
    whole.low = std::max(whole.low, before.low);
    whole.high = std::min(whole.high, before.high);
    whole.input = before.input;
    whole.slope = before.slope;
    whole.shift = before.shift;
    whole.nodes.insert(whole.nodes.end(), before.nodes.begin(), before.nodes.end());
  }
  return whole;
}

// factor * clamp + offset, when it is clamp(alpha x + beta, 0, 1).
struct Sigmoid {
  double alpha = 0, beta = 0;
};
std::optional<Sigmoid> as_hard_sigmoid(const Clamp& clamp, const Expression& inner, double factor,
                                       double offset) {
  constexpr double kTiny = 1e-6;
  if (factor <= 0 || !std::isfinite(clamp.low) || !nearly(factor * clamp.high + offset, 1) ||
      std::abs(factor * clamp.low + offset) > kTiny) {
    return std::nullopt;
  }
  Sigmoid sigmoid;
  sigmoid.alpha = factor * clamp.slope * inner.of({1});
  sigmoid.beta = factor * (clamp.slope * inner.of({0}) + clamp.shift) + offset;
  return sigmoid;
}

bool is_affine(const Expression& inner) {
  return inner.of({1}) != 0.0 && std::ranges::all_of(inner.terms(), [](const ScaledTerm& term) {
           return term.powers[0] == 0 || term.powers[0] == 1;
         });
}

struct Site {
  Gate gate;
  Sigmoid sigmoid;
  bool swish = false;
};

// x clamp(...): HardSwish has one slope and one shift only.
std::optional<Site> swish_site(const Clamp& clamp) {
  const auto fits = [&](const Expression& inner,
                        const Expression& outer) -> std::optional<Sigmoid> {
    if (!outer.is({{{1, 1}, outer.of({1, 1})}})) return std::nullopt;
    auto sigmoid = as_hard_sigmoid(clamp, inner, outer.of({1, 1}), 0);
    if (!sigmoid || !nearly(sigmoid->alpha, 1.0 / 6) || !nearly(sigmoid->beta, 0.5)) {
      return std::nullopt;
    }
    return sigmoid;
  };
  auto gate = find_gate(*clamp.input, *clamp.output, clamp.nodes,
                        {is_affine, [&](const Expression& inner, const Expression& outer) {
                           return fits(inner, outer).has_value();
                         }});
  if (!gate) return std::nullopt;
  return Site{std::move(*gate), {1.0 / 6, 0.5}, true};
}

// A clamp that stands alone. With slope 1 it is left: there an Add in front becomes a bias.
std::optional<Site> sigmoid_site(const Clamp& clamp) {
  const auto meaning = [&](const Expression& inner, const Expression& outer) {
    const double factor = outer.of({0, 1}), offset = outer.of({0, 0});
    const std::size_t terms = offset != 0.0 ? 2 : 1;
    auto sigmoid = factor != 0.0 && outer.terms().size() == terms
                       ? as_hard_sigmoid(clamp, inner, factor, offset)
                       : std::nullopt;
    if (sigmoid && nearly(sigmoid->alpha, 1.0)) sigmoid.reset();
    return sigmoid;
  };
  auto gate = find_gate(*clamp.input, *clamp.output, clamp.nodes,
                        {is_affine, [&](const Expression& inner, const Expression& outer) {
                           return meaning(inner, outer).has_value();
                         }});
  if (!gate || gate->nodes.size() < 2) return std::nullopt;
  const Sigmoid sigmoid = *meaning(gate->inner, gate->outer);
  return Site{std::move(*gate), sigmoid, false};
}

class FuseHardSwish final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FuseHardSwish(Options) {}

  Status run(Model& model, PassContext& context) override {
    std::vector<Site> sites;
    for (Node* node : find_nodes(context, model, {"Clip", "HardSigmoid", "Max", "Min", "Relu"})) {
      const Clamp clamp = clamps_up_to(*node);
      if (clamp.input == nullptr || !std::isfinite(clamp.high)) continue;
      auto site = swish_site(clamp);
      if (!site) site = sigmoid_site(clamp);
      if (site) sites.push_back(std::move(*site));
    }
    std::int64_t fused = 0;
    std::int64_t saved = 0;
    for (const Site& site : sites) {
      if (site.swish) saved += static_cast<std::int64_t>(site.gate.nodes.size()) - 1;
    }
    std::string no_swish;
    if (saved > 0) {
      MCOMPRESS_ASSIGN(no_swish, admit_native(model, context, "HardSwish", saved));
    }
    const std::string no_sigmoid = why_not_native(model, context, "HardSigmoid");
    for (const Site& site : sites) {
      std::string why = site.gate.why_not;
      if (why.empty()) why = why_not_float(*site.gate.x);
      if (why.empty() && site.swish && no_swish.empty()) {
        MCOMPRESS_TRY(write_swish(site, context));
        ++fused;
        continue;
      }
      if (why.empty()) why = no_sigmoid;
      constexpr std::size_t kSigmoidAndMul = 2;
      if (why.empty() && site.swish && site.gate.nodes.size() <= kSigmoidAndMul) why = no_swish;
      if (!why.empty()) {
        context.explain().skipped(*site.gate.root, std::move(why));
        continue;
      }
      MCOMPRESS_TRY(write_sigmoid(site, context));
      ++fused;
    }
    context.report().count("eligible", static_cast<std::int64_t>(sites.size()));
    context.report().count("fused", fused);
    return ok_status();
  }

 private:
  static void report(const Site& site, std::string_view what, PassContext& context) {
    chose(context, *site.gate.root,
          std::string(what) + " instead of " + std::to_string(site.gate.nodes.size()) + " nodes");
  }

  static Status write_swish(const Site& site, PassContext& context) {
    report(site, "HardSwish", context);
    NewNode form;
    form.op_type = "HardSwish";
    form.inputs = {site.gate.x};
    return become(context, *site.gate.root, std::move(form));
  }

  static Status write_sigmoid(const Site& site, PassContext& context) {
    Node& root = *site.gate.root;
    NewNode sigmoid;
    sigmoid.op_type = "HardSigmoid";
    sigmoid.inputs = {site.gate.x};
    sigmoid.attributes.push_back(attribute("alpha", static_cast<float>(site.sigmoid.alpha)));
    sigmoid.attributes.push_back(attribute("beta", static_cast<float>(site.sigmoid.beta)));
    report(site, site.swish ? "HardSigmoid and Mul" : "HardSigmoid", context);
    if (!site.swish) return become(context, root, std::move(sigmoid));
    sigmoid.base_name = std::string(root.output(0)->name()) + "_gate";
    Node& gate = context.edit().insert_before(root, std::move(sigmoid));
    if (const TypeInfo* type = site.gate.x->type()) {
      context.edit().set_type(*gate.output(0), *type, false);
    }
    NewNode product;
    product.op_type = "Mul";
    product.inputs = {site.gate.x, gate.output(0)};
    return become(context, root, std::move(product));
  }
};

}  // namespace

PassInfo fuse_hard_swish_info() {
  return pass_info<FuseHardSwish>(
      "fuse-hard-swish", "merge clamps of x + 3 into HardSigmoid and HardSwish",
      Reach::kNestedGraphs, true, {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
