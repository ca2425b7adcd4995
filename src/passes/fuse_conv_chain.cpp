// Two linear operators in a row, with nothing in between, are one:
//
//   y = Conv<1x1>(Conv(x, U, b), W, d)   =>   y = Conv(x, W U, W b + d)
//   y = Conv(Conv<1x1>(x, U, b), W, d)   =>   y = Conv(x, W U, W b + d)
//   y = Gemm(Gemm(x, U, b), W, d)        =>   y = Gemm(x, U W, b W + d)     also MatMul with Add
//
// The product takes the strides of both. A bias in front of a convolution that pads would be
// missing in the border, so there it has to be 0. Only where the product is not larger than the
// pair, in weights and in multiplications: a pair of low rank is cheaper apart.
#include <algorithm>

#include "passes/common/find_nodes.h"
#include "passes/common/fusion/coefficients.h"
#include "passes/common/fusion/convolution.h"
#include "passes/common/fusion/linear.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Ints = std::vector<std::int64_t>;

bool all_are(const Ints& numbers, std::int64_t number) {
  return std::ranges::all_of(numbers, [&](std::int64_t entry) { return entry == number; });
}

std::string dearer(std::int64_t weights, std::int64_t pair) {
  return "one operator would have " + std::to_string(weights) + " weights, the pair has " +
         std::to_string(pair);
}

// The weight [outputs, inputs of a group, taps] of first one, then the other. One of them has one
// tap, and either both have the same groups or the product has one group.
std::vector<double> convolve(const ConvShape& first, const std::vector<double>& u,
                             const ConvShape& second, const std::vector<double>& w,
                             std::int64_t groups) {
  const std::int64_t taps = first.taps() * second.taps();
  const std::int64_t inputs = first.inputs * first.groups / groups;
  std::vector<double> result(static_cast<std::size_t>(second.outputs * inputs * taps), 0.0);
  const std::int64_t middle_group = first.outputs / first.groups;
  const std::int64_t output_group = second.outputs / second.groups;
  for (std::int64_t o = 0; o < second.outputs; ++o) {
    for (std::int64_t i = 0; i < second.inputs; ++i) {
      const std::int64_t m = o / output_group * second.inputs + i;
      // Inputs of the first operator that this channel in between reads.
      const std::int64_t offset = groups == 1 ? m / middle_group * first.inputs : 0;
      double* to = result.data() + (o * inputs + offset) * taps;
      const double* from = u.data() + m * first.inputs * first.taps();
      const double* factors = w.data() + (o * second.inputs + i) * second.taps();
      for (std::int64_t k = 0; k < first.inputs; ++k) {
        for (std::int64_t t = 0; t < taps; ++t) {
          to[k * taps + t] +=
              first.taps() == 1 ? from[k] * factors[t] : from[k * taps + t] * factors[0];
        }
      }
    }
  }
  return result;
}

// b'_o = d_o + sum of W_om b_m over all taps.
void add_bias_through(const ConvShape& second, const std::vector<double>& w,
                      const std::vector<double>& b, std::vector<double>& d) {
  const std::int64_t taps = second.taps();
  const std::int64_t output_group = second.outputs / second.groups;
  for (std::int64_t o = 0; o < second.outputs; ++o) {
    for (std::int64_t at = 0; at < second.inputs * taps; ++at) {
      const std::int64_t m = o / output_group * second.inputs + at / taps;
      d[static_cast<std::size_t>(o)] += w[static_cast<std::size_t>(o * second.inputs * taps + at)] *
                                        b[static_cast<std::size_t>(m)];
    }
  }
}

class FuseConvChain final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FuseConvChain(Options) {}

  Status run(Model& model, PassContext& context) override {
    const std::vector<Node*> found = find_nodes(context, model, {"Conv", "Gemm", "MatMul"});
    std::int64_t eligible = 0, fused = 0;
    for (Node* node : found) {
      if (node->input(0) == nullptr) continue;
      const LinearSearch before = find_linear(*node->input(0));
      const bool same_kind =
          before.op && before.op->is("Conv") == node->is("Conv") && !before.op->is("ConvTranspose");
      if (!same_kind) continue;
      ++eligible;
      MCOMPRESS_ASSIGN(std::string why, fuse(*before.op, *node, context));
      if (why.empty()) {
        ++fused;
      } else {
        context.explain().skipped(*node, std::move(why));
      }
    }
    context.report().count("eligible", eligible);
    context.report().count("fused", fused);
    return ok_status();
  }

 private:
  static Result<std::string> fuse(const LinearOp& first, Node& node, PassContext& context) {
    LinearSearch search = linear_operator(node);
    if (!search.op) return std::move(search.why);
    LinearOp second = *search.op;
    find_bias(second);
    if (only_user(*first.output) != &node) return why_not_only_user(*first.output);
    if (first.in.channels < 1 || first.out.channels < 1 || second.out.channels < 1 ||
        first.out.channels != second.in.channels) {
      return "the channels of " + first.label() + " and " + second.label() + " do not fit";
    }
    const DataType type = element_type(*node.input(1));
    if (element_type(*first.node->input(1)) != type) return std::string("its type is another one");
    return node.is("Conv") ? fuse_convolutions(first, second, context)
                           : fuse_products(first, second, context);
  }

  static Result<std::string> fuse_convolutions(const LinearOp& first, const LinearOp& second,
                                               PassContext& context) {
    const ConvShape one = conv_shape(first), two = conv_shape(second);
    if (!one.why_not.empty()) return one.why_not;
    if (!two.why_not.empty()) return two.why_not;
    if (one.kernel.size() != two.kernel.size()) return std::string("the ranks differ");
    const auto one_bias = bias_values(first.node->input(2), one.outputs);
    auto two_bias = bias_values(second.node->input(2), two.outputs);
    if (!one_bias || !two_bias) return std::string("a bias is not one number per channel");
    const bool shifts = std::ranges::any_of(*one_bias, [](double b) { return b != 0.0; });
    ConvShape product = two;
    const std::size_t rank = two.kernel.size();
    if (all_are(two.kernel, 1) && all_are(two.pads, 0)) {
      product.kernel = one.kernel;
      product.dilations = one.dilations;
      product.pads = one.pads;
    } else if (all_are(one.kernel, 1) && all_are(one.pads, 0)) {
      if (shifts && !all_are(two.pads, 0)) {
        return second.label() + " pads with zeros, where the bias of " + first.label() +
               " would be missing";
      }
      // Positions in between are positions of the input, `stride` apart.
      for (std::size_t i = 0; i < rank; ++i) {
        product.dilations[i] *= one.strides[i];
        product.pads[i] *= one.strides[i];
        product.pads[rank + i] *= one.strides[i];
      }
    } else {
      return "neither " + first.label() + " nor " + second.label() + " is 1x1 without padding";
    }
    for (std::size_t i = 0; i < rank; ++i) product.strides[i] = one.strides[i] * two.strides[i];
    product.groups = one.groups == two.groups ? one.groups : 1;
    product.inputs = one.inputs * one.groups / product.groups;
    const std::int64_t pair = one.weights() + two.weights();
    if (product.weights() > pair) return dearer(product.weights(), pair);
    if (product.weights() > kMostMultiplications / one.outputs) {
      return std::string("the product takes too long to compute");
    }

    MCOMPRESS_ASSIGN(const Coefficients u, read_coefficients(*constant_of(first.node->input(1))));
    MCOMPRESS_ASSIGN(const Coefficients w, read_coefficients(*constant_of(second.node->input(1))));
    Coefficients weight;
    weight.values = convolve(one, u.values, two, w.values, product.groups);
    weight.dims = {product.outputs, product.inputs};
    weight.dims.insert(weight.dims.end(), product.kernel.begin(), product.kernel.end());
    add_bias_through(two, w.values, *one_bias, *two_bias);
    const auto edit = [&](Node& node) {
      Editor& editor = context.edit();
      editor.set_attribute(node, attribute("kernel_shape", product.kernel));
      editor.set_attribute(node, attribute("strides", product.strides));
      editor.set_attribute(node, attribute("dilations", product.dilations));
      editor.set_attribute(node, attribute("pads", product.pads));
      editor.set_attribute(node, attribute("group", product.groups));
      editor.remove_attribute(node, "auto_pad");
    };
    const bool biased = shifts || second.node->input(2) != nullptr;
    return replace(first, second, std::move(weight), biased, std::move(*two_bias), context, edit);
  }

  static Result<std::string> fuse_products(const LinearOp& first, const LinearOp& second,
                                           PassContext& context) {
    if (second.node->int_attribute("transA", 0) != 0)
      return second.label() + " transposes its input";
    const bool turned = first.node->int_attribute("transA", 0) != 0;
    if (turned && !second.is("Gemm")) return first.label() + " transposes its input";
    const auto one_bias = linear_bias(first);
    auto two_bias = linear_bias(second);
    if (!one_bias || !two_bias) return std::string("a bias is not one number per channel");
    const std::int64_t rows = first.in.channels, inner = first.out.channels;
    const std::int64_t columns = second.out.channels;
    const std::int64_t pair = inner * (rows + columns);
    if (rows * columns > pair) return dearer(rows * columns, pair);
    if (rows * columns > kMostMultiplications / inner) {
      return std::string("the product takes too long to compute");
    }
    const bool shifts = std::ranges::any_of(*one_bias, [](double b) { return b != 0.0; });
    if (shifts && second.is("MatMul") && second.add == nullptr && first.add == nullptr) {
      return second.label() + " has no bias";
    }
    MCOMPRESS_ASSIGN(const Coefficients u, linear_matrix(first));
    MCOMPRESS_ASSIGN(const Coefficients w, linear_matrix(second));
    Coefficients weight;
    weight.dims = {rows, columns};
    weight.values.assign(static_cast<std::size_t>(rows * columns), 0.0);
    add_product(u.values.data(), w.values.data(), weight.values.data(), rows, inner, columns);
    add_product(one_bias->data(), w.values.data(), two_bias->data(), 1, inner, columns);
    const auto edit = [&](Node& node) {
      for (std::string_view name : {"alpha", "beta", "transB"})
        context.edit().remove_attribute(node, name);
      if (turned) context.edit().set_attribute(node, attribute("transA", std::int64_t{1}));
    };
    const bool biased = shifts || second.add != nullptr || second.node->input(2) != nullptr;
    return replace(first, second, std::move(weight), biased, std::move(*two_bias), context, edit);
  }

  template <class Edit>
  static Result<std::string> replace(const LinearOp& first, const LinearOp& second,
                                     Coefficients weight, bool biased, std::vector<double> bias,
                                     PassContext& context, const Edit& edit) {
    const std::int64_t freed =
        elements_freed(*first.node->input(1)) + elements_freed(*second.node->input(1));
    if (static_cast<std::int64_t>(weight.values.size()) > freed) {
      return std::string("other nodes read its weights, which would stay beside the new ones");
    }
    const DataType type = element_type(*second.node->input(1));
    MCOMPRESS_ASSIGN(Rounded new_weight, round_coefficients(context, weight, type));
    if (!new_weight.tensor) return std::move(new_weight.why_not);
    const auto channels = static_cast<std::int64_t>(bias.size());
    MCOMPRESS_ASSIGN(Rounded new_bias,
                     round_coefficients(context, {{channels}, std::move(bias)}, type));
    if (!new_bias.tensor) return std::move(new_bias.why_not);

    Node& node = *second.node;
    chose(context, *first.node, "joined with " + second.label() + " behind it");
    const std::string base(second.output->name());
    Value& between = *first.output;
    Value& source = *first.node->input(0);
    give_constant(context, node, 1, base + "_weight", std::move(*new_weight.tensor));
    edit(node);
    context.edit().set_input(node, 0, &source);
    if (biased && second.is("MatMul")) {
      if (second.add != nullptr) {
        const std::size_t slot = is_constant(second.add->input(1)) ? 1 : 0;
        give_constant(context, *second.add, slot, base + "_bias", std::move(*new_bias.tensor));
      } else {
        Value& shift =
            add_constant(context, node.graph(), base + "_bias", std::move(*new_bias.tensor));
        Value& product = *node.output(0);
        Node& add = context.edit().insert_after(
            node, {"Add", {&product, &shift}, 1, base + "_add", "", {}, {}});
        if (product.type() != nullptr) {
          context.edit().set_type(*add.output(0), *product.type(), false);
        }
        MCOMPRESS_TRY(context.edit().replace_all(product, *add.output(0)));
        context.edit().set_input(add, 0, &product);
      }
    } else if (biased) {
      give_constant(context, node, 2, base + "_bias", std::move(*new_bias.tensor));
    }
    MCOMPRESS_TRY(erase_unused(context, between));
    return std::string();
  }
};

}  // namespace

PassInfo fuse_conv_chain_info() {
  return pass_info<FuseConvChain>(
      "fuse-conv-chain", "join two linear operators in a row where one is not larger than both",
      Reach::kNestedGraphs, true, {"lift-constants", "fold-constants", "fuse-batchnorm"});
}

}  // namespace mcompress
