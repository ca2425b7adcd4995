// The bias of a product that is added to a normalised tensor becomes part of that normalisation's
// shift, and what else reads the tensor takes the shift back:
//
//   x = LayerNormalization(u, g, b)               x = LayerNormalization(u, g, b + c)
//   y = Add(Add(MatMul(f(x), W), c), x)     =>    y = Add(MatMul(f(x), W), x)
//   q = Add(MatMul(x, Q), d)                      q = Add(MatMul(x, Q), d - c Q)
//
// One addition less for each residual connection behind a normalisation, two in every layer of a
// BERT. Exact but for rounding: (x + c) Q + (d - c Q) = x Q + d.
#include <algorithm>
#include <optional>

#include "passes/common/find_nodes.h"
#include "passes/common/fusion/coefficients.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

// sum = product + c + x
struct ResidualSite {
  Node* norm = nullptr;   // makes x
  Node* sum = nullptr;    // what remains: product + x
  Node* add = nullptr;    // of c; goes
  Value* kept = nullptr;  // what stands in the place of its result
  Value* bias = nullptr;  // c
};

Node* norm_making(const Value* value) {
  Node* norm = made_by(value, "LayerNormalization");
  return norm != nullptr && value == norm->output(0) ? norm : nullptr;
}

// The operand of an Add that is constant.
std::optional<std::size_t> constant_slot(const Node& add) {
  for (const std::size_t slot : {std::size_t{0}, std::size_t{1}}) {
    if (add.input(slot) != nullptr && add.input(1 - slot) != nullptr &&
        is_constant(add.input(slot)) && !is_constant(add.input(1 - slot))) {
      return slot;
    }
  }
  return std::nullopt;
}

bool is_product(const Value* value) { return made_by(value, "MatMul") != nullptr; }

// Add(Add(product, c), x) and Add(Add(product, x), c).
std::optional<ResidualSite> residual_site(Node& add) {
  const auto slot = constant_slot(add);
  if (!slot || add.output(0) == nullptr) return std::nullopt;
  ResidualSite site;
  site.add = &add;
  site.bias = add.input(*slot);
  site.kept = add.input(1 - *slot);
  Node* reader = only_user(*add.output(0));
  if (is_product(site.kept) && only_user(*site.kept) == &add && reader != nullptr &&
      reader->is("Add") && &reader->graph() == &add.graph()) {
    const std::size_t own = reader->input(0) == add.output(0) ? 0 : 1;
    site.sum = reader;
    site.norm = norm_making(reader->input(1 - own));
  } else if (Node* inner = made_by(site.kept, "Add"); inner != nullptr) {
    if (only_user(*site.kept) != &add || &inner->graph() != &add.graph()) return std::nullopt;
    for (const std::size_t i : {std::size_t{0}, std::size_t{1}}) {
      if (is_product(inner->input(i)) && only_user(*inner->input(i)) == inner) {
        site.sum = inner;
        site.norm = norm_making(inner->input(1 - i));
      }
    }
  }
  if (site.norm == nullptr || &site.norm->graph() != &add.graph()) return std::nullopt;
  return site;
}

class FuseResidualBias final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FuseResidualBias(Options) {}

  Status run(Model& model, PassContext& context) override {
    std::vector<ResidualSite> sites;
    for (Node* node : find_nodes(context, model, {"Add"})) {
      if (const auto site = residual_site(*node)) sites.push_back(*site);
    }
    std::int64_t fused = 0;
    for (const ResidualSite& site : sites) {
      const Node& subject = *site.add;
      MCOMPRESS_ASSIGN(std::string why, fuse(site, context));
      if (why.empty()) {
        ++fused;
      } else {
        context.explain().skipped(subject, std::move(why));
      }
    }
    context.report().count("eligible", static_cast<std::int64_t>(sites.size()));
    context.report().count("fused", fused);
    return ok_status();
  }

 private:
  // The operators besides the sum that read the normalised tensor; each can take a shift.
  static std::string find_readers(const ResidualSite& site, std::vector<LinearOp>& readers) {
    const Value& x = *site.norm->output(0);
    std::size_t sums = 0;
    for (const Use& use : x.uses()) {
      const std::string name = "'" + std::string(x.name()) + "'";
      if (use.node == nullptr) return name + " is a graph output";
      if (use.node == site.sum) {
        ++sums;
        continue;
      }
      LinearSearch search = linear_operator(*use.node);
      if (use.slot != 0 || !search.op || !search.op->in_layout) {
        return name + " is read by " + std::string(use.node->op_type()) + " '" + use.node->label() +
               "' too";
      }
      find_bias(*search.op);
      if (!takes_shift(*search.op)) return search.op->label() + " has no bias for a shift";
      if (&use.node->graph() != &site.norm->graph()) {
        return name + " is read inside a nested graph";
      }
      readers.push_back(*search.op);
    }
    return sums == 1 ? std::string() : std::string("it is added to itself");
  }

  static Result<std::string> fuse(const ResidualSite& site, PassContext& context) {
    Node& norm = *site.norm;
    Value& x = *norm.output(0);
    const DataType type = element_type(*norm.input(1));
    const auto scale = constant_of(norm.input(1));
    const auto rank = rank_of(*norm.input(0));
    const std::int64_t axis = norm.int_attribute("axis", -1);
    if (!scale || scale->dims().size() != 1 ||
        (axis != -1 && (!rank || axis != static_cast<std::int64_t>(*rank) - 1))) {
      return std::string("the normalisation has no constant scale along the last axis");
    }
    const std::int64_t channels = scale->elements();
    const auto bias = constant_of(site.bias);
    if (!bias || bias->dims().size() != 1 || bias->elements() != channels ||
        bias->dtype() != type) {
      return std::string("its constant is not one number per channel");
    }
    const auto numbers = bias_values(site.bias, channels);
    auto shift = bias_values(norm.input(2), channels);
    if (!numbers || !shift) {
      return std::string("the normalisation has no constant shift");
    }
    std::vector<LinearOp> readers;
    if (std::string why = find_readers(site, readers); !why.empty()) return why;
    if (std::string why = why_not_bypass(context, *site.add, *site.kept); !why.empty()) return why;
    std::vector<double> back;
    for (std::size_t i = 0; i < shift->size(); ++i) {
      (*shift)[i] += (*numbers)[i];
      back.push_back(-(*numbers)[i]);
    }
    MCOMPRESS_ASSIGN(Rounded rounded,
                     round_coefficients(context, {{channels}, std::move(*shift)}, type));
    if (!rounded.tensor) return std::move(rounded.why_not);
    chose(context, *site.add, "moved into LayerNormalization '" + norm.label() + "'");
    const std::vector<double> ones(back.size(), 1.0);
    for (std::size_t i = 0; i < readers.size(); ++i) {
      MCOMPRESS_ASSIGN(std::string why, absorb_before(context, readers[i], x, ones, back));
      if (why.empty()) continue;
      // A bias beyond the type: those before it take their shift back.
      for (std::size_t k = 0; k < i; ++k) {
        MCOMPRESS_ASSIGN(why, absorb_before(context, readers[k], x, ones, *numbers));
      }
      return why;
    }
    give_constant(context, norm, 2, std::string(x.name()) + "_shift", std::move(*rounded.tensor));
    Value& gone = *site.bias;
    MCOMPRESS_ASSIGN(std::string why, bypass(context, *site.add, *site.kept));
    if (!why.empty())
      return Error(Code::kInternal, "fuse-residual-bias", why, {{}, {}, norm.label()});
    MCOMPRESS_TRY(erase_unused(context, gone));
    return std::string();
  }
};

}  // namespace

PassInfo fuse_residual_bias_info() {
  return pass_info<FuseResidualBias>(
      "fuse-residual-bias",
      "move biases of products on residual connections into the normalisation in front of them",
      Reach::kNestedGraphs, true,
      {"lift-constants", "infer-shapes", "fold-constants", "fuse-layer-norm", "fuse-norm-scale"});
}

}  // namespace mcompress
